"""HTTP for every function: routes, bodies, tokens in headers, pushed messages, and how errors become answers.

The only place that knows status codes. Nothing here reads the environment or the stores.
"""

import base64
import binascii
import hmac
import io
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import orjson
from flask import Request, Response
from flask import request as present_request
from marshmallow import Schema
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoRoute
from werkzeug.routing import Map, RequestRedirect, Rule

from shared.core.permissions import Action
from shared.errors import (
    AttemptWithdrawn,
    BatonError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PartlyRefused,
    Rejected,
    TooLarge,
    TooManyRequests,
    Transient,
    Unauthenticated,
)
from shared.log import log
from shared.tally import tally

Json = Mapping[str, Any] | Sequence[Any]
Reply = Response | Json | tuple[Json, int]
View = Callable[..., Reply]

# What a body holds: JSON of a schema, JSON of a JSON Schema, or a content type that is not JSON.
Content = type[Schema] | Mapping[str, Any] | str

MIB = 1024 * 1024
BODY_LIMIT_BYTES = 32 * MIB

# What is read of a refused body before the answer, so that the sender hears the answer and not a broken connection.
DISCARD_LIMIT_BYTES = 256 * MIB

# All that callers are told of what failed on our side.
TRY_AGAIN = "a service we depend on does not answer; try again"

STATUS: Mapping[type[BatonError], int] = {
    InvalidRequest: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    AttemptWithdrawn: 410,
    TooLarge: 413,
    TooManyRequests: 429,
    Rejected: 400,
    Transient: 503,
}


def status_of(error: BatonError) -> int:
    """Return the status code of an error: that of the nearest of its ancestors in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


@dataclass(frozen=True, eq=False)
class Route:
    """One address of the API, and all that its description tells: docs/openapi.json is made of these.

    `action` is what the caller's role must allow, None where the call carries no client's token. `refusals` are the
    statuses of refusals beside those that follow from the rest: 401, 403 and 429 from `action`, 404 from a parameter in
    the path, 413 from `body`, 422 from `body` and `query`, 503 always. An answer without a body is `()`.
    """

    method: str
    path: str
    view: View
    action: Action | None = field(default=None, kw_only=True)
    body: Content | None = field(default=None, kw_only=True)
    query: type[Schema] | None = field(default=None, kw_only=True)
    answers: Mapping[int, Content | tuple[Content, ...]] = field(default_factory=dict, kw_only=True)
    refusals: Sequence[int] = field(default=(), kw_only=True)


Guard = Callable[[Request, Route], None]


class Routes:
    """The views of one function, by method and path. Trailing slashes count, and nothing is ever redirected.

    Every request passes the `guard`, which raises what it refuses, before its view.
    """

    def __init__(
        self, routes: Iterable[Route | tuple[str, str, View]], *, guard: Guard | None = None
    ) -> None:
        self.table = [each if isinstance(each, Route) else Route(*each) for each in routes]
        self._guard = guard
        rules = [Rule(route.path, methods=[route.method], endpoint=route) for route in self.table]
        self._map = Map(rules, merge_slashes=False, redirect_defaults=False)
        self._adapter = self._map.bind("")

    def answer(self, request: Request) -> Response:
        """Answer a request, and log one line: what it took, and how many documents it read and wrote."""
        tally.start()
        started = time.perf_counter()
        response = self._answer(request)
        log(
            "INFO",
            "answered",
            method=request.method,
            path=request.path,
            status=response.status_code,
            took_ms=round((time.perf_counter() - started) * 1000, 1),
            read_count=tally.read_count,
            write_count=tally.write_count,
        )
        return response

    def _answer(self, request: Request) -> Response:
        """Call the view of a request and turn what it returns or raises into the answer."""
        # Old clients whose base url ends with a slash ask for //api/...
        path = "/" + request.path.lstrip("/")
        route = ""
        try:
            matched, arguments = self._adapter.match(path, request.method)
            route = matched.path
            if self._guard is not None:
                self._guard(request, matched)
            return as_response(matched.view(request, **arguments))
        except BatonError as error:
            return _refuse(request, route, status_of(error), type(error).__name__, error)
        except (NoRoute, RequestRedirect):
            return _refuse_address(request)
        except MethodNotAllowed as error:
            answer = _refuse(request, route, 405, "MethodNotAllowed", Rejected("wrong method"))
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            return answer
        except HTTPException as error:
            return _refuse(request, route, error.code or 400, error.name, Rejected(error.name))
        except Exception:  # noqa: BLE001  a bug: everything is logged, nothing is told
            log("ERROR", "crash", route=route, method=request.method, trace=traceback.format_exc())
            discard_body(request)
            return as_response(_error_body("Internal", "something went wrong on our side"), 500)


def refuse_unrouted(_: Exception) -> Response:
    """Answer a request that the framework hands to no function: its path has a line feed in it, or is /robots.txt."""
    return _refuse_address(present_request)


def _refuse_address(request: Request) -> Response:
    return _refuse(request, "", 404, "NotFound", NotFound("no such address"))


def as_response(reply: Reply, status: int = 200) -> Response:
    """Return what a view gave as a response; anything but a response is JSON."""
    if isinstance(reply, Response):
        return reply
    if isinstance(reply, tuple):
        body, status = reply
    else:
        body = reply
    return Response(orjson.dumps(body), status, mimetype="application/json")


def _error_body(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _refuse(request: Request, route: str, status: int, code: str, error: BatonError) -> Response:
    """Answer an error as JSON, and log one line without anything that may be secret."""
    # What failed on our side names buckets, documents and addresses: that is for the log only.
    told = TRY_AGAIN if isinstance(error, Transient) else str(error)
    body = _error_body(code, told)
    if isinstance(error, InvalidRequest | PartlyRefused):
        body["error"]["fields"] = error.fields
    log(
        "WARNING",
        "refused",
        route=route or "none",
        method=request.method,
        status=status,
        code=code,
        reason=str(error)[:500],
    )
    discard_body(request)
    answer = as_response(body, status)
    if isinstance(error, TooManyRequests):
        answer.headers["Retry-After"] = str(ceil(error.retry_after_s))
    return answer


def read_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body, whether its length was announced or not. Raises: TooLarge; InvalidRequest."""
    if (request.content_length or 0) > limit_bytes:
        raise TooLarge(f"body: larger than {limit_bytes} bytes")
    try:
        body = request.stream.read(limit_bytes + 1)
    except OSError as error:
        raise InvalidRequest({"body": "ended before its end"}) from error
    if len(body) > limit_bytes:
        raise TooLarge(f"body: larger than {limit_bytes} bytes")
    return body


