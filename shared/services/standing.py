"""Standing: what somebody with a token may do now, and not when the token was made.

Tokens last for a day, and clients never ask for another on a refusal. What is read here is kept for some seconds, so
that a call costs next to nothing, and the end of a key or a user ends its tokens as soon.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from shared.errors import NotFound, Unauthenticated
from shared.models.account import ApiKey, Principal, Role, User
from shared.ports import AccountStore

KEPT = timedelta(seconds=10)
_REMEMBERED = 10_000
_USE_NOTED_EVERY = timedelta(minutes=5)
_RANK = {role: rank for rank, role in enumerate((Role.USER, Role.ADMINISTRATOR, Role.OWNER))}


class Standing:
    """Compares tokens with the users and keys of their accounts."""

    def __init__(self, accounts: AccountStore, now: Callable[[], datetime]) -> None:
        self._accounts = accounts
        self._now = now
        self._kept: dict[Principal, tuple[datetime, Principal]] = {}

    def of(self, granted: Principal) -> Principal:
        """Return what is left of what a token granted: never more than its user may do now.

        Raises: Unauthenticated when the user is gone or disabled, or the API key revoked.
        """
        now = self._now()
        kept = self._kept.get(granted)
        if kept is None or now - kept[0] >= KEPT:
            self._kept.pop(granted, None)
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            kept = self._kept[granted] = (now, self._read(granted, now))
        return kept[1]

    def _read(self, granted: Principal, now: datetime) -> Principal:
        user = self._user(granted)
        if granted.client_id:
            self._note_use(self._key(granted.client_id), now)
        role = min(granted.role, user.role, key=lambda each: _RANK[each])
        projects = user.projects if role is Role.USER else ()
        return replace(granted, role=role, projects=projects)

    def _user(self, granted: Principal) -> User:
        try:
            user = self._accounts.user(granted.account_id, granted.user_id)
        except NotFound as error:
            raise Unauthenticated("you are no user of this account any more") from error
        if not user.is_active:
            raise Unauthenticated("you have been switched off; ask an administrator")
        return user

    def _key(self, client_id: str) -> ApiKey:
        try:
            key = self._accounts.api_key(client_id)
        except NotFound as error:
            raise Unauthenticated("the API key of this token does not exist any more") from error
        if key.revoked_at is not None:
            raise Unauthenticated("the API key has been revoked")
        return key

    def _note_use(self, key: ApiKey, now: datetime) -> None:
        if key.used_at is None or now - key.used_at >= _USE_NOTED_EVERY:
            self._accounts.touch_api_key(key.client_id, now)
