"""Administration: accounts, projects, users, API keys. No client calls this."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.models.account import (
    REQUESTS_PER_S,
    Account,
    ApiKey,
    Project,
    Provider,
    Role,
    User,
    Variable,
)
from shared.ports import AccountStore, Identity
from shared.services.sign_in import secret_hash

_ACCOUNT_ID = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
_EMAIL = re.compile(r"[^@\s/]{1,64}@[^@\s/]{1,189}")
SHORTEST_PASSWORD = 8
EMPTY: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """An API key as it is told once; the client reads `client_id` and `private_key`."""

    client_id: str
    private_key: str


def create_account(
    account_id: str,
    *,
    name: str,
    max_instances: int,
    environment: Mapping[str, str],
    accounts: AccountStore,
    requests_per_s: int = REQUESTS_PER_S,
    provider: Provider = Provider.GCP,
) -> Account:
    """Create an account. Raises: InvalidRequest; Conflict when it exists."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise InvalidRequest(
            {"account_id": "must be 3 to 40 lower-case letters, digits and dashes"}
        )
    account = Account(
        account_id=account_id,
        name=name,
        max_instances=max_instances,
        requests_per_s=requests_per_s,
        provider=provider,
        environment=_variables(environment),
    )
    _check(account)
    if not accounts.create_account(account):
        raise Conflict(f"account {account_id} exists already")
    return account


def change_account(
    account_id: str,
    *,
    name: str | None = None,
    max_instances: int | None = None,
    requests_per_s: int | None = None,
    provider: Provider | None = None,
    variables: Mapping[str, str] = EMPTY,
    without: Collection[str] = (),
    accounts: AccountStore,
) -> Account:
    """Change what is given of an account: `variables` are added or replaced, those named in `without` go.

    Raises: NotFound; InvalidRequest.
    """
    account = known_account(account_id, accounts)
    kept = {each.name: each for each in account.environment}
    if unknown := sorted(set(without) - set(kept)):
        raise InvalidRequest({"variables": f"not set: {', '.join(unknown)}"})
    kept |= {each.name: each for each in _variables(variables)}
    said: dict[str, Any] = {
        "name": name,
        "max_instances": max_instances,
        "requests_per_s": requests_per_s,
        "provider": provider,
    }
    account = replace(
        account,
        environment=tuple(each for each in kept.values() if each.name not in without),
        **{field: value for field, value in said.items() if value is not None},
    )
    _check(account)
    accounts.save_account(account)
    return account


def known_account(account_id: str, accounts: AccountStore) -> Account:
    """Return an account. Raises: NotFound, in words."""
    try:
        return accounts.account(account_id)
    except NotFound as error:
        raise NotFound(f"there is no account {account_id}") from error


def known_project(account_id: str, name: str, accounts: AccountStore) -> Project:
    """Return a project. Raises: NotFound, in words."""
    known_account(account_id, accounts)
    try:
        return accounts.project(account_id, name)
    except NotFound as error:
        raise NotFound(f"account {account_id} has no project {name}") from error


def _check(account: Account) -> None:
    if not account.name.strip():
        raise InvalidRequest({"name": "must not be empty"})
    if account.max_instances < 0:
        raise InvalidRequest({"max_instances": "must be 0 or more"})
    if account.requests_per_s < 1:
        raise InvalidRequest({"requests_per_s": "must be 1 or more"})
    for each in account.environment:
        if not _VARIABLE.fullmatch(each.name):
            raise InvalidRequest({"variables": f"{each.name!r} is not the name of a variable"})


def _variables(environment: Mapping[str, str]) -> tuple[Variable, ...]:
    return tuple(
        Variable(name=name, value=value, merge_policy="exclusive")
        for name, value in environment.items()
    )


def create_project(account_id: str, name: str, accounts: AccountStore) -> Project:
    """Create a project, or make it active again. Raises: NotFound (no such account); InvalidRequest."""
    known_account(account_id, accounts)
    if not _PROJECT_NAME.fullmatch(name):
        raise InvalidRequest(
            {"project": "must be 1 to 63 letters, digits, spaces, dots, dashes, underscores"}
        )
    project = Project(name=name)
    accounts.save_project(account_id, project)
    return project


def set_project_active(
    account_id: str, name: str, *, is_active: bool, accounts: AccountStore
) -> Project:
    """Let a project take submissions, or no more; its jobs go on. Raises: NotFound."""
    project = replace(known_project(account_id, name, accounts), is_active=is_active)
    accounts.save_project(account_id, project)
    return project


def create_user(
    account_id: str,
    *,
    email: str,
    role: Role,
    projects: Sequence[str],
    password: str | None,
    accounts: AccountStore,
    identity: Identity,
) -> User:
    """Let somebody sign in, or change what they may do.

    Raises: NotFound (no such account or project); InvalidRequest (email, password); Conflict.
    """
    known_account(account_id, accounts)
    for name in projects:
        known_project(account_id, name, accounts)
    if not _EMAIL.fullmatch(email):
        raise InvalidRequest({"email": f"{email!r} is no address"})
    if password is not None and len(password) < SHORTEST_PASSWORD:
        raise InvalidRequest({"password": f"must be {SHORTEST_PASSWORD} characters or more"})
    user_id = identity.save_user(account_id, email, role, projects, password)
    given = User(user_id=user_id, email=email, role=role, projects=tuple(projects))
    try:
        user = accounts.change_user(
            account_id, user_id, lambda now: replace(given, is_active=now.is_active)
        )
    except NotFound:
        user = given
        accounts.save_user(account_id, user)
    give_role(account_id, user, accounts)
    return user


def give_role(account_id: str, user: User, accounts: AccountStore) -> None:
    """Let the keys of a user do what the user may do now."""
    for key in accounts.api_keys(account_id):
        if key.user_id == user.user_id and key.role is not user.role:
            accounts.change_api_key(key.client_id, lambda now: replace(now, role=user.role))


def create_key(
    account_id: str,
    *,
    user_id: str,
    key_id: str,
    secret: str,
    now: datetime,
    accounts: AccountStore,
    name: str = "",
) -> NewKey:
    """Create an API key that may do what its user may; only its hash is stored. Raises: NotFound; Conflict."""
    user = accounts.user(account_id, user_id)
    if not user.is_active:
        raise Conflict(f"{user.email} is disabled")
    # The clients take the account of a key from nowhere else, so its id begins with it.
    client_id = f"{account_id}.{key_id}"
    accounts.save_api_key(
        ApiKey(
            client_id=client_id,
            account_id=account_id,
            user_id=user.user_id,
            role=user.role,
            secret_hash=secret_hash(secret),
            created_at=now,
            name=name,
        )
    )
    return NewKey(client_id=client_id, private_key=secret)


def revoke_key(client_id: str, now: datetime, accounts: AccountStore) -> None:
    """Let a key sign in no more, nor its tokens call; revoked once more, nothing changes. Raises: NotFound."""
    known_key(client_id, accounts)
    accounts.change_api_key(client_id, lambda key: replace(key, revoked_at=key.revoked_at or now))


def known_key(client_id: str, accounts: AccountStore) -> ApiKey:
    """Return a key. Raises: NotFound, in words."""
    try:
        return accounts.api_key(client_id)
    except NotFound as error:
        raise NotFound(f"there is no key {client_id}") from error
