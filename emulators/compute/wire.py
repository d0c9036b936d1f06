"""How the API shows what the tables hold.

Source: https://cloud.google.com/compute/docs/reference/rest/v1, read 2026-11.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from emulators.compute.errors import ApiError, invalid
from emulators.compute.state import Document, timestamp

_BASE = "https://www.googleapis.com/compute/v1"
_ACTIONS = {
    "ABANDONING": "abandoning", "CREATING": "creating",
    "CREATING_WITHOUT_RETRIES": "creatingWithoutRetries", "DELETING": "deleting", "NONE": "none",
    "RECREATING": "recreating", "REFRESHING": "refreshing", "RESTARTING": "restarting",
    "VERIFYING": "verifying",
}  # fmt: skip
_CONDITION = re.compile(r"\(?\s*([\w.]+)\s*(!=|=|:|\beq\b|\bne\b)\s*\"?([^\"()]*?)\"?\s*\)?")


def link(project: str, path: str) -> str:
    """Return the full URL of a resource."""
    return f"{_BASE}/projects/{project}/{path}"


def zone_link(document: Document) -> str:
    """Return the full URL of a document's zone."""
    return link(document["project"], f"zones/{document['zone']}")


def instance_link(instance: Document) -> str:
    """Return the full URL of an instance."""
    return f"{zone_link(instance)}/instances/{instance['name']}"


def group_link(group: Document) -> str:
    """Return the full URL of a managed group."""
    return f"{zone_link(group)}/instanceGroupManagers/{group['name']}"


def operation(found: Document) -> Document:
    """Return an operation as it is now."""
    now, project, scope = time.time(), found["project"], found["scope"]
    is_done, is_running = now >= found["ended_at"], now >= found["started_at"]
    shown: Document = {
        "kind": "compute#operation",
        "id": found["id"],
        "name": found["name"],
        "operationType": found["kind"],
        "targetLink": found["target"],
        "targetId": found["target_id"],
        "status": "DONE" if is_done else "RUNNING" if is_running else "PENDING",
        "progress": 100 if is_done else 0,
        "user": "emulator@example.com",
        "insertTime": timestamp(found["inserted_at"]),
        "selfLink": link(project, f"{scope}/operations/{found['name']}"),
    }
    if scope != "global":
        shown["zone"] = link(project, scope)
    if found["request_id"]:
        shown["clientOperationId"] = found["request_id"]
    if is_running:
        shown["startTime"] = timestamp(found["started_at"])
    if is_done:
        shown["endTime"] = timestamp(found["ended_at"])
    if is_done and found["error"] is not None:
        shown["error"] = {"errors": [{k: found["error"][k] for k in ("code", "message")}]}
        shown["httpErrorStatusCode"] = found["error"]["status"]
        shown["httpErrorMessage"] = found["error"]["status_text"]
    return shown


def template(found: Document) -> Document:
    """Return an instance template."""
    project = found["project"]
    return {
        "kind": "compute#instanceTemplate",
        "id": found["id"],
        "name": found["name"],
        "description": found["description"],
        "creationTimestamp": timestamp(found["created_at"]),
        "properties": found["properties"],
        "selfLink": link(project, f"global/instanceTemplates/{found['name']}"),
    }


def instance(found: Document) -> Document:
    """Return an instance."""
    properties = found["properties"]
    zone = zone_link(found)
    shown: Document = {
        "kind": "compute#instance",
        "id": found["id"],
        "name": found["name"],
        "creationTimestamp": timestamp(found["created_at"]),
        "status": found["status"],
        "zone": zone,
        "machineType": f"{zone}/machineTypes/{properties['machineType']}",
        "labels": properties.get("labels") or {},
        "labelFingerprint": "42WmSpB8rSM=",
        "metadata": {"kind": "compute#metadata", "fingerprint": "x", "items": _items(found)},
        "scheduling": scheduling(properties.get("scheduling") or {}),
        "networkInterfaces": [{"name": "nic0", "networkIP": "127.0.0.1"}],
        "selfLink": instance_link(found),
    }
    if found["started_at"] is not None:
        shown["lastStartTimestamp"] = timestamp(found["started_at"])
    if found["stopped_at"] is not None:
        shown["lastStopTimestamp"] = timestamp(found["stopped_at"])
    return shown


def _items(found: Document) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in found["metadata"].items()]


def is_spot(scheduling: Document) -> bool:
    """Return whether instances with this scheduling may be preempted."""
    return bool(scheduling.get("preemptible")) or scheduling.get("provisioningModel") == "SPOT"


def scheduling(given: Document) -> Document:
    """Return what an instance's scheduling is where only some of it was given."""
    spot = is_spot(given)
    return {
        "automaticRestart": not spot,
        "onHostMaintenance": "TERMINATE" if spot else "MIGRATE",
        "provisioningModel": "SPOT" if spot else "STANDARD",
        **given,
        "preemptible": spot,
    }


