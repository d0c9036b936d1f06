"""Who calls, from where, under which host, and whether they may: every request of a client passes `guard`."""

from flask import Request

from shared import wiring
from shared.core.permissions import check
from shared.http import Route, bearer
from shared.models.account import Principal

_PRINCIPAL = "baton.principal"


def guard(request: Request, route: Route) -> None:
    """Let pass who may call this route, as often as they may.

    Raises: Unauthenticated; Forbidden; TooManyRequests.
    """
    if route.action is None:
        return
    principal = caller(request)
    check(principal, route.action)
    wiring.call_limits().take(principal)


def caller(request: Request) -> Principal:
    """Return whom the request speaks for: a client's token of ours, or the dashboard's from the sign-in service.

    Raises: Unauthenticated.
    """
    known: Principal | None = request.environ.get(_PRINCIPAL)
    if known is None:
        known = request.environ[_PRINCIPAL] = _read(bearer(request))
    return known


def _read(token: str) -> Principal:
    is_ours = wiring.tokens().has_signed(token)
    granted = wiring.tokens().read_client(token) if is_ours else wiring.identity().verify(token)
    return wiring.standing().of(granted)


def address_of(request: Request) -> str:
    """Return the address that called, as the last proxy of ours saw it; what stands before it, anybody can write."""
    listed = request.headers.get("X-Forwarded-For", "").split(",")
    proxies = min(wiring.trusted_proxies(), len(listed))
    return listed[-proxies].strip() or request.remote_addr or ""


def public_host(request: Request) -> str:
    """Return the host that the caller asked for; behind Hosting it is not the function's own."""
    forwarded = request.headers.get("X-Forwarded-Host", "").partition(",")[0].strip()
    return forwarded or request.host
