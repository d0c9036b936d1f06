"""Who calls, and under which host."""

from flask import Request

from shared import wiring
from shared.http import bearer
from shared.models.account import Principal


def caller(request: Request) -> Principal:
    """Return whom the request speaks for: a client's token of ours, or the dashboard's from the sign-in service.

    Raises: Unauthenticated.
    """
    token = bearer(request)
    if wiring.tokens().has_signed(token):
        return wiring.tokens().read_client(token)
    return wiring.identity().verify(token)


def public_host(request: Request) -> str:
    """Return the host that the caller asked for; behind Hosting it is not the function's own."""
    forwarded = request.headers.get("X-Forwarded-Host", "").partition(",")[0].strip()
    return forwarded or request.host
