"""The catalogue in Firestore: one document that names the present edition, and that edition's documents."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from google.api_core.exceptions import AlreadyExists, FailedPrecondition
from google.cloud import firestore

from shared.errors import Contended
from shared.models.account import InstanceType, Package, Provider, Variable
from shared.stores.wire import Create, Documents, Found, Put, Update

_CURRENT = "catalog/current"
_KEPT_S = 10.0
# A package takes a few KB at most; a document may hold 1 MiB, a commit 10.
_PER_PART = 100
_READS = 5


class FirestoreCatalogStore:
    """The CatalogStore of shared/ports.py.

    What was read is kept for some seconds: every submission needs it, and it hardly changes.
    """

    def __init__(self, client: firestore.Client) -> None:
        self._documents = Documents(client)
        self._read_at = 0.0
        self._instance_types: list[InstanceType] = []
        self._packages: list[Package] = []

    def instance_types(self) -> list[InstanceType]:
        self._refresh()
        return [each for each in self._instance_types if each.is_offered]

    def known_instance_types(self) -> list[InstanceType]:
        self._refresh()
        return list(self._instance_types)

    def packages(self) -> list[Package]:
        self._refresh()
        return list(self._packages)

    def save(self, instance_types: Sequence[InstanceType], packages: Sequence[Package]) -> None:
        """One commit writes the edition that nobody reads and names it, so nobody ever reads half a catalogue."""
        before = self._documents.get([_CURRENT])[0]
        edition = "b" if before is not None and before.fields["edition"] == "a" else "a"
        number = before.fields.get("number", 0) + 1 if before else 1
        ordered = sorted(packages, key=lambda each: each.package_id)
        groups = [ordered[i : i + _PER_PART] for i in range(0, len(ordered), _PER_PART)]
        parts = [
            Put(
                path=_part(edition, index),
                fields={"number": number, "packages": [asdict(each) for each in group]},
            )
            for index, group in enumerate(groups)
        ]
        types = {each.name: asdict(each) for each in instance_types}
        for each in before.fields["instance_types"] if before else ():
            types.setdefault(each["name"], {**each, "is_offered": False})
        current = {
            "edition": edition,
            "number": number,
            "part_count": len(parts),
            "instance_types": [types[name] for name in sorted(types)],
        }
        try:
            self._documents.commit([*parts, _named(current, before)])
        except (AlreadyExists, FailedPrecondition) as error:
            raise Contended("somebody else has just replaced the catalogue") from error
        self._read_at = 0.0

    def _refresh(self) -> None:
        if self._read_at and time.monotonic() - self._read_at < _KEPT_S:
            return
        for _ in range(_READS):
            if self._read():
                return
        raise Contended("the catalogue is being replaced over and over")

    def _read(self) -> bool:
        """Read the present edition; False when others have replaced it twice meanwhile, and with it these parts."""
        current = self._documents.get([_CURRENT])[0]
        if current is None:
            self._instance_types, self._packages = [], []
            return True
        edition, number = current.fields["edition"], current.fields.get("number")
        paths = [_part(edition, index) for index in range(current.fields["part_count"])]
        parts = [part.fields for part in self._documents.get(paths) if part]
        if len(parts) < len(paths) or any(part.get("number") != number for part in parts):
            return False
        self._packages = [_package(each) for part in parts for each in part["packages"]]
        self._instance_types = [_instance_type(each) for each in current.fields["instance_types"]]
        self._read_at = time.monotonic()
        return True


def _named(current: Mapping[str, Any], before: Found | None) -> Create | Update:
    """Return what makes an edition the present one, unless another has become that since `before` was read."""
    if before is None:
        return Create(path=_CURRENT, fields=current)
    changed = {(name,): value for name, value in current.items()}
    return Update(path=_CURRENT, fields=changed, version=before.version)


def _part(edition: str, number: int) -> str:
    return f"catalog/{edition}-{number}"


def _instance_type(found: Mapping[str, Any]) -> InstanceType:
    changed = {
        "categories": tuple(found["categories"]),
        "provider": Provider(found.get("provider", Provider.GCP)),
    }
    return InstanceType(**dict(found) | changed)


def _package(found: Mapping[str, Any]) -> Package:
    environment = tuple(Variable(**each) for each in found["environment"])
    return Package(**dict(found) | {"plugins": tuple(found["plugins"]), "environment": environment})
