"""The tables of the stand-in and its clock-free facts: templates, groups, instances, operations.

Documents are our own, not the wire's; `wire` shows them. Keys are `project/zone/name`.
"""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulators.compute.errors import already_exists, not_found
from emulators.engine.records import Records

Document = dict[str, Any]


def new_number() -> str:
    """Return an id as Google makes them: a uint64 in digits."""
    return str(uuid.uuid4().int >> 65)


def timestamp(at: float) -> str:
    """Return a time in the API's form."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class State:
    """Tables that survive kill -9, and the log of what happened to instances."""

    def __init__(self, path: Path) -> None:
        self._records = Records(path)
        self._load()

    def _load(self) -> None:
        self.templates = self._records.all("templates")
        self.groups = self._records.all("groups")
        self.instances = self._records.all("instances")
        self.operations = self._records.all("operations")
        self.orders = self._records.all("orders")
        self.used_names = set(self._records.all("names"))
        self._requests = {
            (o["project"], o["request_id"]): name
            for name, o in self.operations.items()
            if o["request_id"]
        }
        events = self._records.all("events")
        self.events: list[Document] = [events[key] for key in sorted(events)]

    def template(self, project: str, name: str) -> Document:
        """Return a template. Raises: ApiError 404."""
        path = f"projects/{project}/global/instanceTemplates/{name}"
        return _get(self.templates, f"{project}/{name}", path)

    def group(self, project: str, zone: str, name: str) -> Document:
        """Return a managed group. Raises: ApiError 404."""
        path = f"projects/{project}/zones/{zone}/instanceGroupManagers/{name}"
        return _get(self.groups, f"{project}/{zone}/{name}", path)

    def instance(self, project: str, zone: str, name: str) -> Document:
        """Return an instance that exists. Raises: ApiError 404."""
        path = f"projects/{project}/zones/{zone}/instances/{name}"
        found = _get(self.instances, f"{project}/{zone}/{name}", path)
        if found["status"] is None:
            raise not_found(path)
        return found

    def operation(self, project: str, scope: str, name: str) -> Document:
        """Return an operation of a scope (`zones/Z` or `global`). Raises: ApiError 404."""
        path = f"projects/{project}/{scope}/operations/{name}"
        found = _get(self.operations, name, path)
        if (found["project"], found["scope"]) != (project, scope):
            raise not_found(path)
        return found

    def members(self, group: Document) -> list[Document]:
        """Return a group's managed instances, oldest first."""
        return [i for i in self.instances.values() if i["group"] == group["key"]]

    def repeated(self, project: str, request_id: str) -> Document | None:
        """Return the operation that an earlier request with this id started."""
        name = self._requests.get((project, request_id))
        return None if name is None else self.operations[name]

    def add_template(self, template: Document) -> None:
        """Write a new template. Raises: ApiError 409."""
        key = f"{template['project']}/{template['name']}"
        if key in self.templates:
            path = f"projects/{template['project']}/global/instanceTemplates/{template['name']}"
            raise already_exists(path)
        self.templates[key] = template
        self._records.put("templates", key, template)

    def drop_template(self, project: str, name: str) -> None:
        """Forget a template."""
        del self.templates[f"{project}/{name}"]
        self._records.drop("templates", f"{project}/{name}")

    def save_group(self, group: Document) -> None:
        """Write a group."""
        self.groups[group["key"]] = group
        self._records.put("groups", group["key"], group)

    def drop_group(self, group: Document) -> None:
        """Forget a group."""
        del self.groups[group["key"]]
        self._records.drop("groups", group["key"])

    def save_instance(self, instance: Document) -> None:
        """Write a managed instance, which may not exist yet (status None)."""
        self.instances[instance["key"]] = instance
        self._records.put("instances", instance["key"], instance)
        if instance["name"] not in self.used_names:
            self.used_names.add(instance["name"])
            self._records.put("names", instance["name"], {})

    def drop_instance(self, instance: Document) -> None:
        """Forget a managed instance."""
        del self.instances[instance["key"]]
        self._records.drop("instances", instance["key"])

    def save_operation(self, operation: Document) -> None:
        """Write an operation."""
        self.operations[operation["name"]] = operation
        self._records.put("operations", operation["name"], operation)
        if operation["request_id"]:
            self._requests[operation["project"], operation["request_id"]] = operation["name"]

    def drop_operation(self, operation: Document) -> None:
        """Forget an operation and its request id."""
        del self.operations[operation["name"]]
        self._records.drop("operations", operation["name"])
        self._requests.pop((operation["project"], operation["request_id"]), None)

    def save_order(self, order: Document) -> None:
        """Write an ordered fault."""
        self.orders[order["id"]] = order
        self._records.put("orders", order["id"], order)

    def drop_order(self, order: Document) -> None:
        """Forget an ordered fault."""
        del self.orders[order["id"]]
        self._records.drop("orders", order["id"])

    def log(self, kind: str, instance: Document, **more: object) -> None:
        """Append an event of an instance to the log."""
        event = {
            "number": len(self.events), "at": timestamp(time.time()), "kind": kind,
            "instance": instance["name"], "id": instance["id"], "zone": instance["zone"],
            "pool": instance["group"].rpartition("/")[2], **more,
        }  # fmt: skip
        self.events.append(event)
        self._records.put("events", f"{event['number']:012d}", event)

    def in_zone(self, table: dict[str, Document], project: str, zone: str) -> Iterator[Document]:
        """Yield a zone's documents."""
        for document in table.values():
            if document["project"] == project and document["zone"] == zone:
                yield document

    def flush(self) -> None:
        """Make everything written so far survive the process."""
        self._records.flush()

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._load()

    def close(self) -> None:
        """Flush and close the file."""
        self._records.close()


def _get(table: dict[str, Document], key: str, path: str) -> Document:
    if key not in table:
        raise not_found(path)
    return table[key]
