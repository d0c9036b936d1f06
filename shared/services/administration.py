"""Administration: accounts, projects, users, API keys, the catalogue, orchestrators. No client calls this."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.core.catalog import faults
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.models.account import Account, ApiKey, Project, Role, User, Variable
from shared.models.farm import Orchestrator
from shared.ports import AccountStore, CatalogStore, Identity, OrchestratorStore
from shared.schemas.catalog import InstanceTypeSchema, OrchestratorSchema, PackageSchema
from shared.schemas.loading import load
from shared.services.sign_in import secret_hash

_ACCOUNT_ID = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")


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
) -> Account:
    """Create an account. Raises: InvalidRequest; Conflict when it exists."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise InvalidRequest(
            {"account_id": "must be 3 to 40 lower-case letters, digits and dashes"}
        )
    if max_instances < 0:
        raise InvalidRequest({"max_instances": "must be 0 or more"})
    if _exists(account_id, accounts):
        raise Conflict(f"account {account_id} exists already")
    account = Account(
        account_id=account_id,
        name=name,
        max_instances=max_instances,
        environment=tuple(
            Variable(name=each, value=value, merge_policy="exclusive")
            for each, value in environment.items()
        ),
    )
    accounts.save_account(account)
    return account


def _exists(account_id: str, accounts: AccountStore) -> bool:
    try:
        accounts.account(account_id)
    except NotFound:
        return False
    return True


def create_project(account_id: str, name: str, accounts: AccountStore) -> Project:
    """Create a project, or make it active again. Raises: NotFound (no such account); InvalidRequest."""
    accounts.account(account_id)
    if not _PROJECT_NAME.fullmatch(name):
        raise InvalidRequest(
            {"project": "must be 1 to 63 letters, digits, spaces, dots, dashes, underscores"}
        )
    project = Project(name=name)
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
    """Let somebody sign in, or change what they may do. Raises: NotFound (no such account or project); Conflict."""
    accounts.account(account_id)
    for name in projects:
        accounts.project(account_id, name)
    user_id = identity.save_user(account_id, email, role, projects, password)
    user = User(user_id=user_id, email=email, role=role, projects=tuple(projects))
    accounts.save_user(account_id, user)
    return user


def create_key(
    account_id: str,
    *,
    user_id: str,
    key_id: str,
    secret: str,
    now: datetime,
    accounts: AccountStore,
) -> NewKey:
    """Create an API key that may do what its user may; only its hash is stored. Raises: NotFound (no such user)."""
    user = accounts.user(account_id, user_id)
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
        )
    )
    return NewKey(client_id=client_id, private_key=secret)


def revoke_key(client_id: str, now: datetime, accounts: AccountStore) -> None:
    """Let a key sign in no more; tokens that it has been given last on until they expire. Raises: NotFound."""
    accounts.save_api_key(replace(accounts.api_key(client_id), revoked_at=now))


def load_catalog(
    instance_types: Sequence[Mapping[str, Any]],
    packages: Sequence[Mapping[str, Any]],
    catalog: CatalogStore,
) -> None:
    """Replace the catalogue, if it is sound. Raises: InvalidRequest naming all that is wrong."""
    types = [
        load(InstanceTypeSchema(), each, f"instance_types.{index}")
        for index, each in enumerate(instance_types)
    ]
    software = [
        load(PackageSchema(), each, f"packages.{index}") for index, each in enumerate(packages)
    ]
    if wrong := faults(types, software):
        raise InvalidRequest({"catalog": "; ".join(wrong)})
    catalog.save(types, software)


def save_orchestrator(
    said: Mapping[str, Any], orchestrators: OrchestratorStore, catalog: CatalogStore
) -> Orchestrator:
    """Store an orchestrator, or change it; what it has learnt of stock-outs stays. Raises: InvalidRequest."""
    asked: Orchestrator = load(OrchestratorSchema(), said)
    known = {each.name for each in catalog.instance_types()}
    if unknown := sorted(set(asked.instance_types) - known):
        raise InvalidRequest({"instance_types": f"unknown: {', '.join(unknown)}"})
    try:
        before = orchestrators.orchestrator(asked.orchestrator_id)
        asked = replace(asked, stock_outs=before.stock_outs)
    except NotFound:
        pass
    orchestrators.save_orchestrator(asked)
    return asked
