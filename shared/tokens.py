"""Signed tokens: who a client is, and which attempt an agent may speak for.

Both are signed by the same ring of keys and told apart by their audience, so that neither can be used as the other.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import jwt

from shared.errors import Unauthenticated
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef

ALGORITHM = "HS256"
AGENT_AUDIENCE = "baton-agent"
ATTEMPT_LIFETIME = timedelta(days=14)
MIN_SECRET_CHARACTERS = 32


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

    @classmethod
    def parse(cls, text: str) -> "Tokens":
        """Read a key ring written as `kid:secret,kid2:secret2`. Raises: ValueError."""
        pairs = (entry.strip().partition(":") for entry in text.split(",") if entry.strip())
        return cls({key_id: secret for key_id, _, secret in pairs})

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
                account_id=claims["account"], user_id=claims["user"], role=Role(claims["role"])
            )
        except (KeyError, ValueError) as error:
            raise Unauthenticated("the token lacks a claim") from error

    def issue_attempt(self, ref: AttemptRef, now: datetime) -> str:
        """Return the token of one attempt."""
        return self._sign(
            {
                "aud": AGENT_AUDIENCE,
                "account": ref.account_id,
                "job": ref.job_id,
                "task": ref.task_id,
                "attempt": ref.number,
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

    def _sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(
            dict(claims),
            self._keys[self._signing_id],
            algorithm=ALGORITHM,
            headers={"kid": self._signing_id},
        )

    def _verify(self, token: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._keys[key_id],
                algorithms=[ALGORITHM],
                options={"verify_aud": False, "require": ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except (jwt.InvalidTokenError, KeyError) as error:
            raise Unauthenticated("the token is not valid") from error
        return claims
