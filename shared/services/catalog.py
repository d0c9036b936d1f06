"""The catalogue as the clients read it, shaped so that no version of them stumbles."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from marshmallow import Schema

from shared.core.catalog import Difference, difference, faults, listed_variables
from shared.errors import InvalidRequest, NotFound
from shared.models.account import InstanceType, Package, Principal, Variable
from shared.ports import AccountStore, CatalogStore
from shared.schemas.catalog import InstanceTypeSchema, PackageSchema
from shared.schemas.loading import load
from shared.services.projects import usable_projects

_TERM = re.compile(r"(?P<field>[a-z_]+(?:\.[a-z_]+)*)=(?P<op>eq|ne|gte|lte|gt|lt):(?P<rest>.*)")

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TYPES: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
_FILTERABLE = ("name", "description", "cores", "cpu", "memory", "operating_system")


def load_catalog(
    instance_types: Sequence[Mapping[str, Any]],
    packages: Sequence[Mapping[str, Any]],
    catalog: CatalogStore,
) -> Difference:
    """Replace the catalogue, all of it or nothing, and tell what that has changed.

    Instance types that are no longer in it are offered no more, and stay known for the jobs that wait for them.
    Raises: InvalidRequest naming all that is wrong; Contended.
    """
    types, software = sound_catalog(instance_types, packages)
    before = (catalog.instance_types(), catalog.packages())
    catalog.save(types, software)
    return difference(before, (types, software))


def compare_catalog(
    instance_types: Sequence[Mapping[str, Any]],
    packages: Sequence[Mapping[str, Any]],
    catalog: CatalogStore,
) -> Difference:
    """Tell what loading a catalogue would change; stores nothing. Raises: InvalidRequest naming all that is wrong."""
    after = sound_catalog(instance_types, packages)
    return difference((catalog.instance_types(), catalog.packages()), after)


def sound_catalog(
    instance_types: Sequence[Mapping[str, Any]], packages: Sequence[Mapping[str, Any]]
) -> tuple[list[InstanceType], list[Package]]:
    """Return what an administrator has written as models. Raises: InvalidRequest naming all that is wrong."""
    wrong: dict[str, object] = {}
    types: list[InstanceType] = _loaded(
        InstanceTypeSchema(), instance_types, "instance_types", wrong
    )
    software: list[Package] = _loaded(PackageSchema(), packages, "packages", wrong)
    if wrong := wrong or dict(faults(types, software)):
        raise InvalidRequest(wrong)
    return types, software


def _loaded(schema: Schema, said: object, kind: str, wrong: dict[str, object]) -> list[Any]:
    """Return the models of a list; add to `wrong` what is no model, by name where it has one."""
    if not isinstance(said, Sequence) or isinstance(said, str):
        wrong[kind] = "must be a list"
        return []
    key = "package_id" if kind == "packages" else "name"
    models = []
    for index, each in enumerate(said):
        name = each.get(key, index) if isinstance(each, Mapping) else index
        try:
            models.append(load(schema, each, f"{kind}.{name}"))
        except InvalidRequest as error:
            wrong |= error.fields
    return models


def list_projects(principal: Principal, accounts: AccountStore) -> list[dict[str, Any]]:
    """Return the projects that somebody may use, by name."""
    usable = usable_projects(principal, accounts)
    return [{"name": project.name, "status": "active"} for project in usable]


def offered_types(
    account_id: str, accounts: AccountStore, catalog: CatalogStore
) -> list[InstanceType]:
    """Return the instance types that an account may ask for: those of its provider."""
    provider = accounts.account(account_id).provider
    return [each for each in catalog.instance_types() if each.provider is provider]


def list_instance_types(
    principal: Principal, filter_text: str, accounts: AccountStore, catalog: CatalogStore
) -> list[dict[str, Any]]:
    """Return the instance types that pass every term of the filter.

    Raises: InvalidRequest (filter); NotFound when none is left: clients crash on an empty list.
    """
    terms = [_term(text) for text in filter_text.split(",") if text.strip()]
    offered = offered_types(principal.account_id, accounts, catalog)
    items = [_instance_type(each) for each in offered]
    found = [item for item in items if all(term.accepts(item) for term in terms)]
    if not found:
        raise NotFound("no instance type passes the filter" if items else "no instance types yet")
    return found


def list_packages(catalog: CatalogStore) -> list[dict[str, Any]]:
    """Return all packages."""
    return [_package(each) for each in catalog.packages()]


def list_environments(
    principal: Principal, accounts: AccountStore, catalog: CatalogStore
) -> list[dict[str, Any]]:
    """Return the variables that the account's clients add to each of their jobs.

    One that packages merge as a list is added to that list: clients raise where the two differ.
    """
    account = accounts.account(principal.account_id)
    lists = listed_variables(catalog.packages())
    variables = [
        replace(each, merge_policy="append") if each.name in lists else each
        for each in account.environment
    ]
    return [{"account_id": account.account_id, "env": _variables(variables)}]


def account_name(principal: Principal, account_id: str, accounts: AccountStore) -> str:
    """Return the name of the caller's own account. Raises: NotFound for any other."""
    if account_id != principal.account_id:
        raise NotFound(f"account {account_id}")
    return accounts.account(account_id).name


@dataclass(frozen=True, kw_only=True)
class _Term:
    """One term of a filter, `field=op:value[:type]`; `field` may lead into `gpu`."""

    field: tuple[str, ...]
    op: str
    value: str | int | float
    is_typed: bool

    def accepts(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item passes; what it lacks equals nothing and compares with nothing."""
        found: Any = item
        for name in self.field:
            found = found.get(name) if isinstance(found, Mapping) else None
        value = self._value_for(found)
        if self.op in ("eq", "ne"):
            return bool(found == value) == (self.op == "eq")
        is_number = isinstance(found, (int, float)) and isinstance(value, (int, float))
        if not is_number and not (isinstance(found, str) and isinstance(value, str)):
            return False
        return bool(_OPERATORS[self.op](found, value))

    def _value_for(self, found: object) -> str | int | float:
        """Return the value as a number where the type was left out and the field is one."""
        if self.is_typed or isinstance(self.value, str) is isinstance(found, str):
            return self.value
        try:
            return float(self.value)
        except ValueError:
            return self.value


def _term(text: str) -> _Term:
    matched = _TERM.fullmatch(text.strip())
    if matched is None:
        raise InvalidRequest({"filter": f"{text!r} is not field=op:value or field=op:value:type"})
    field = tuple(matched["field"].split("."))
    is_of_gpu = field[0] == "gpu" and len(field) > 1
    if not is_of_gpu and matched["field"] not in _FILTERABLE:
        known = f"one of {', '.join(_FILTERABLE)}, or gpu.gpu_count and the like"
        raise InvalidRequest({"filter": f"{matched['field']!r} is not {known}"})
    value, colon, type_name = matched["rest"].rpartition(":")
    is_typed = bool(colon) and type_name in _TYPES
    if not is_typed:
        value, type_name = matched["rest"], "str"
    try:
        converted = _TYPES[type_name](value)
    except ValueError as error:
        raise InvalidRequest({"filter": f"{text!r}: {value[:100]!r} is no {type_name}"}) from error
    return _Term(field=field, op=matched["op"], value=converted, is_typed=is_typed)


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
