"""Signed tokens: who a client is, and which attempt an agent may speak for.

Both are signed by the same ring of keys and told apart by their audience, so that neither can be used as the other.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

import jwt

from shared.errors import Unauthenticated
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef

ALGORITHM = "HS256"
AGENT_AUDIENCE = "baton-agent"
ATTEMPT_LIFETIME = timedelta(days=14)
MIN_SECRET_CHARACTERS = 32
_REMEMBERED = 4096
_REMEMBERED_HEADERS = 64

# The id of a key says when `with_next_key` made it.
_DATED = "k%Y%m%dT%H%M%S"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# As long as an attempt's token lasts, and as long again for a new key to begin signing.
_NEEDED_AFTER_SUCCESSOR = 2 * ATTEMPT_LIFETIME


class Tokens:
    """Issues and verifies tokens. `keys` maps key id to secret; the first one signs, all of them verify."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not keys:
            raise ValueError("at least one signing key is required")
        for key_id, secret in keys.items():
            if not key_id or len(secret) < MIN_SECRET_CHARACTERS:
                raise ValueError(
                    f"signing key {key_id!r}: the secret must have {MIN_SECRET_CHARACTERS} characters"
                )
        self._keys = {key_id: secret.encode() for key_id, secret in keys.items()}
        self._signing_id = next(iter(self._keys))
        # An attempt's token comes again with each of its calls.
        self._claims = lru_cache(_REMEMBERED)(self._decode)

    @classmethod
    def parse(cls, text: str) -> "Tokens":
        """Read a key ring written as `kid:secret,kid2:secret2`. Raises: ValueError."""
        pairs = [entry.strip().partition(":") for entry in text.split(",") if entry.strip()]
        if not all(colon for _, colon, _ in pairs):
            # never say what is there instead: it may be a secret
            raise ValueError("signing keys: each signing key must be written as id:secret")
        keys = {key_id: secret for key_id, _, secret in pairs}
        if len(keys) < len(pairs):
            raise ValueError("signing keys: two have the same id")
        return cls(keys)

    def issue_client(
        self, principal: Principal, audience: str, now: datetime, lifetime: timedelta
    ) -> str:
        """Return the token of a client. `audience` is the API's host, which clients compare with their own setting."""
        return self._sign(
            {
                "aud": audience,
                "account": principal.account_id,
                "user": principal.user_id,
                "role": principal.role.value,
                "key": principal.client_id,
                "iat": int(now.timestamp()),
                "exp": int((now + lifetime).timestamp()),
            }
        )

    def has_signed(self, token: str) -> bool:
        """Tell whether a token claims to be signed by one of our keys; only reading it tells whether it is."""
        try:
            return jwt.get_unverified_header(token).get("kid") in self._keys
        except jwt.InvalidTokenError:
            return False

    def read_client(self, token: str) -> Principal:
        """Return who a token speaks for. Raises: Unauthenticated."""
        claims = self._verify(token)
        if not isinstance(claims.get("aud"), str) or claims["aud"] == AGENT_AUDIENCE:
            raise Unauthenticated("this is not the token of a client")
        try:
            return Principal(
                account_id=claims["account"],
                user_id=claims["user"],
                role=Role(claims["role"]),
                client_id=claims.get("key", ""),
            )
        except (KeyError, ValueError) as error:
            raise Unauthenticated("the token lacks a claim") from error

    def issue_attempt(self, ref: AttemptRef, now: datetime, shape: str = "") -> str:
        """Return the token of one attempt; `shape` names the machine that it was placed for."""
        return self._sign(
            {
                "aud": AGENT_AUDIENCE,
                "account": ref.account_id,
                "job": ref.job_id,
                "task": ref.task_id,
                "attempt": ref.number,
                "shape": shape,
                "exp": int((now + ATTEMPT_LIFETIME).timestamp()),
            }
        )

    def read_attempt(self, token: str) -> AttemptRef:
        """Return the attempt a token is bound to. Raises: Unauthenticated."""
        claims = self._verify(token)
        if claims.get("aud") != AGENT_AUDIENCE:
            raise Unauthenticated("this is not the token of an attempt")
        try:
            return AttemptRef(
                claims["account"], claims["job"], claims["task"], int(claims["attempt"])
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Unauthenticated("the token lacks a claim") from error

    def shape_of(self, token: str) -> str:
        """Return what an attempt was placed for, "" if unknown. Raises: Unauthenticated."""
        return str(self._verify(token).get("shape", ""))

    def _sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(
            dict(claims),
            self._keys[self._signing_id],
            algorithm=ALGORITHM,
            headers={"kid": self._signing_id},
        )

    def _verify(self, token: str) -> Mapping[str, Any]:
        try:
            claims = self._claims(token)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except (jwt.InvalidTokenError, KeyError) as error:
            raise Unauthenticated("the token is not valid") from error
        if int(claims["exp"]) <= time.time():  # remembered from when it was still good
            raise Unauthenticated("the token has expired")
        return claims

    def _decode(self, token: str) -> Mapping[str, Any]:
        key_id = _key_id(token.partition(".")[0])
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._keys[key_id],
            algorithms=[ALGORITHM],
            options={"verify_aud": False, "require": ["exp", "aud"]},
        )
        return claims


@lru_cache(_REMEMBERED_HEADERS)
def _key_id(header: str) -> str:
    """Return the key that a token's first part names, which all tokens of one key share. Raises: InvalidTokenError."""
    return str(jwt.get_unverified_header(f"{header}..").get("kid", ""))


def with_next_key(ring: str, *, secret: str, now: datetime) -> str:
    """Return a ring, as BATON_SIGNING_KEYS has it, with a fresh key that verifies but does not sign yet.

    Every function must have this ring before `with_next_key_signing` follows: one that does not know a key refuses
    what it signed. Keys whose last tokens have expired are dropped. Raises: ValueError.
    """
    entries = _entries(ring)
    key_id = now.strftime(_DATED)
    entries = [entries[0], f"{key_id}:{secret}", *_still_needed(entries, now)]
    Tokens.parse(",".join(entries))
    return ",".join(entries)


def with_next_key_signing(ring: str) -> str:
    """Return a ring whose newest key signs; all others go on verifying what they signed. Raises: ValueError."""
    entries = _entries(ring)
    newest = max(entries, key=lambda each: _made_at(each) or _LONG_AGO)
    if newest == entries[0]:
        raise ValueError("signing keys: the newest key signs already")
    return ",".join([newest, *(each for each in entries if each != newest)])


def _entries(ring: str) -> list[str]:
    Tokens.parse(ring)
    return [entry.strip() for entry in ring.split(",") if entry.strip()]


def _still_needed(entries: Sequence[str], now: datetime) -> Iterator[str]:
    """Yield the keys after the first whose tokens may still be good: those whose successor is not old enough."""
    made_at = now
    for successor, entry in pairwise(entries):
        made_at = _made_at(successor) or made_at
        if now - made_at > _NEEDED_AFTER_SUCCESSOR:
            return
        yield entry


def _made_at(entry: str) -> datetime | None:
    """Return when a key was made, None when its id does not say."""
    try:
        return datetime.strptime(entry.partition(":")[0], _DATED).replace(tzinfo=UTC)
    except ValueError:
        return None
