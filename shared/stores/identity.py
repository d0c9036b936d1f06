"""People who sign in with a browser: Firebase Authentication, with account and role as custom claims."""

from collections.abc import Sequence
from typing import Any

import firebase_admin
from firebase_admin import auth, exceptions

from shared.errors import Conflict, Unauthenticated, Unreachable
from shared.models.account import Principal, Role


class FirebaseIdentity:
    """The Identity of shared/ports.py. Talks to the Auth emulator when FIREBASE_AUTH_EMULATOR_HOST is set."""

    def __init__(self, app: firebase_admin.App) -> None:
        self._app = app

    @classmethod
    def connect(cls, project: str) -> "FirebaseIdentity":
        """Connect to a project's users."""
        name = f"baton-{project}"
        try:
            return cls(firebase_admin.get_app(name))
        except ValueError:
            return cls(firebase_admin.initialize_app(options={"projectId": project}, name=name))

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
        try:
            user = auth.get_user_by_email(email, app=self._app)
        except auth.UserNotFoundError:
            user = auth.create_user(email=email, password=password, app=self._app)
        else:
            claims = user.custom_claims or {}
            if claims.get("account", account_id) != account_id:
                raise Conflict(f"{email} belongs to another account")
            if password is not None:
                auth.update_user(user.uid, password=password, app=self._app)
        granted: dict[str, Any] = {"account": account_id, "role": role.value}
        if projects:
            # The rules let somebody without this claim see every project; an empty list would mean none.
            granted["projects"] = list(projects)
        auth.set_custom_user_claims(user.uid, granted, app=self._app)
        return str(user.uid)
