"""Jobs as they are registered: validation, defaults, and dispatched children.

Source: https://developer.hashicorp.com/nomad/api-docs/json-jobs, read 2026-11.
"""

import base64
import binascii
import copy
import signal
import time
import uuid
from typing import Any

from emulators.nomad.constraints import check, check_affinity
from emulators.nomad.errors import NomadError, refused

PAYLOAD_LIMIT_BYTES = 16 * 1024
_NS = 1_000_000_000
_SERVER_FIELDS = (
    "Status", "StatusDescription", "Stop", "Version", "SubmitTime", "CreateIndex", "ModifyIndex",
    "JobModifyIndex",
)  # fmt: skip


def canonical(job: dict[str, Any]) -> dict[str, Any]:
    """Return `job` with Nomad's defaults. Raises: NomadError when it cannot be registered."""
    if not job.get("ID"):
        raise NomadError(400, "Job ID hasn't been provided")
    job = copy.deepcopy(job)
    defaults: dict[str, Any] = {
        "Name": job["ID"], "Namespace": "default", "Region": "global", "Type": "service",
        "Priority": 50, "Datacenters": ["*"], "NodePool": "default", "AllAtOnce": False,
        "Constraints": None, "Affinities": None, "Meta": None, "ParameterizedJob": None,
        "Periodic": None, "ParentID": "", "Payload": None, "Dispatched": False, "Stable": False,
        "DispatchIdempotencyToken": "", "TaskGroups": None,
    }  # fmt: skip
    for name, value in defaults.items():
        if job.get(name) is None:
            job[name] = value
    _check(job)
    for group in job["TaskGroups"]:
        _complete_group(group)
    return job


def _check(job: dict[str, Any]) -> None:
    errors = []
    if job["Type"] != "batch":
        errors.append(f'this stand-in runs jobs of type "batch", not {job["Type"]!r}')
    if " " in job["ID"] or "\0" in job["ID"]:
        errors.append("Job ID contains a space")
    if not job["Datacenters"]:
        errors.append("Missing job datacenters")
    if not isinstance(job["Priority"], int) or not 1 <= job["Priority"] <= 100:
        errors.append("Job priority must be between [1, 100]")
    if not _is_string_map(job["Meta"]):
        errors.append("Meta must map strings to strings")
    if job["Periodic"] is not None:
        errors.append("this stand-in runs no periodic jobs")
    if not job["TaskGroups"]:
        errors.append("Missing job task groups")
    for number, group in enumerate(job["TaskGroups"] or (), start=1):
        errors += _group_errors(group, number)
    if errors:
        noun = "error" if len(errors) == 1 else "errors"
        listed = "".join(f"\t* {error}\n" for error in errors)
        raise refused(f"{len(errors)} {noun} occurred:\n{listed}\n")
    for owner in (job, *job["TaskGroups"], *(t for g in job["TaskGroups"] for t in g["Tasks"])):
        for constraint in owner.get("Constraints") or ():
            check(constraint)
        for affinity in owner.get("Affinities") or ():
            check_affinity(affinity)


def _group_errors(group: dict[str, Any], number: int) -> list[str]:
    name = group.get("Name")
    if not name:
        return [f"Job task group {number} missing name"]
    errors = []
    count = group.get("Count")
    if count is not None and (not isinstance(count, int) or count < 0):
        errors.append(f"Task group {name} validation failed: count can't be negative")
    if not group.get("Tasks"):
        errors.append(f"Task group {name} validation failed: Missing tasks for task group")
    for task in group.get("Tasks") or ():
        if not task.get("Name"):
            errors.append(f"Task group {name} validation failed: Task missing name")
        elif task.get("Driver") != "raw_exec":
            errors.append(f"Task {task['Name']}: these nodes have the driver raw_exec only")
        else:
            errors += _task_errors(task)
    return errors


