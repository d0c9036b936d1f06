"""Templates and managed groups: what callers may ask of them, and what is refused."""

import random
import re
import time
from collections.abc import Iterable

from emulators.compute.errors import ApiError, already_exists, invalid
from emulators.compute.lifecycle import Lifecycle
from emulators.compute.machine_types import gpus_of, machine_type
from emulators.compute.state import Document, State, new_number
from emulators.compute.wire import link, scheduling

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_MOST_PER_REQUEST = 1000
_MOST_MEMBERS = {"PAGELESS": 1000, "PAGINATED": 2000}
_LETTERS = "bcdfghjklmnpqrstvwxz0123456789"


def check_name(name: object, field: str) -> str:
    """Return a name that the API takes. Raises: ApiError 400."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        pattern = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
        raise invalid(field, name, f"Must be a match of regex '{pattern}'")
    return name


def new_template(project: str, body: Document) -> Document:
    """Return the template that `body` describes. Raises: ApiError 400."""
    properties = body.get("properties") or {}
    type_name = properties.get("machineType") or ""
    if machine_type(type_name) is None:
        field = "resource.properties.machineType"
        raise invalid(field, type_name, "The machine type is not known.")
    maintenance = scheduling(properties.get("scheduling") or {})["onHostMaintenance"]
    if gpus_of(properties) and maintenance == "MIGRATE":
        said = "Instances with guest accelerators do not support live migration."
        raise ApiError(400, "badRequest", said)
    return {
        "project": project,
        "name": check_name(body.get("name"), "resource.name"),
        "id": new_number(),
        "description": body.get("description", ""),
        "created_at": time.time(),
        "properties": properties,
    }


class Groups:
    """Managed groups over the tables; instances move by `Lifecycle` alone."""

    def __init__(self, state: State, lifecycle: Lifecycle) -> None:
        self._state = state
        self._lifecycle = lifecycle

    def insert(self, project: str, zone: str, body: Document) -> Document:
        """Create a group. Raises: ApiError."""
        name = check_name(body.get("name"), "resource.name")
        key = f"{project}/{zone}/{name}"
        if key in self._state.groups:
            raise already_exists(f"projects/{project}/zones/{zone}/instanceGroupManagers/{name}")
        group: Document = {
            "key": key, "project": project, "zone": zone, "name": name, "id": new_number(),
            "base_name": body.get("baseInstanceName") or name, "size": 0, "errors": [],
            "template": self._template_link(project, body), "created_at": time.time(),
            "given": _given(body),
        }  # fmt: skip
        check_name(group["base_name"], "resource.baseInstanceName")
        self._state.save_group(group)
        self.resize(group, int(body.get("targetSize") or 0))
        return group

    def patch(self, group: Document, body: Document) -> None:
        """Change what a body names of a group. Raises: ApiError."""
        if "instanceTemplate" in body or "versions" in body:
            group["template"] = self._template_link(group["project"], body)
        group["given"] |= _given(body)
        self._state.save_group(group)
        if "targetSize" in body:
            self.resize(group, int(body["targetSize"]))

    def _template_link(self, project: str, body: Document) -> str:
        versions = body.get("versions") or [{}]
        given = body.get("instanceTemplate") or versions[0].get("instanceTemplate") or ""
        name = given.rpartition("/")[2]
        if not name:
            raise invalid("resource.instanceTemplate", given, "The URL is malformed.")
        self._state.template(project, name)
        return link(project, f"global/instanceTemplates/{name}")

    def delete(self, group: Document) -> None:
        """Delete a group with all its instances."""
        for instance in self._state.members(group):
            self._lifecycle.delete(instance)
        group |= {"size": 0, "is_going": True}
        self._state.save_group(group)
        self.drop_empty()

    def drop_empty(self) -> None:
        """Forget groups that were deleted and whose last instance has gone."""
        for group in list(self._state.groups.values()):
            if group.get("is_going") and not self._state.members(group):
                self._state.drop_group(group)

    def create_instances(self, group: Document, configs: Iterable[Document]) -> None:
        """Create instances of the given names. Raises: ApiError, and then none is created."""
        names = [
            check_name(config.get("name"), f"resource.instances[{n}].name")
            for n, config in enumerate(configs)
        ]
        if not names:
            raise invalid("resource.instances", "", "At least one instance must be specified.")
        self._check_count(group, group["size"] + len(names), len(names))
        for number, name in enumerate(names):
            field = f"resource.instances[{number}].name"
            if name in names[:number]:
                raise invalid(field, name, "Instance names must be unique within the request.")
            taken = self._state.instances.get(f"{group['project']}/{group['zone']}/{name}")
            if taken is not None and taken["group"] == group["key"]:
                raise invalid(
                    field, name, "The managed instance group has an instance of this name."
                )
            if taken is not None:
                path = f"projects/{group['project']}/zones/{group['zone']}/instances/{name}"
                raise already_exists(path)
        for name in names:
            self._create(group, name)
        group["size"] += len(names)
        self._state.save_group(group)

    def _check_count(self, group: Document, size: int, change: int) -> None:
        listing = group["given"].get("listManagedInstancesResults", "PAGELESS")
        if size > _MOST_MEMBERS[listing]:
            raise invalid(
                "size", size, f"The group may have at most {_MOST_MEMBERS[listing]} instances."
            )
        if change > _MOST_PER_REQUEST:
            why = f"At most {_MOST_PER_REQUEST} instances may be changed in one request."
            raise invalid("resource.instances", change, why)

    def _create(self, group: Document, name: str) -> None:
        template = self._state.template(group["project"], group["template"].rpartition("/")[2])
        properties = template["properties"]
        items = (properties.get("metadata") or {}).get("items") or []
        self._lifecycle.create(
            {
                "key": f"{group['project']}/{group['zone']}/{name}", "name": name,
                "project": group["project"], "zone": group["zone"], "group": group["key"],
                "template": group["template"], "properties": properties, "boot_at": None,
                "metadata": {item["key"]: item.get("value", "") for item in items},
            }
        )  # fmt: skip

    def delete_instances(self, group: Document, body: Document) -> None:
        """Delete named members. Raises: ApiError, and then none is deleted."""
        given = body.get("instances") or []
        if not given:
            raise invalid("resource.instances", "", "At least one instance must be specified.")
        self._check_count(group, 0, len(given))
        names = dict.fromkeys(_member_name(group, url) for url in given)
        members = {m["name"]: m for m in self._state.members(group) if m["action"] != "DELETING"}
        outsiders = [name for name in names if name not in members]
        if outsiders and not body.get("skipInstancesOnValidationError"):
            path = f"projects/{group['project']}/zones/{group['zone']}/instances/{outsiders[0]}"
            raise ApiError(
                400,
                "invalid",
                f"Invalid value for field 'resource.instances': '{path}'. The instance is not a "
                "member of the managed instance group or is already being deleted.",
            )
        leaving = [members[name] for name in names if name in members]
        group["size"] -= len(leaving)
        self._state.save_group(group)
        for instance in leaving:
            self._lifecycle.delete(instance)

    def resize(self, group: Document, size: int) -> None:
        """Make names up, or choose victims, until the group has `size` members. Raises: ApiError."""
        if size < 0:
            raise invalid("size", size, "Must be greater than or equal to 0.")
        members = [m for m in self._state.members(group) if m["action"] != "DELETING"]
        self._check_count(group, size, abs(size - len(members)))
        for _ in range(size - len(members)):
            self._create(group, self._new_name(group))
        # The provider prefers those which do not run yet; its choice is not to be relied on.
        members.sort(key=lambda member: (member["status"] == "RUNNING", random.random()))
        for member in members[: max(len(members) - size, 0)]:
            self._lifecycle.delete(member)
        group["size"] = size
        self._state.save_group(group)

    def _new_name(self, group: Document) -> str:
        while True:
            name = f"{group['base_name'][:58]}-{''.join(random.choices(_LETTERS, k=4))}"
            if name not in self._state.used_names:
                return name

    def delete_instance(self, instance: Document) -> None:
        """Delete an instance behind its group's back: the group sees a failure, and may repair."""
        group = self._state.groups[instance["group"]]
        policy = group["given"].get("instanceLifecyclePolicy") or {}
        if policy.get("defaultActionOnFailure", "REPAIR") == "REPAIR":
            self._lifecycle.delete(instance, fate="recreate")
            return
        group["size"] -= 1
        self._state.save_group(group)
        self._lifecycle.delete(instance)

    def delete_template(self, project: str, name: str) -> Document:
        """Delete a template that no group uses. Raises: ApiError."""
        template = self._state.template(project, name)
        path = link(project, f"global/instanceTemplates/{name}")
        for group in self._state.groups.values():
            if group["template"] == path:
                raise ApiError(
                    400,
                    "resourceInUseByAnotherResource",
                    f"The instance_template resource 'projects/{project}/global/instanceTemplates/"
                    f"{name}' is already being used by 'projects/{project}/zones/{group['zone']}/"
                    f"instanceGroupManagers/{group['name']}'",
                )
        self._state.drop_template(project, name)
        return template


def _given(body: Document) -> Document:
    """Return what a body sets and the stand-in only keeps or reads."""
    kept = (
        "description", "updatePolicy", "instanceLifecyclePolicy", "autoHealingPolicies",
        "listManagedInstancesResults", "namedPorts", "targetPools", "standbyPolicy",
    )  # fmt: skip
    given = {name: body[name] for name in kept if name in body}
    listing = given.get("listManagedInstancesResults", "PAGELESS")
    if listing not in _MOST_MEMBERS:
        raise invalid("resource.listManagedInstancesResults", listing, "Unknown value.")
    return given


def _member_name(group: Document, url: str) -> str:
    """Return the name in an instance's URL, a partial URL, or a bare name. Raises: ApiError 400."""
    if "/" not in url:
        return check_name(url, "resource.instances")
    found = re.search(r"(?:^|/)zones/([^/]+)/instances/([^/]+)$", url)
    if found is None:
        raise invalid("resource.instances", url, "The URL is malformed.")
    if found[1] != group["zone"]:
        raise invalid("resource.instances", url, f"The zone must be {group['zone']}.")
    return found[2]
