"""The Scheduler of shared/ports.py on AWS Batch: one job per attempt, on a queue per instance type and price class.

Batch starts and ends machines by itself, in whichever zone it finds them, so it has no nodes to list, and the fleet
beside it is `managed`. Queues are found by their tags (`baton-orchestrator`, `baton-instance-type`,
`baton-preemptible`); the job definition of a queue has the queue's name. Batch knows no token that makes a submission
unique: we look for the name first. Two that look at the same moment make two jobs, of which only one agent gets the
attempt. Batch removes no job: one that is forgotten carries a tag. It can be told of no zone and no machine that an
attempt avoids; who starts on such a machine is refused when it claims its attempt.
Source: https://docs.aws.amazon.com/batch/latest/APIReference/, read 2026-11.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

from shared import aws
from shared.errors import CloudError, RateLimited, Unreachable
from shared.models.account import Gpus
from shared.models.farm import Node, Placement, Shape, Stage
from shared.models.task import Outcome
from shared.ports import SubmittedAttempt

ERRORS: Mapping[str | int, type[CloudError]] = {
    "ThrottlingException": RateLimited,
    "TooManyRequestsException": RateLimited,
    429: RateLimited,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}

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

CONNECT_S, READ_S = 5, 60
PER_PAGE = 100
AT_ONCE = 8

# Of jobs that ended, those submitted since are shown; Batch itself keeps them for a week.
SHOWN = timedelta(hours=6)
FORGOTTEN_TAG = "baton-forgotten"

# An attempt gets a machine of its own by asking for all cores. Of the memory it asks for less than there is, because
# the system and the container agent take some; the agent limits the renderer by itself.
MEMORY_SHARE = 0.8
# Who shares a queue with a scheduling policy: all of ours are one, so that only priority and age count.
SHARE = "baton"
MAX_PRIORITY = 9999

Wire = Mapping[str, Any]


@dataclass(frozen=True)
class _Queue:
    """A queue of ours; only one with a scheduling policy knows priorities."""

    name: str
    shape: Shape
    has_priorities: bool


class BatchScheduler:
    """The attempts of one orchestrator. `endpoint` is set only where the API is not Amazon's own.

    Shapes: `gpus` has those of the instance types that have any.
    """

    def __init__(
        self,
        region: str,
        *,
        orchestrator_id: str,
        endpoint: str = "",
        gpus: Mapping[str, Gpus] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._orchestrator_id = orchestrator_id
        self._gpus = gpus or {}
        self._now = now
        self._known: dict[Shape, _Queue] = {}
        self._seen: Mapping[str, Sequence[Wire]] = {}
        self._client = boto3.session.Session().client(
            "batch",
            region_name=region,
            endpoint_url=endpoint or None,
            config=Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=AT_ONCE,
            ),
        )

    def submit(self, attempt: SubmittedAttempt) -> None:
        with _translated(f"submitting {attempt.ref.attempt_id}"):
            queue = self._queue(attempt.shape)
            if not self._named(queue, attempt.ref.attempt_id):
                gpus = self._gpus.get(attempt.shape.instance_type)
                asked = job_of(attempt, queue.name, self._orchestrator_id, gpus=gpus)
                if queue.has_priorities:
                    asked |= priority_of(attempt)
                self._client.submit_job(**asked)

    def cancel(self, attempt_id: str) -> None:
        with _translated(f"cancelling {attempt_id}"):
            for job in self._find(attempt_id):
                if job["status"] in LIVE:
                    self._client.terminate_job(jobId=job["jobId"], reason="cancelled by Baton")

    def placements(self) -> list[Placement]:
        with _translated("listing jobs"), ThreadPoolExecutor(AT_ONCE) as threads:
            queues = list(self._queues().values())
            listed = dict(zip(queues, threads.map(self._list, queues), strict=True))
            placed = [
                job["jobId"]
                for jobs in listed.values()
                for job in jobs
                if STAGES[job["status"]] is not Stage.WAITING
            ]
            details = {
                job["jobId"]: job
                for some in threads.map(self._describe, _batches(placed))
                for job in some
            }
        found: dict[str, list[tuple[Placement, Wire]]] = defaultdict(list)
        for queue, jobs in listed.items():
            for each in jobs:
                job = details.get(each["jobId"], each)
                if FORGOTTEN_TAG not in job.get("tags", {}) or job["status"] in LIVE:
                    found[job["jobName"]].append((_placement(job, queue.shape), job))
        self._seen = {name: [job for _, job in same] for name, same in found.items()}
        return [min((each for each, _ in same), key=_rank) for same in found.values()]

    def nodes(self) -> list[Node]:
        return []

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        return

    def forget(self, attempt_ids: Sequence[str]) -> None:
        with _translated("forgetting jobs"), ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._forget, attempt_ids))

    def _forget(self, attempt_id: str) -> None:
        for job in self._seen.get(attempt_id) or self._find(attempt_id):
            self._client.tag_resource(resourceArn=job["jobArn"], tags={FORGOTTEN_TAG: "true"})

    def _queue(self, shape: Shape) -> _Queue:
        """Return the queue for a shape. Raises: CloudError when there is none yet."""
        queue = self._known.get(shape) or self._queues().get(shape)
        if queue is None:
            raise CloudError(f"batch: {self._orchestrator_id} has no queue for {shape.name}")
        return queue

    def _queues(self) -> Mapping[Shape, _Queue]:
        """Return this orchestrator's queues as they are now."""
        found: dict[Shape, _Queue] = {}
        for page in self._client.get_paginator("describe_job_queues").paginate():
            for queue in page["jobQueues"]:
                tags = queue.get("tags", {})
                if tags.get("baton-orchestrator") == self._orchestrator_id:
                    is_preemptible = tags.get("baton-preemptible") == "true"
                    shape = Shape(tags.get("baton-instance-type", ""), is_preemptible)
                    found[shape] = _Queue(
                        queue["jobQueueName"], shape, bool(queue.get("schedulingPolicyArn"))
                    )
        self._known = found
        return found

    def _list(self, queue: _Queue) -> Iterable[Wire]:
        """Return all live jobs of a queue, and those that ended lately; what was read last counts."""
        since = int((self._now() - SHOWN).timestamp() * 1000)
        asked: list[Wire] = [{"jobStatus": status} for status in LIVE]
        asked.append({"filters": [{"name": "AFTER_CREATED_AT", "values": [str(since)]}]})
        found: dict[str, Wire] = {}
        for each in asked:
            found |= {job["jobId"]: job for job in self._pages(queue, each)}
        return found.values()

    def _find(self, attempt_id: str) -> list[Wire]:
        """Return the jobs of an attempt, on whichever queue."""
        return [job for queue in self._queues().values() for job in self._named(queue, attempt_id)]

    def _named(self, queue: _Queue, attempt_id: str) -> list[Wire]:
        wanted = {"filters": [{"name": "JOB_NAME", "values": [attempt_id]}]}
        # The filter takes capital letters for small ones.
        return [job for job in self._pages(queue, wanted) if job["jobName"] == attempt_id]

    def _pages(self, queue: _Queue, asked: Wire) -> Iterator[Wire]:
        pages = self._client.get_paginator("list_jobs").paginate(
            jobQueue=queue.name, PaginationConfig={"PageSize": PER_PAGE}, **asked
        )
        for page in pages:
            yield from page["jobSummaryList"]

    def _describe(self, job_ids: Sequence[str]) -> Sequence[Wire]:
        found: Sequence[Wire] = self._client.describe_jobs(jobs=list(job_ids))["jobs"]
        return found


def job_of(
    attempt: SubmittedAttempt, queue: str, orchestrator_id: str, *, gpus: Gpus | None = None
) -> dict[str, Any]:
    """Return the request that has Batch run an attempt once and never again by itself."""
    memory_mib = max(int(attempt.memory_mib * MEMORY_SHARE), 4)
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


def _placement(job: Wire, shape: Shape) -> Placement:
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


def _rank(placement: Placement) -> tuple[int, datetime]:
    """Order the jobs of one attempt: what runs before what may yet run before what is over, the first one first."""
    order = (Stage.STARTED, Stage.WAITING)
    place = order.index(placement.stage) if placement.stage in order else len(order)
    assert placement.submitted_at is not None, "every job was submitted at some time"
    return place, placement.submitted_at


def _at(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _batches(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(job_ids), PER_PAGE):
        yield job_ids[start : start + PER_PAGE]


def _translated(doing: str) -> AbstractContextManager[None]:
    """Turn the provider's errors into ours."""
    return aws.translated(f"batch: {doing}", ERRORS)