def group(found: Document, members: list[Document]) -> Document:
    """Return a managed group with its status."""
    actions = Counter(member["action"] for member in members)
    zone = zone_link(found)
    counts = {shown: actions.get(action, 0) for action, shown in _ACTIONS.items()}
    return {
        **found["given"],
        "kind": "compute#instanceGroupManager",
        "id": found["id"],
        "name": found["name"],
        "creationTimestamp": timestamp(found["created_at"]),
        "zone": zone,
        "baseInstanceName": found["base_name"],
        "instanceTemplate": found["template"],
        "versions": [{"instanceTemplate": found["template"], "targetSize": {"calculated": found["size"]}}],
        "instanceGroup": f"{zone}/instanceGroups/{found['name']}",
        "targetSize": found["size"],
        "fingerprint": "x" * 11 + "=",
        "currentActions": counts,
        "status": {
            "isStable": set(actions) <= {"NONE"},
            "versionTarget": {"isReached": True},
            "stateful": {"hasStatefulConfig": False, "perInstanceConfigs": {"allEffective": True}},
        },
        "instanceLifecyclePolicy": {
            "defaultActionOnFailure": "REPAIR", "forceUpdateOnRepair": "NO",
            **(found["given"].get("instanceLifecyclePolicy") or {}),
        },
        "listManagedInstancesResults": found["given"].get("listManagedInstancesResults", "PAGELESS"),
        "selfLink": group_link(found),
    }  # fmt: skip


def managed_instance(found: Document) -> Document:
    """Return an instance as its group lists it: status and id only once it exists."""
    shown: Document = {
        "instance": instance_link(found),
        "name": found["name"],
        "currentAction": found["action"],
        "version": {"instanceTemplate": found["template"]},
    }
    if found["status"] is not None:
        shown |= {"id": found["id"], "instanceStatus": found["status"]}
    if found["errors"]:
        shown["lastAttempt"] = {"errors": {"errors": found["errors"]}}
    return shown


def group_error(error: Document, found: Document) -> Document:
    """Return one entry of a group's listErrors."""
    return {
        "error": {"code": error["code"], "message": error["message"]},
        "instanceActionDetails": {
            "action": error["action"],
            "instance": f"{zone_link(found)}/instances/{error['instance']}",
            "version": {"instanceTemplate": error["template"]},
        },
        "timestamp": timestamp(error["at"]),
    }


def page(values: list[Any], query: dict[str, str], field: str, kind: str | None = None) -> Document:
    """Return the page of `values` that `query` asks for, under `field`. Raises: ApiError 400."""
    shown: Document = {field: values}
    if kind is not None:
        shown["kind"] = kind
    try:
        size = int(query.get("maxResults") or 500)
        start = int(query.get("pageToken") or 0)
    except ValueError as exc:
        raise invalid("pageToken", query.get("pageToken"), "The page token is invalid.") from exc
    if not 0 < size <= 500 and "maxResults" in query:
        raise invalid("maxResults", size, "Must be between 1 and 500.")
    shown[field] = values[start : start + size]
    if start + size < len(values):
        shown["nextPageToken"] = str(start + size)
    return shown


def aggregated(
    values: Iterable[Document],
    show: Callable[[Document], Document],
    query: dict[str, str],
    field: str,
) -> Document:
    """Return the documents of all zones, by zone."""
    wanted = page(filtered([(v, show(v)) for v in values], query), query, "found")
    items: dict[str, Document] = {}
    for found, shown in wanted.pop("found"):
        items.setdefault(f"zones/{found['zone']}", {field: []})[field].append(shown)
    return {"items": items, **wanted}


def filtered(
    values: list[tuple[Document, Document]], query: dict[str, str]
) -> list[tuple[Document, Document]]:
    """Return the pairs whose shown half meets the query's filter: conditions joined by AND."""
    text = query.get("filter", "").strip()
    if not text:
        return values
    conditions = []
    for part in re.split(r"\s+AND\s+|(?<=\))\s*(?=\()", text):
        found = _CONDITION.fullmatch(part)
        if found is None:
            raise ApiError(400, "invalid", f"Invalid value for field 'filter': '{text}'.")
        conditions.append((found[1], found[2], found[3]))
    return [pair for pair in values if all(_meets(pair[1], *c) for c in conditions)]


def _meets(shown: Document, field: str, operator: str, wanted: str) -> bool:
    value: Any = shown
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if operator == "=":
        pattern = ".*".join(re.escape(part) for part in wanted.split("*"))
        return re.fullmatch(pattern, text) is not None
    if operator == "!=":
        return not _meets(shown, field, "=", wanted)
    if operator == ":":
        return value is not None if wanted == "*" else wanted in text
    is_equal = re.fullmatch(wanted, text) is not None
    return is_equal if operator == "eq" else not is_equal
