"""Accounts, projects, users and API keys in Firestore."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TypeVar

from google.api_core.exceptions import AlreadyExists, FailedPrecondition
from google.api_core.exceptions import NotFound as NoDocument
from google.cloud import firestore

from shared.errors import Contended, NotFound
from shared.models.account import (
    Account,
    ApiKey,
    Budget,
    Period,
    Project,
    Provider,
    Role,
    User,
    Variable,
)
from shared.stores.jobs import tries
from shared.stores.wire import Create, Documents, Found, Put, Update, delete, stream

# What may be the id of a document; a name from a request that may not is the name of nothing.
_ID = re.compile(r"(?!__.*__\Z)(?!\.{1,2}\Z)[^/\x00]{1,250}")

Kept = TypeVar("Kept", ApiKey, User)


class FirestoreAccountStore:
    """The AccountStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)

    def account(self, account_id: str) -> Account:
        return _account_from(self._found(_account(account_id)).fields)

    def accounts(self) -> list[Account]:
        """Return every account, by id."""
        found = (each.to_dict() for each in stream(self._client.collection("accounts")))
        return [_account_from(each) for each in found if each]

    def create_account(self, account: Account) -> bool:
        path = _account(account.account_id)
        try:
            self._documents.commit([Create(path=path, fields=asdict(account))])
        except AlreadyExists:
            return False
        return True

    def save_account(self, account: Account) -> None:
        fields_ = {(name,): value for name, value in asdict(account).items()}
        # Whoever read the account before its first budget was set must not lift that budget.
        del fields_["has_budgets",]
        self._documents.commit(
            [Update(path=_account(account.account_id), fields=fields_, upsert=True)]
        )

    def budgets(self, account_id: str) -> list[Budget]:
        found = self._documents.get([_budgets(account_id)])[0]
        return _budgets_from(found)

    def change_budgets(
        self, account_id: str, change: Callable[[Sequence[Budget]], Sequence[Budget]]
    ) -> None:
        """The account's members may read its document, but not what each project may spend."""
        path = _budgets(account_id)
        for _ in tries(path):
            found = self._documents.get([path])[0]
            after = change(_budgets_from(found))
            fields_ = {"budgets": [asdict(each) for each in after]}
            note = Update(path=_account(account_id), fields={("has_budgets",): bool(after)})
            put: Create | Update = Create(path=path, fields=fields_)
            if found is not None:
                changed = {(name,): value for name, value in fields_.items()}
                put = Update(path=path, fields=changed, version=found.version)
            try:
                self._documents.commit([put, note])
                return
            except (AlreadyExists, FailedPrecondition):
                continue
        raise Contended(path)

    def project(self, account_id: str, name: str) -> Project:
        return _project_from(self._found(_project(account_id, name)).fields)

    def projects(self, account_id: str) -> list[Project]:
        found = stream(self._client.collection(f"{_account(account_id)}/projects"))
        return sorted((_project_from(each.to_dict() or {}) for each in found), key=_name)

    def save_project(self, account_id: str, project: Project) -> None:
        self._put(_project(account_id, project.name), asdict(project))

    def user(self, account_id: str, user_id: str) -> User:
        return _user_from(self._found(_user(account_id, user_id)).fields)

    def users(self, account_id: str) -> list[User]:
        found = stream(self._client.collection(f"{_account(account_id)}/users"))
        return sorted((_user_from(each.to_dict() or {}) for each in found), key=_email)

    def save_user(self, account_id: str, user: User) -> None:
        self._put(_user(account_id, user.user_id), asdict(user))

    def change_user(self, account_id: str, user_id: str, change: Callable[[User], User]) -> User:
        return self._change(_user(account_id, user_id), _user_from, change)

    def delete_user(self, account_id: str, user_id: str) -> None:
        delete(self._client.document(_user(account_id, user_id)))

    def api_keys(self, account_id: str) -> list[ApiKey]:
        found = stream(self._client.collection(f"{_account(account_id)}/api_keys"))
        return sorted((_api_key_from(each.to_dict() or {}) for each in found), key=_created_at)

    def api_key(self, client_id: str) -> ApiKey:
        return _api_key_from(self._found(_api_key(client_id)).fields)

    def save_api_key(self, key: ApiKey) -> None:
        self._put(_api_key(key.client_id), asdict(key))

    def change_api_key(self, client_id: str, change: Callable[[ApiKey], ApiKey]) -> None:
        self._change(_api_key(client_id), _api_key_from, change)

    def touch_api_key(self, client_id: str, now: datetime) -> None:
        try:
            self._documents.commit([Update(path=_api_key(client_id), fields={("used_at",): now})])
        except NoDocument as error:
            raise NotFound(f"API key {client_id}") from error

    def _change(
        self, path: str, read: Callable[[Mapping[str, Any]], Kept], change: Callable[[Kept], Kept]
    ) -> Kept:
        for _ in tries(path):
            found = self._found(path)
            before = read(found.fields)
            after = change(before)
            old, new = asdict(before), asdict(after)
            fields_ = {(name,): value for name, value in new.items() if old[name] != value}
            if not fields_:
                return after
            try:
                self._documents.commit([Update(path=path, fields=fields_, version=found.version)])
                return after
            except (FailedPrecondition, NoDocument):
                continue
        raise Contended(path)

    def _put(self, path: str, found: Mapping[str, Any]) -> None:
        self._documents.commit([Put(path=path, fields=found)])

    def _found(self, path: str) -> Found:
        found = self._documents.get([path])[0]
        if found is None:
            raise NotFound(path)
        return found


def _known(model: type[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields a model has; a document may hold more."""
    return {each.name: found[each.name] for each in fields(model) if each.name in found}


def _account_from(found: Mapping[str, Any]) -> Account:
    changed = {
        "environment": tuple(Variable(**each) for each in found.get("environment", ())),
        "provider": Provider(found.get("provider", Provider.GCP)),
    }
    return Account(**_known(Account, found) | changed)


def _budgets_from(found: Found | None) -> list[Budget]:
    said = found.fields["budgets"] if found else ()
    budgets = [Budget(**dict(each) | {"period": Period(each["period"])}) for each in said]
    return sorted(budgets, key=lambda budget: budget.project)


def _project_from(found: Mapping[str, Any]) -> Project:
    return Project(**_known(Project, found))


def _user_from(found: Mapping[str, Any]) -> User:
    changed = {"role": Role(found["role"]), "projects": tuple(found["projects"])}
    return User(**_known(User, found) | changed)


def _api_key_from(found: Mapping[str, Any]) -> ApiKey:
    return ApiKey(**_known(ApiKey, found) | {"role": Role(found["role"])})


def _name(project: Project) -> str:
    return project.name


def _email(user: User) -> str:
    return user.email


def _created_at(key: ApiKey) -> tuple[datetime, str]:
    return key.created_at, key.client_id


def _account(account_id: str) -> str:
    return f"accounts/{_id(account_id)}"


def _budgets(account_id: str) -> str:
    return f"{_account(account_id)}/state/budgets"


def _project(account_id: str, name: str) -> str:
    return f"{_account(account_id)}/projects/{_id(name)}"


def _user(account_id: str, user_id: str) -> str:
    return f"{_account(account_id)}/users/{_id(user_id)}"


def _api_key(client_id: str) -> str:
    """A client id starts with its account's id, so one read finds it."""
    return f"{_account(client_id.rpartition('.')[0])}/api_keys/{_id(client_id)}"


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise NotFound(f"{text[:100]!r} does not exist")
    return text
