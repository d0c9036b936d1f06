"""The jobs of AWS Batch: what we ask of it for an attempt, and what it tells of one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.models.account import Gpus
from shared.models.farm import Placement, Shape, Stage
from shared.models.task import Outcome
from shared.ports import SubmittedAttempt

STAGES: Mapping[str, Stage] = {
    "SUBMITTED": Stage.WAITING,
    "PENDING": Stage.WAITING,
    "RUNNABLE": Stage.WAITING,
    "STARTING": Stage.STARTED,
    "RUNNING": Stage.STARTED,
    "SUCCEEDED": Stage.ENDED,
    "FAILED": Stage.ENDED,
}
# In the order in which a job passes through: whoever reads them so misses none.
LIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
# Why a job failed whose machine went; whether it was taken back or broke, it does not say.
# Source: https://docs.aws.amazon.com/batch/latest/userguide/bestpractice6.html, read 2026-11.
MACHINE_GONE = "Host EC2"
# How a container's own reason begins that had more memory than it may.
# Source: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html, read 2026-11.
OUT_OF_MEMORY = "OutOfMemoryError"

# An attempt gets a machine of its own by asking for all cores. Of the memory it is meant to get, which is less than
# the machine's by a sixteenth, it asks for nearly all: what firmware and kernel keep is less than that on large
# machines, and more on small ones by something that does not grow with them; the container agent keeps 32 MiB. A job
# that asks for more than any machine registers would never start. The agent limits the renderer by itself.
# Source: https://docs.aws.amazon.com/batch/latest/userguide/memory-management.html, read 2026-11.
KEPT_BACK_MIB = 256
# Who shares a queue with a scheduling policy: all of ours are one, so that only priority and age count.
SHARE = "baton"
MAX_PRIORITY = 9999

Wire = Mapping[str, Any]


def job_of(
    attempt: SubmittedAttempt, queue: str, orchestrator_id: str, *, gpus: Gpus | None = None
) -> dict[str, Any]:
    """Return the request that has Batch run an attempt once and never again by itself."""
    memory_mib = max(attempt.memory_mib - KEPT_BACK_MIB, attempt.memory_mib // 2, 4)
    needs = {"VCPU": attempt.cores, "MEMORY": memory_mib}
    needs |= {"GPU": gpus.count} if gpus else {}
    return {
        "jobName": attempt.ref.attempt_id,
        "jobQueue": queue,
        "jobDefinition": queue,
        "containerOverrides": {
            "environment": [
                {"name": name, "value": value} for name, value in attempt.environment.items()
            ],
            "resourceRequirements": [
                {"type": name, "value": str(amount)} for name, amount in needs.items()
            ],
        },
        "retryStrategy": {"attempts": 1},
        "propagateTags": True,
        "tags": {
            "baton-attempt": attempt.ref.attempt_id,
            "baton-orchestrator": orchestrator_id,
        },
    }


def priority_of(attempt: SubmittedAttempt) -> dict[str, Any]:
    """Return what a job on a queue with a scheduling policy must say, and on another must not."""
    priority = min(max(attempt.priority, 0), MAX_PRIORITY)
    return {"shareIdentifier": SHARE, "schedulingPriorityOverride": priority}


def placement_of(job: Wire, shape: Shape) -> Placement:
    """Return where an attempt is, by one of its jobs."""
    stage = STAGES[job["status"]]
    if job["status"] == "FAILED" and job.get("statusReason", "").startswith(MACHINE_GONE):
        stage = Stage.LOST
    container = job.get("container", {})
    host = container.get("containerInstanceArn", "")
    is_oom = job["status"] == "FAILED" and container.get("reason", "").startswith(OUT_OF_MEMORY)
    return Placement(
        attempt_id=job["jobName"],
        shape=shape,
        stage=stage,
        instance=host.rpartition("/")[2],
        submitted_at=_at(job["createdAt"]),
        started_at=_at(job.get("startedAt")),
        ended_at=_at(job.get("stoppedAt")),
        cause=Outcome.OUT_OF_MEMORY if is_oom else None,
    )


def rank(placement: Placement) -> tuple[int, datetime]:
    """Order the jobs of one attempt: what runs before what may yet run before what is over, the first one first."""
    order = (Stage.STARTED, Stage.WAITING)
    place = order.index(placement.stage) if placement.stage in order else len(order)
    assert placement.submitted_at is not None, "every job was submitted at some time"
    return place, placement.submitted_at


def _at(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
