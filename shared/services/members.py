"""Members: what the people of an account may do, and an end to it. Keys of a user follow what happens to the user."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from shared.core.permissions import may_use
from shared.errors import Conflict, NotFound
from shared.models.account import Role, User
from shared.ports import AccountStore, Identity
from shared.services.administration import (
    give_role,
    known_account,
    known_project,
    revoke_key,
)


def find_user(account_id: str, who: str, accounts: AccountStore) -> User:
    """Return a user by id or email. Raises: NotFound."""
    known_account(account_id, accounts)
    for user in accounts.users(account_id):
        if who == user.user_id or who.lower() == user.email.lower():
            return user
    raise NotFound(f"account {account_id} has no user {who}")


def members_of(account_id: str, project: str, accounts: AccountStore) -> list[User]:
    """Return who may use a project. Raises: NotFound."""
    known_project(account_id, project, accounts)
    return [
        user for user in accounts.users(account_id) if user.is_active and may_use(user, project)
    ]


def set_role(
    account_id: str, who: str, role: Role, accounts: AccountStore, identity: Identity
) -> User:
    """Give somebody, and their keys, another role. Raises: NotFound; Conflict when no owner would be left."""
    user = find_user(account_id, who, accounts)
    if role is not Role.OWNER:
        _check_an_owner_is_left(account_id, user, accounts)
    return _save(account_id, user, lambda now: replace(now, role=role), accounts, identity)


def set_projects(
    account_id: str, who: str, projects: Sequence[str], accounts: AccountStore, identity: Identity
) -> User:
    """Limit a plain user to some projects; none means all. Raises: NotFound."""
    user = find_user(account_id, who, accounts)
    for name in projects:
        known_project(account_id, name, accounts)
    wanted = tuple(dict.fromkeys(projects))
    return _save(account_id, user, lambda now: replace(now, projects=wanted), accounts, identity)


def add_member(
    account_id: str, project: str, who: str, accounts: AccountStore, identity: Identity
) -> User:
    """Let somebody who is limited to some projects use one more; who may use all of them stays so. Raises: NotFound."""
    user = find_user(account_id, who, accounts)
    known_project(account_id, project, accounts)
    if not user.projects or project in user.projects:
        return user

    def with_it(now: User) -> User:
        is_limited = now.projects and project not in now.projects
        return replace(now, projects=(*now.projects, project)) if is_limited else now

    return _save(account_id, user, with_it, accounts, identity)


def remove_member(
    account_id: str, project: str, who: str, accounts: AccountStore, identity: Identity
) -> User:
    """Let somebody use a project no more.

    Raises: NotFound; Conflict when they may use all, or this is their only one: an empty list would mean all.
    """
    user = find_user(account_id, who, accounts)
    known_project(account_id, project, accounts)

    def without_it(now: User) -> User:
        if not now.projects or now.role is not Role.USER:
            raise Conflict(f"{now.email} may use every project: give them a list of projects first")
        if project not in now.projects:
            raise NotFound(f"{now.email} does not use project {project}")
        left = tuple(name for name in now.projects if name != project)
        if not left:
            raise Conflict(
                f"{project} is the only project of {now.email}: disable the user instead"
            )
        return replace(now, projects=left)

    return _save(account_id, user, without_it, accounts, identity)


def set_user_active(
    account_id: str,
    who: str,
    is_active: bool,
    *,
    accounts: AccountStore,
    identity: Identity,
) -> User:
    """Let somebody in again, or no more: their keys and tokens end as soon, see standing.py.

    Raises: NotFound; Conflict when no owner would be left.
    """
    user = find_user(account_id, who, accounts)
    if not is_active:
        _check_an_owner_is_left(account_id, user, accounts)
    identity.set_active(user.user_id, is_active)
    return accounts.change_user(
        account_id, user.user_id, lambda now: replace(now, is_active=is_active)
    )


def remove_user(
    account_id: str, who: str, *, now: datetime, accounts: AccountStore, identity: Identity
) -> User:
    """Forget somebody and revoke their keys; what they submitted stays. Returns who it was.

    Raises: NotFound; Conflict when no owner would be left.
    """
    user = find_user(account_id, who, accounts)
    _check_an_owner_is_left(account_id, user, accounts)
    _revoke_keys(account_id, user, now, accounts)
    identity.delete_user(user.user_id)
    accounts.delete_user(account_id, user.user_id)
    return user


def _save(
    account_id: str,
    user: User,
    change: Callable[[User], User],
    accounts: AccountStore,
    identity: Identity,
) -> User:
    # What signs people in comes first: cut short here, a repeat of the command mends the rest.
    wanted = change(user)
    identity.save_user(account_id, wanted.email, wanted.role, wanted.projects, None)
    saved = accounts.change_user(account_id, user.user_id, change)
    give_role(account_id, saved, accounts)
    return saved


def _revoke_keys(account_id: str, user: User, now: datetime, accounts: AccountStore) -> None:
    for key in accounts.api_keys(account_id):
        if key.user_id == user.user_id:
            revoke_key(key.client_id, now, accounts)


def _check_an_owner_is_left(account_id: str, user: User, accounts: AccountStore) -> None:
    if user.role is not Role.OWNER or not user.is_active:
        return
    others = (each for each in accounts.users(account_id) if each.user_id != user.user_id)
    if not any(each.is_active and each.role is Role.OWNER for each in others):
        raise Conflict(
            f"{user.email} is the only owner of account {account_id}: name another first"
        )
