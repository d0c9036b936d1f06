"""New evaluations, allocations and metrics in their wire form."""

import time
from typing import Any

from emulators.engine.placement import Quantity, Shortage
from emulators.nomad.state import Wire, new_id

_DISK_MB = 300


def new_eval(job: Wire, triggered_by: str, *, node_id: str = "") -> Wire:
    """Return an evaluation that is about to be worked on."""
    return {
        "ID": new_id(), "Namespace": "default", "Priority": job["Priority"],
        "Type": job["Type"], "TriggeredBy": triggered_by, "JobID": job["ID"],
        "JobModifyIndex": job["JobModifyIndex"], "NodeID": node_id, "Status": "pending",
        "StatusDescription": "", "NextEval": "", "PreviousEval": "", "BlockedEval": "",
        "FailedTGAllocs": None, "QueuedAllocations": {}, "CreateTime": time.time_ns(),
        "ClassEligibility": None, "EscapedComputedClass": False, "AnnotatePlan": False,
    }  # fmt: skip


def new_alloc(
    job: Wire, group: Wire, name: str, *, node: Wire, eval_: Wire, quantity: Quantity
) -> Wire:
    """Return an allocation of `group` placed on `node`, of which it takes `quantity`."""
    alloc: dict[str, Any] = {
        "ID": new_id(), "Namespace": "default", "EvalID": eval_["ID"], "Name": name,
        "NodeID": node["ID"], "NodeName": node["Name"], "JobID": job["ID"], "Job": job,
        "JobType": job["Type"], "JobVersion": job["Version"], "TaskGroup": group["Name"],
        "DesiredStatus": "run", "DesiredDescription": "",
        "DesiredTransition": {"Migrate": None, "Reschedule": None, "ForceReschedule": None},
        "ClientStatus": "pending", "ClientDescription": "", "TaskStates": None,
        "PreviousAllocation": "", "NextAllocation": "", "RescheduleTracker": None,
        "FollowupEvalID": "", "PreemptedAllocations": None, "PreemptedByAllocation": "",
        "DeploymentStatus": None, "CreateTime": time.time_ns(),
    }  # fmt: skip
    alloc["AllocatedResources"] = {
        "Shared": {
            "DiskMB": _DISK_MB,
            # Our own, for placement; it is not shown.
            "Quantity": [quantity.cpu_mhz, quantity.cores, quantity.memory_mib, quantity.slots],
        },
        "Tasks": {
            task["Name"]: {
                "Cpu": {"CpuShares": task["Resources"]["CPU"]},
                "Memory": {"MemoryMB": task["Resources"]["MemoryMB"]},
            }
            for task in group["Tasks"]
        },
    }
    return alloc


def metrics(shortage: Shortage, job: Wire) -> Wire:
    """Return why a group of `job` found no node."""
    filtered = {reason: n for reason, n in shortage.filtered.items() if reason != "datacenter"}
    node_count = shortage.places.total()
    return {
        "NodesEvaluated": node_count - shortage.filtered["datacenter"],
        "NodesFiltered": sum(filtered.values()),
        "NodesAvailable": {name: shortage.places[name] for name in job["Datacenters"]},
        "NodesInPool": node_count,
        "ClassFiltered": None,
        "ConstraintFiltered": filtered or None,
        "NodesExhausted": shortage.exhausted.total(),
        "ClassExhausted": None,
        "DimensionExhausted": dict(shortage.exhausted) or None,
        "Scores": None,
        "AllocationTime": 0,
        "CoalescedFailures": 0,
    }
