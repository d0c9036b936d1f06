"""The catalogue in Firestore: one document that names the present edition, and that edition's documents."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from google.cloud import firestore

from shared.models.account import InstanceType, Package, Variable
from shared.stores.wire import Documents, Put

_CURRENT = "catalog/current"
_KEPT_S = 10.0
# A package takes a few KB at most and a document may hold 1 MiB.
_PACKAGES_PER_DOCUMENT = 100


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
        return self._instance_types

    def packages(self) -> list[Package]:
        self._refresh()
        return self._packages

    def save(self, instance_types: Sequence[InstanceType], packages: Sequence[Package]) -> None:
        """The edition that nobody reads is written first and named last, so nobody ever reads half a catalogue."""
        before = self._documents.get([_CURRENT])[0]
        edition = "b" if before is not None and before.fields["edition"] == "a" else "a"
        ordered = sorted(packages, key=lambda each: each.package_id)
        groups = [
            ordered[start : start + _PACKAGES_PER_DOCUMENT]
            for start in range(0, len(ordered), _PACKAGES_PER_DOCUMENT)
        ]
        for number, group in enumerate(groups):
            found = {"packages": [asdict(package) for package in group]}
            self._documents.commit([Put(path=_part(edition, number), fields=found)])
        types = sorted(instance_types, key=lambda each: each.name)
        current = {
            "edition": edition,
            "part_count": len(groups),
            "instance_types": [asdict(each) for each in types],
        }
        self._documents.commit([Put(path=_CURRENT, fields=current)])
        self._read_at = 0.0

    def _refresh(self) -> None:
        if self._read_at and time.monotonic() - self._read_at < _KEPT_S:
            return
        current = self._documents.get([_CURRENT])[0]
        if current is None:
            self._instance_types, self._packages = [], []
            return
        numbers = range(current.fields["part_count"])
        parts = self._documents.get([_part(current.fields["edition"], n) for n in numbers])
        packages = [_package(each) for part in parts if part for each in part.fields["packages"]]
        types = [_instance_type(each) for each in current.fields["instance_types"]]
        self._instance_types, self._packages = types, packages
        self._read_at = time.monotonic()


def _part(edition: str, number: int) -> str:
    return f"catalog/{edition}-{number}"


def _instance_type(found: Mapping[str, Any]) -> InstanceType:
    return InstanceType(**dict(found) | {"categories": tuple(found["categories"])})


def _package(found: Mapping[str, Any]) -> Package:
    environment = tuple(Variable(**each) for each in found["environment"])
    return Package(**dict(found) | {"plugins": tuple(found["plugins"]), "environment": environment})
