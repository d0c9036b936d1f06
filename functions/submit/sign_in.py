"""Sign-in: by API key, or in the browser.

Who may: everybody, that is what it is for; the account comes from the key or the person. Size: 1 MiB.
"""

from functools import cache
from pathlib import Path

from flask import Request, Response

from functions.submit.callers import address_of, public_host
from shared import wiring
from shared.errors import InvalidRequest, NotFound
from shared.http import MIB, Json, Reply, as_response, read_json
from shared.schemas.loading import load
from shared.schemas.sign_in import SignInSchema
from shared.services import sign_in

_PAGE = Path(__file__).parents[2] / "web" / "dist" / "client-login.html"
_SCHEMA = SignInSchema()


def oauth_jwt(request: Request) -> Reply:
    """Exchange an API key for a token; without one, serve the page on which people sign in.

    The secret is in the query: nothing here may ever log it.
    """
    if "grant_type" not in request.args:
        return _page()
    if request.args["grant_type"] != "client_credentials":
        raise InvalidRequest({"grant_type": "must be client_credentials"})
    client_id = request.args.get("client_id", "")
    with wiring.sign_in_limits().attempt(client_id, address_of(request)):
        principal = wiring.api_keys().principal(client_id, request.args.get("client_secret", ""))
    granted = sign_in.grant(
        principal,
        host=public_host(request),
        scope=request.args.get("scope", "user"),
        tokens=wiring.tokens(),
        now=wiring.now(),
    )
    return _unstored(
        {
            "access_token": granted.access_token,
            "token_type": "Bearer",
            "expires_in": granted.expires_in_s,
            "scope": granted.scope,
        }
    )


def client_token(request: Request) -> Reply:
    """Answer the sign-in page: where to send the browser so that the waiting client gets its token."""
    said = load(_SCHEMA, read_json(request, MIB))
    target = sign_in.browser_redirect(
        said["id_token"],
        said["redirect_uri"],
        host=public_host(request),
        identity=wiring.identity(),
        standing=wiring.standing(),
        tokens=wiring.tokens(),
        now=wiring.now(),
    )
    return _unstored({"redirect_to": target})


def _unstored(body: Json) -> Response:
    """Return an answer with a token in it, which no cache on its way may keep."""
    answer = as_response(body)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _page() -> Response:
    answer = Response(_page_content(), mimetype="text/html")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


@cache
def _page_content() -> bytes:
    if not _PAGE.exists():
        raise NotFound("the sign-in page has not been built")
    return _PAGE.read_bytes()
