"""How the API shows what the tables hold: list stubs, summaries, and what is left out."""

from typing import Any

from emulators.nomad.scheduling import is_parameterized
from emulators.nomad.state import State, Wire

_ALLOC_STUB = (
    "ID", "EvalID", "Name", "Namespace", "NodeID", "NodeName", "JobID", "JobType", "JobVersion",
    "TaskGroup", "DesiredStatus", "DesiredDescription", "DesiredTransition", "ClientStatus",
    "ClientDescription", "DeploymentStatus", "FollowupEvalID", "PreviousAllocation",
    "NextAllocation", "RescheduleTracker", "PreemptedAllocations", "PreemptedByAllocation",
    "CreateIndex", "ModifyIndex", "CreateTime", "ModifyTime",
)  # fmt: skip
_NODE_STUB = (
    "ID", "Name", "Datacenter", "NodeClass", "NodePool", "Status", "StatusDescription", "Drain",
    "SchedulingEligibility", "Drivers", "LastDrain", "CreateIndex", "ModifyIndex",
)  # fmt: skip
_JOB_STUB = (
    "ID", "ParentID", "Name", "Namespace", "Datacenters", "NodePool", "Type", "Priority", "Stop",
    "Status", "StatusDescription", "Version", "CreateIndex", "ModifyIndex", "JobModifyIndex",
    "SubmitTime",
)  # fmt: skip


def alloc_stub(alloc: Wire, query: dict[str, str]) -> Wire:
    """Return an allocation as lists show it."""
    stub = {name: alloc[name] for name in _ALLOC_STUB}
    if query.get("task_states", "true") != "false":
        stub["TaskStates"] = alloc["TaskStates"]
    if query.get("resources") == "true":
        stub["AllocatedResources"] = alloc_resources(alloc)
    return stub


def alloc_resources(alloc: Wire) -> Wire:
    """Return what an allocation takes, without our own bookkeeping."""
    return {
        "Shared": {"DiskMB": alloc["AllocatedResources"]["Shared"]["DiskMB"]},
        "Tasks": alloc["AllocatedResources"]["Tasks"],
    }


def alloc_full(alloc: Wire) -> Wire:
    """Return an allocation as it is shown on its own."""
    return {**alloc, "AllocatedResources": alloc_resources(alloc)}


def node_stub(node: Wire, query: dict[str, str]) -> Wire:
    """Return a node as lists show it."""
    stub = {name: node[name] for name in _NODE_STUB}
    stub |= {"Address": "127.0.0.1", "Version": node["Attributes"].get("nomad.version", "")}
    if query.get("resources") == "true":
        stub |= {"NodeResources": node["NodeResources"], "ReservedResources": None}
    if query.get("os") == "true":
        stub["Attributes"] = {"os.name": node["Attributes"].get("os.name", "")}
    return stub


def job_summary(state: State, job: Wire) -> Wire:
    """Return the counts of a job's allocations, by group."""
    groups = {group["Name"]: group for group in job["TaskGroups"]}
    empty = ("Queued", "Complete", "Failed", "Running", "Starting", "Lost", "Unknown")
    counts: dict[str, dict[str, int]] = {name: dict.fromkeys(empty, 0) for name in groups}
    columns = {"pending": "Starting"}
    newest = job["CreateIndex"]
    allocs = state.job_allocs(job["ID"])
    for alloc in allocs:
        if alloc["TaskGroup"] in counts:
            status = alloc["ClientStatus"]
            counts[alloc["TaskGroup"]][columns.get(status, status.title())] += 1
        newest = max(newest, alloc["ModifyIndex"])
    if not job["Stop"] and not is_parameterized(job):
        for name, group in groups.items():
            seen = {alloc["Name"] for alloc in allocs if alloc["TaskGroup"] == name}
            counts[name]["Queued"] = max(group["Count"] - len(seen), 0)
    return {
        "JobID": job["ID"], "Namespace": "default", "Summary": counts,
        "Children": {"Pending": 0, "Running": 0, "Dead": 0},
        "CreateIndex": job["CreateIndex"], "ModifyIndex": newest,
    }  # fmt: skip


def job_stub(state: State, job: Wire, query: dict[str, str]) -> Wire:
    """Return a job as lists show it."""
    stub: dict[str, Any] = {name: job[name] for name in _JOB_STUB}
    stub |= {
        "Periodic": False,
        "ParameterizedJob": is_parameterized(job),
        "JobSummary": job_summary(state, job),
    }
    if query.get("meta") == "true":
        stub["Meta"] = job["Meta"]
    return stub
