"""Sign-in: an API key, or somebody's own sign-in in the browser, becomes the token that a client carries."""

import hashlib
import re
import secrets
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import InvalidRequest, NotFound, Unauthenticated
from shared.models.account import ApiKey, Principal
from shared.ports import AccountStore, Identity
from shared.services.standing import Standing
from shared.tokens import Tokens

# Clients choose among cached tokens by time alone and never sign in again on a 401: a working day and its night.
TOKEN_LIFETIME = timedelta(hours=24)
_LOOPBACK = re.compile(r"http://(?:localhost|127\.0\.0\.1):([0-9]{1,5})/index\.html")
_REMEMBERED_KEYS = 10_000

# Secrets are long and random, so a light hash suffices. Source: OWASP's Password Storage Cheat Sheet, argon2id.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A token and how long it lasts."""

    access_token: str
    expires_in_s: int
    scope: str


def new_secret() -> str:
    """Return a fresh secret for an API key."""
    return secrets.token_urlsafe(48)


def secret_hash(secret: str) -> str:
    """Return what is stored of a secret."""
    return _HASHER.hash(secret)


class ApiKeys:
    """Verifies API keys.

    The key itself is read each time, so that a revoked one ends at once. Which secrets fit is remembered: a studio's
    machines all ask at once, and hashes are slow on purpose.
    """

    def __init__(self, accounts: AccountStore, standing: Standing) -> None:
        self._accounts = accounts
        self._standing = standing
        self._fitting: set[tuple[str, bytes]] = set()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def principal(self, client_id: str, secret: str) -> Principal:
        """Return whom a key speaks for. Raises: Unauthenticated."""
        try:
            key = self._accounts.api_key(client_id)
        except NotFound as error:
            raise Unauthenticated("the API key is not valid") from error
        self._check(key, secret)
        if key.revoked_at is not None:
            raise Unauthenticated("the API key has been revoked")
        granted = Principal(
            account_id=key.account_id,
            user_id=key.user_id,
            role=key.role,
            client_id=key.client_id,
        )
        return self._standing.of(granted)

    def _check(self, key: ApiKey, secret: str) -> None:
        pair = (key.secret_hash, hashlib.sha256(secret.encode()).digest())
        if pair in self._fitting:
            return
        with self._locks[key.client_id]:
            if pair in self._fitting:  # another thread was faster
                return
            _check_secret(key, secret)
            if len(self._fitting) >= _REMEMBERED_KEYS:
                self._fitting.clear()
            self._fitting.add(pair)


def _check_secret(key: ApiKey, secret: str) -> None:
    try:
        _HASHER.verify(key.secret_hash, secret)
    except (VerificationError, InvalidHashError) as error:
        raise Unauthenticated("the API key is not valid") from error


def audience_of(host: str) -> str:
    """Return the audience for clients that call this host: the same host as they see its API under."""
    return host.replace("dashboard", "api")


def grant(principal: Principal, *, host: str, scope: str, tokens: Tokens, now: datetime) -> Grant:
    """Issue a token to somebody who has signed in."""
    token = tokens.issue_client(principal, audience_of(host), now, TOKEN_LIFETIME)
    return Grant(access_token=token, expires_in_s=int(TOKEN_LIFETIME.total_seconds()), scope=scope)


def browser_redirect(
    id_token: str,
    redirect_uri: str,
    *,
    host: str,
    identity: Identity,
    standing: Standing,
    tokens: Tokens,
    now: datetime,
) -> str:
    """Return where to send the browser so that the client gets its token; only ever to this very machine.

    Raises: InvalidRequest; Unauthenticated.
    """
    matched = _LOOPBACK.fullmatch(redirect_uri)
    if matched is None or not 1 <= int(matched[1]) <= 65535:
        raise InvalidRequest({"redirect_uri": "must be http://localhost:PORT/index.html"})
    principal = standing.of(identity.verify(id_token))
    granted = grant(principal, host=host, scope="user", tokens=tokens, now=now)
    query = {
        "access_token": granted.access_token,
        "expires_in": granted.expires_in_s,
        "scope": granted.scope,
    }
    return f"{redirect_uri}?{urlencode(query)}"
