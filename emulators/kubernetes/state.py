"""The API server's store: objects by kind and key, a version that grows with every write, and who waits for it.

Objects are kept in their wire form. Nothing here decides; see `jobs`, `scheduling` and `nodes`.
"""

import uuid
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulators.engine.records import Records
from emulators.engine.watch import Topics
from emulators.kubernetes.errors import KubernetesError, exists, not_found

Wire = dict[str, Any]
_TOMBSTONES = 1000


@dataclass(frozen=True)
class Kind:
    """One kind of objects. `version` is how bodies name its group and version."""

    plural: str
    name: str
    version: str
    is_namespaced: bool

    @property
    def group(self) -> str:
        """Its group, empty for the core."""
        return self.version.rpartition("/")[0]


KINDS = {
    kind.plural: kind
    for kind in (
        Kind("jobs", "Job", "batch/v1", True),
        Kind("pods", "Pod", "v1", True),
        Kind("secrets", "Secret", "v1", True),
        Kind("nodes", "Node", "v1", False),
        Kind("namespaces", "Namespace", "v1", False),
        Kind("priorityclasses", "PriorityClass", "scheduling.k8s.io/v1", False),
    )
}


def timestamp() -> str:
    """Return the present moment as the API writes it: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(resource: Wire) -> str:
    """Return where an object is kept: its namespace, if any, and its name."""
    metadata = resource["metadata"]
    return f"{metadata.get('namespace') or ''}/{metadata['name']}"


def condition(resource: Wire, kind: str) -> Wire | None:
    """Return an object's condition."""
    found: list[Wire] = resource["status"].get("conditions") or []
    return next((each for each in found if each["type"] == kind), None)


def set_condition(resource: Wire, kind: str, status: str, reason: str, message: str = "") -> None:
    """Write a condition of an object; its time moves when its status does."""
    before = condition(resource, kind)
    is_same = before is not None and before["status"] == status
    conditions: list[Wire] = resource["status"].get("conditions") or []
    entry = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": (
            before["lastTransitionTime"] if before is not None and is_same else timestamp()
        ),
    }
    others = [each for each in conditions if each["type"] != kind]
    resource["status"]["conditions"] = [*others, entry]


class State:
    """Every object of the cluster."""

    def __init__(self, path: Path) -> None:
        self.records = Records(path)
        self.topics = Topics()
        self._load()

    def _load(self) -> None:
        self.version: int = self.records.all("meta").get("version", {}).get("version", 1)
        self._tables = {plural: self.records.all(plural) for plural in KINDS}
        self._gone: dict[str, deque[Wire]] = {plural: deque(maxlen=_TOMBSTONES) for plural in KINDS}
        self._floor = dict.fromkeys(KINDS, self.version)
        self._owned: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for plural, table in self._tables.items():
            for resource in table.values():
                self._note_owners(plural, resource)

    def _note_owners(self, plural: str, resource: Wire) -> None:
        for owner in resource["metadata"].get("ownerReferences") or []:
            self._owned[plural, owner["uid"]][key_of(resource)] = None

    def owned(self, plural: str, uid: str) -> list[Wire]:
        """Return the objects of a kind that belong to the one with this uid, oldest first."""
        table = self._tables[plural]
        return [table[key] for key in self._owned.get((plural, uid), ())]

    def all(self, plural: str) -> list[Wire]:
        """Return every object of a kind, by key."""
        table = self._tables[plural]
        return [table[key] for key in sorted(table)]

    def find(self, plural: str, namespace: str, name: str) -> Wire | None:
        """Return an object, None when it does not exist."""
        return self._tables[plural].get(f"{namespace}/{name}")

    def get(self, plural: str, namespace: str, name: str) -> Wire:
        """Return an object. Raises: KubernetesError 404."""
        found = self.find(plural, namespace, name)
        if found is None:
            raise not_found(plural, KINDS[plural].group, name)
        return found

    def add(self, plural: str, resource: Wire) -> Wire:
        """Store a new object. Raises: KubernetesError 409."""
        kind, metadata = KINDS[plural], resource["metadata"]
        if key_of(resource) in self._tables[plural]:
            raise exists(plural, kind.group, metadata["name"])
        resource |= {"apiVersion": kind.version, "kind": kind.name}
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(), "generation": 1}
        resource.setdefault("status", {})
        self.save(plural, resource)
        return resource

    def save(self, plural: str, resource: Wire) -> None:
        """Write an object that was changed."""
        self.version += 1
        resource["metadata"]["resourceVersion"] = str(self.version)
        self._tables[plural][key_of(resource)] = resource
        self._note_owners(plural, resource)
        self.records.put(plural, key_of(resource), resource)
        self._touch(plural, resource)

    def remove(self, plural: str, resource: Wire) -> None:
        """Forget an object; watchers are told."""
        self.version += 1
        del self._tables[plural][key_of(resource)]
        for owner in resource["metadata"].get("ownerReferences") or []:
            owned = self._owned[plural, owner["uid"]]
            owned.pop(key_of(resource), None)
            if not owned:
                del self._owned[plural, owner["uid"]]
        self.records.drop(plural, key_of(resource))
        gone = self._gone[plural]
        if len(gone) == gone.maxlen:
            self._floor[plural] = int(gone[0]["metadata"]["resourceVersion"])
        metadata = {**resource["metadata"], "resourceVersion": str(self.version)}
        gone.append({**resource, "metadata": metadata})
        self._touch(plural, resource)

    def _touch(self, plural: str, resource: Wire) -> None:
        self.topics.touch(plural, self.version)
        if node := (resource.get("spec") or {}).get("nodeName"):
            self.topics.touch(f"{plural}@{node}", self.version)
        self.records.put("meta", "version", {"version": self.version})

    def changes(self, plural: str, version: int) -> Iterator[tuple[str, Wire]]:
        """Yield what has changed since a version, oldest first. Raises: KubernetesError 410."""
        if version < self._floor[plural]:
            raise KubernetesError(410, f"too old resource version: {version} ({self.version})")
        found = [("DELETED", each) for each in self._gone[plural]]
        found += [("MODIFIED", each) for each in self._tables[plural].values()]
        versions = [(int(each["metadata"]["resourceVersion"]), kind, each) for kind, each in found]
        for at, kind, each in sorted(versions, key=lambda change: change[0]):
            if at > version:
                yield kind, each

    def flush(self) -> None:
        """Make everything written so far survive the process."""
        self.records.flush()

    def clear(self) -> None:
        """Forget everything; the version goes on, so that watchers notice."""
        version = self.version + 1
        self.records.clear()
        self.records.put("meta", "version", {"version": version})
        self.records.flush()
        self.topics.touch_all(version)
        self._load()
