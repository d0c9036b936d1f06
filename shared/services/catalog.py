"""The catalogue as the clients read it, shaped so that no version of them stumbles."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidRequest, NotFound
from shared.models.account import InstanceType, Package, Principal, Variable
from shared.ports import AccountStore, CatalogStore
from shared.services.projects import usable_projects

_TERM = re.compile(r"(?P<field>[a-z_]+(?:\.[a-z_]+)*)=(?P<op>eq|ne|gte|lte|gt|lt):(?P<rest>.*)")

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TYPES: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}


def list_projects(principal: Principal, accounts: AccountStore) -> list[dict[str, Any]]:
    """Return the projects that somebody may use."""
    usable = usable_projects(principal, accounts)
    return [{"name": project.name, "status": "active"} for project in usable]


def list_instance_types(filter_text: str, catalog: CatalogStore) -> list[dict[str, Any]]:
    """Return the instance types that pass every term of the filter. Raises: InvalidRequest."""
    terms = [_term(text) for text in filter_text.split(",") if text]
    items = [_instance_type(each) for each in catalog.instance_types()]
    return [item for item in items if all(term.accepts(item) for term in terms)]


def list_packages(catalog: CatalogStore) -> list[dict[str, Any]]:
    """Return all packages."""
    return [_package(each) for each in catalog.packages()]


def list_environments(principal: Principal, accounts: AccountStore) -> list[dict[str, Any]]:
    """Return the variables that the account's clients add to each of their jobs."""
    account = accounts.account(principal.account_id)
    return [{"account_id": account.account_id, "env": _variables(account.environment)}]


def account_name(principal: Principal, account_id: str, accounts: AccountStore) -> str:
    """Return the name of the caller's own account. Raises: NotFound for any other."""
    if account_id != principal.account_id:
        raise NotFound(f"account {account_id}")
    return accounts.account(account_id).name


@dataclass(frozen=True, kw_only=True)
class _Term:
    """One term of a filter, `field=op:value[:type]`; `field` may lead into a nested object."""

    field: tuple[str, ...]
    op: str
    value: Any

    def accepts(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item passes; what it lacks equals nothing and compares with nothing."""
        found: Any = item
        for name in self.field:
            found = found.get(name) if isinstance(found, Mapping) else None
        if self.op in ("eq", "ne"):
            return bool(found == self.value) == (self.op == "eq")
        is_number = isinstance(found, (int, float)) and isinstance(self.value, (int, float))
        if not is_number and not (isinstance(found, str) and isinstance(self.value, str)):
            return False
        return bool(_OPERATORS[self.op](found, self.value))


def _term(text: str) -> _Term:
    matched = _TERM.fullmatch(text.strip())
    if matched is None:
        raise InvalidRequest({"filter": f"{text!r} is not field=op:value or field=op:value:type"})
    value, colon, type_name = matched["rest"].rpartition(":")
    if not colon or type_name not in _TYPES:
        value, type_name = matched["rest"], "str"
    try:
        return _Term(
            field=tuple(matched["field"].split(".")),
            op=matched["op"],
            value=_TYPES[type_name](value),
        )
    except ValueError as error:
        raise InvalidRequest({"filter": f"{value!r} is no {type_name}"}) from error


def _instance_type(each: InstanceType) -> dict[str, Any]:
    memory = int(each.memory_gib) if each.memory_gib == int(each.memory_gib) else each.memory_gib
    return {
        "name": each.name,
        "description": each.description,
        "cores": each.cores,
        "cpu": each.cores,
        "memory": memory,
        "operating_system": each.operating_system,
        "gpu": dict(each.gpu) if each.gpu else None,
        "categories": [dict(category) for category in each.categories] or None,
    }


def _package(each: Package) -> dict[str, Any]:
    return {
        "package_id": each.package_id,
        "product": each.product,
        "platform": each.platform,
        "major_version": each.major_version,
        "minor_version": each.minor_version,
        "release_version": each.release_version,
        "build_version": each.build_version,
        "plugin_host_product": each.plugin_host_product,
        "plugin_host_version": each.plugin_host_version,
        "plugins": list(each.plugins),
        "environment": _variables(each.environment),
        "path": each.path,
    }


def _variables(variables: Sequence[Variable]) -> list[dict[str, str]]:
    return [
        {"name": each.name, "value": each.value, "merge_policy": each.merge_policy}
        for each in variables
    ]