def _task_errors(task: dict[str, Any]) -> list[str]:
    """Return what a client could not run of a task with a name and a driver."""
    name, config, errors = task["Name"], task.get("Config") or {}, []
    if not isinstance(config.get("command"), str) or not config["command"]:
        errors.append(f"Task {name}: missing command for raw_exec driver")
    if not isinstance(config.get("args") or [], list):
        errors.append(f"Task {name}: args must be a list")
    errors += [
        f"Task {name}: {field} must map strings to strings"
        for field in ("Env", "Meta")
        if not _is_string_map(task.get(field))
    ]
    if (task.get("KillSignal") or "SIGINT") not in signal.Signals.__members__:
        errors.append(f"Task {name}: unknown signal {task['KillSignal']!r}")
    numbers = {"KillTimeout": task.get("KillTimeout"), **(task.get("Resources") or {})}
    for field in ("KillTimeout", "CPU", "Cores", "MemoryMB", "MemoryMaxMB"):
        value = numbers.get(field) or 0
        if not isinstance(value, int) or value < 0:
            errors.append(f"Task {name}: {field} must be a whole number, not negative")
    most = numbers.get("MemoryMaxMB") or 0
    if not errors and 0 < most < (numbers.get("MemoryMB") or 0):
        errors.append(f"Task {name}: MemoryMaxMB must not be less than MemoryMB")
    return errors


def _is_string_map(value: object) -> bool:
    return value is None or (
        isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    )


def _complete_group(group: dict[str, Any]) -> None:
    if group.get("Count") is None:
        group["Count"] = 1
    restart = {"Attempts": 3, "Interval": 86_400 * _NS, "Delay": 15 * _NS, "Mode": "fail"}
    group["RestartPolicy"] = {**restart, **_given(group.get("RestartPolicy"))}
    reschedule = {
        "Attempts": 1, "Interval": 86_400 * _NS, "Delay": 5 * _NS, "DelayFunction": "constant",
        "MaxDelay": 0, "Unlimited": False,
    }  # fmt: skip
    group["ReschedulePolicy"] = {**reschedule, **_given(group.get("ReschedulePolicy"))}
    for task in group["Tasks"]:
        task["KillTimeout"] = task.get("KillTimeout") or 5 * _NS
        resources = {"CPU": 100, "Cores": 0, "MemoryMB": 300, "MemoryMaxMB": 0}
        given = _given(task.get("Resources"))
        if given.get("Cores"):
            resources["CPU"] = 0
        task["Resources"] = {**resources, **given}


def _given(block: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (block or {}).items() if value is not None}


def is_same_specification(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two jobs differ in nothing that a person would write."""
    return all(
        one.get(name) == other.get(name)
        for name in one.keys() | other.keys()
        if name not in _SERVER_FIELDS
    )


def dispatched(parent: dict[str, Any], body: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the child that a dispatch of `parent` makes. Raises: NomadError."""
    rules = parent.get("ParameterizedJob")
    if rules is None:
        raise refused(f'Specified job "{parent["ID"]}" is not a parameterized job')
    if parent["Stop"]:
        raise refused(f'Specified job "{parent["ID"]}" is stopped')
    payload, meta = body.get("Payload") or "", body.get("Meta") or {}
    _check_payload(rules, payload)
    required, optional = rules.get("MetaRequired") or [], rules.get("MetaOptional") or []
    if unpermitted := [name for name in meta if name not in required and name not in optional]:
        keys = " ".join(unpermitted)
        raise refused(f"Dispatch request included unpermitted metadata keys: [{keys}]")
    if missing := [name for name in required if name not in meta]:
        raise refused(f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")
    child = copy.deepcopy(parent)
    id_ = f"{parent['ID']}/dispatch-{int(time.time())}-{uuid.uuid4().hex[:8]}"
    return child | {
        "ID": id_, "Name": id_, "ParentID": parent["ID"], "Dispatched": True,
        "DispatchIdempotencyToken": token, "Meta": {**(parent["Meta"] or {}), **meta},
        "Payload": payload or None,
    }  # fmt: skip


def _check_payload(rules: dict[str, Any], payload: str) -> None:
    try:
        size = len(base64.b64decode(payload, validate=True))
    except binascii.Error as exc:
        raise NomadError(400, f"Payload is not base64: {exc}") from exc
    wanted = rules.get("Payload") or "optional"
    if wanted == "required" and not size:
        raise refused("Payload is not provided but required by parameterized job")
    if wanted == "forbidden" and size:
        raise refused("Payload provided but forbidden by parameterized job")
    if size > PAYLOAD_LIMIT_BYTES:
        raise refused(f"Payload exceeds maximum size; {size} > {PAYLOAD_LIMIT_BYTES}")
