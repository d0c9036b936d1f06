"""People who sign in with a browser: Firebase Authentication, with account and role as custom claims."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import firebase_admin
from firebase_admin import auth, exceptions

from shared.errors import (
    CloudError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unreachable,
)
from shared.models.account import Principal, Role

_connecting = Lock()


class FirebaseIdentity:
    """The Identity of shared/ports.py. Talks to the Auth emulator when FIREBASE_AUTH_EMULATOR_HOST is set."""

    def __init__(self, app: firebase_admin.App) -> None:
        self._app = app

    @classmethod
    def connect(cls, project: str) -> "FirebaseIdentity":
        """Connect to a project's users."""
        name = f"baton-{project}"
        with _connecting:  # the library looks and makes in two steps
            try:
                return cls(firebase_admin.get_app(name))
            except ValueError:
                options = {"projectId": project, "httpTimeout": 10}
                return cls(firebase_admin.initialize_app(options=options, name=name))

    def verify(self, id_token: str) -> Principal:
        try:
            claims = auth.verify_id_token(id_token, app=self._app, clock_skew_seconds=10)
        except auth.CertificateFetchError as error:
            raise Unreachable("the keys of the sign-in service") from error
        except (ValueError, exceptions.FirebaseError) as error:
            raise Unauthenticated("the sign-in is not valid or has expired") from error
        try:
            return Principal(
                account_id=claims["account"], user_id=claims["uid"], role=Role(claims["role"])
            )
        except (KeyError, ValueError) as error:
            raise Unauthenticated("nobody has let this user into an account yet") from error

    def save_user(
        self,
        account_id: str,
        email: str,
        role: Role,
        projects: Sequence[str],
        password: str | None,
    ) -> str:
        granted: dict[str, Any] = {"account": account_id, "role": role.value}
        if projects:
            # The rules let somebody without this claim see every project; an empty list would mean none.
            granted["projects"] = list(projects)
        with _translated():
            user_id = self._saved(account_id, email, password)
            auth.set_custom_user_claims(user_id, granted, app=self._app)
        return user_id

    def _saved(self, account_id: str, email: str, password: str | None) -> str:
        try:
            user = auth.get_user_by_email(email, app=self._app)
        except auth.UserNotFoundError:
            return str(auth.create_user(email=email, password=password, app=self._app).uid)
        if (user.custom_claims or {}).get("account", account_id) != account_id:
            raise Conflict(f"{email} belongs to another account")
        if password is not None:
            auth.update_user(user.uid, password=password, app=self._app)
        return str(user.uid)

    def set_active(self, user_id: str, is_active: bool) -> None:
        with _translated():
            auth.update_user(user_id, disabled=not is_active, app=self._app)
            if not is_active:
                auth.revoke_refresh_tokens(user_id, app=self._app)

    def delete_user(self, user_id: str) -> None:
        with _translated(), suppress(auth.UserNotFoundError):
            auth.delete_user(user_id, app=self._app)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the service's errors into ours, with its own words."""
    try:
        yield
    except auth.UserNotFoundError as error:
        raise NotFound("nobody signs in as this user any more") from error
    except (ValueError, exceptions.InvalidArgumentError) as error:
        raise InvalidRequest({"user": str(error)}) from error
    except exceptions.FirebaseError as error:
        raise CloudError(f"the sign-in service: {error}") from error