def discard_body(request: Request) -> None:
    """Read what is left of a body and throw it away; the framework would keep all of it in memory."""
    left = DISCARD_LIMIT_BYTES
    with suppress(OSError):  # the sender has gone
        while left > 0 and (chunk := request.stream.read(MIB)):
            left -= len(chunk)
    request.stream = io.BytesIO()


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises: InvalidRequest."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest({"body": f"is not JSON: {error}"}) from error
    if not isinstance(value, dict):
        raise InvalidRequest({"body": "must be a JSON object"})
    return value


def read_json(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> dict[str, Any]:
    """Return the body, which must be a JSON object, whatever its content type. Raises: InvalidRequest, TooLarge."""
    return parse_object(read_body(request, limit_bytes))


def bearer(request: Request) -> str:
    """Return the token of the Authorization header. Raises: Unauthenticated."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthenticated("a bearer token is required")
    return token.strip()


def check_schedule(request: Request, token: str) -> None:
    """Let only the scheduler through: it sends the shared token as X-Baton-Token. Raises: Forbidden."""
    _check_shared_token(request.headers.get("X-Baton-Token", ""), token)


def _check_shared_token(given: str, wanted: str) -> None:
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise Forbidden("the shared token is missing or wrong")


def read_push(request: Request) -> tuple[str, dict[str, Any]]:
    """Return topic and data of a message that Pub/Sub pushed to /projects/{project}/topics/{topic}.

    Raises: InvalidRequest when it is no such message, whatever is wrong with it.
    """
    topic = request.path.rpartition("/topics/")[2]
    envelope = read_json(request)
    try:
        data = orjson.loads(base64.b64decode(envelope["message"]["data"], validate=True))
    except (KeyError, TypeError, binascii.Error, orjson.JSONDecodeError) as error:
        raise InvalidRequest({"message": f"is malformed: {error}"}) from error
    if not topic or not isinstance(data, dict):
        raise InvalidRequest({"message": "data must be a JSON object"})
    return topic, data


def answer_push(
    request: Request, handlers: Mapping[str, Callable[[dict[str, Any]], None]], token: str
) -> Reply:
    """Hand a pushed message to the handler of its topic.

    204 acknowledges. What can never succeed is logged and acknowledged; a transient fault or a bug makes it come again.
    Raises: Forbidden; Transient.
    """
    _check_shared_token(request.args.get("token", ""), token)
    topic = ""
    try:
        topic, message = read_push(request)
        handler = handlers.get(topic)
        if handler is None:
            raise NotFound(f"no handler for topic {topic}")
        handler(message)
    except Rejected as error:
        log("ERROR", "message dropped", topic=topic, code=type(error).__name__, reason=str(error))
    return Response(status=204)
