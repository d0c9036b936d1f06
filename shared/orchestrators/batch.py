"""The Scheduler of shared/ports.py on AWS Batch: one job per attempt, on a queue per instance type and price class.

Batch starts and ends machines by itself, in whichever zone it finds them, so it has no nodes to list, and the fleet
beside it is `managed`. Queues are found by their tags (`baton-orchestrator`, `baton-instance-type`,
`baton-preemptible`); the job definition of a queue has the queue's name. Batch knows no token that makes a submission
unique: we look for the name first. Two that look at the same moment make two jobs, of which only one agent gets the
attempt, and so do calls that are repeated after an answer got lost. Batch removes no job: one that is forgotten carries
a tag. It can be told of no zone and no machine that an attempt avoids; who starts on such a machine is refused when it
claims its attempt. So no placement says which zones it avoids: nobody but Batch starts machines for it.
Source: https://docs.aws.amazon.com/batch/latest/APIReference/, read 2026-11.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import boto3
from botocore.config import Config

from shared import aws
from shared.errors import CloudError, RateLimited, Unplaceable, Unreachable
from shared.models.account import Gpus
from shared.models.farm import Node, Placement, Shape, Stage
from shared.orchestrators.batch_jobs import (
    LIVE,
    STAGES,
    Wire,
    job_of,
    placement_of,
    priority_of,
    rank,
)
from shared.ports import SubmittedAttempt

ERRORS: Mapping[str | int, type[CloudError]] = {
    "ThrottlingException": RateLimited,
    "TooManyRequestsException": RateLimited,
    429: RateLimited,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}

CONNECT_S, READ_S = 5, 60
PER_PAGE = 100
AT_ONCE = 8

# A submission is two calls, and Amazon allows some fifty a second in all, whoever makes them. Those of a burst that it
# refuses are made again, waiting longer each time. It is the calls that are repeated; a job is tried once.
SUBMIT_TRIES = 6

# At its first look a process is shown the jobs that ended and were submitted since then; Batch keeps them for a week.
# At a later look it asks again for each that it saw at the one before, until it is forgotten, so that of the others
# only those are of interest that were submitted after it: by whichever process, and each process has looks of its
# own. Clocks differ, and the list is a little late.
SHOWN = timedelta(hours=6)
LIST_DELAY = timedelta(minutes=5)
FORGOTTEN_TAG = "baton-forgotten"
MOST_OVERLOOKED = 1000


@dataclass(frozen=True)
class _Queue:
    """A queue of ours; only one with a scheduling policy knows priorities."""

    name: str
    shape: Shape
    has_priorities: bool


@dataclass(frozen=True)
class _Look:
    """What a look found: when it began, and the queues of all jobs that it told of, by job id."""

    begun_at: datetime
    queues: Mapping[str, _Queue]


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
        self._last: _Look | None = None
        self._overlooked: dict[
            str, _Queue
        ] = {}  # by job id, what is over and may be in no look of ours
        self._forgotten: set[str] = set()  # job ids, no more than the next look may list
        session = boto3.session.Session()

        def client(tries: int) -> Any:
            config = Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": tries},
                max_pool_connections=AT_ONCE,
            )
            return session.client(
                "batch", region_name=region, endpoint_url=endpoint or None, config=config
            )

        self._client, self._submitting = client(1), client(SUBMIT_TRIES)

    def submit(self, attempt: SubmittedAttempt) -> None:
        with _translated(f"submitting {attempt.ref.attempt_id}"):
            queue = self._queue(attempt.shape)
            same = self._named(self._submitting, queue, attempt.ref.attempt_id)
            if same and all(job["status"] not in LIVE for job in same):
                self._note_overlooked(same, queue)
            if not same:
                gpus = self._gpus.get(attempt.shape.instance_type)
                asked = job_of(attempt, queue.name, self._orchestrator_id, gpus=gpus)
                if queue.has_priorities:
                    asked |= priority_of(attempt)
                self._submitting.submit_job(**asked)

    def _note_overlooked(self, jobs: Sequence[Wire], queue: _Queue) -> None:
        """Have our next look tell of jobs that are over: whoever submits one again has not heard of its end."""
        if len(self._overlooked) >= MOST_OVERLOOKED:  # this process does not look
            self._overlooked.clear()
        self._overlooked |= dict.fromkeys((job["jobId"] for job in jobs), queue)

    def cancel(self, attempt_id: str) -> None:
        with _translated(f"cancelling {attempt_id}"):
            for job in self._find(attempt_id):
                if job["status"] in LIVE:
                    self._client.terminate_job(jobId=job["jobId"], reason="cancelled by Baton")

    def placements(self) -> list[Placement]:
        begun_at, last = self._now(), self._last
        overlooked = dict(self._overlooked)
        where = {**overlooked, **(last.queues if last else {})}
        since = last.begun_at - LIST_DELAY if last else begun_at - SHOWN
        jobs: dict[str, Wire] = {}
        with _translated("listing jobs"), ThreadPoolExecutor(AT_ONCE) as threads:
            queues = list(self._queues().values())
            listed = threads.map(self._list, queues, repeat(since))
            for queue, some in zip(queues, listed, strict=True):
                jobs |= some
                where |= dict.fromkeys(some, queue)
            unclear = [
                job_id
                for job_id in where.keys() - self._forgotten
                if job_id not in jobs or STAGES[jobs[job_id]["status"]] is not Stage.WAITING
            ]
            for details in threads.map(self._describe, _batches(unclear)):
                jobs |= {job["jobId"]: job for job in details}
        for job_id in overlooked:
            self._overlooked.pop(job_id, None)
        forgotten = {job_id for job_id, job in jobs.items() if self._is_forgotten(job)}
        self._forgotten = forgotten
        self._last = _Look(begun_at, {each: where[each] for each in jobs.keys() - forgotten})
        found: dict[str, list[tuple[Placement, Wire]]] = defaultdict(list)
        for job_id, queue in self._last.queues.items():
            job = jobs[job_id]
            found[job["jobName"]].append((placement_of(job, queue.shape), job))
        self._seen = {name: [job for _, job in same] for name, same in found.items()}
        return [min((each for each, _ in same), key=rank) for same in found.values()]

    def nodes(self) -> list[Node]:
        return []

    def joined_at(self, node_ids: Sequence[str]) -> Mapping[str, datetime]:
        return {}

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        return

    def forget(self, attempt_ids: Sequence[str]) -> None:
        with _translated("forgetting jobs"), ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._forget, attempt_ids))

    def _forget(self, attempt_id: str) -> None:
        for job in self._seen.get(attempt_id) or self._find(attempt_id):
            self._client.tag_resource(resourceArn=job["jobArn"], tags={FORGOTTEN_TAG: "true"})
            if job["status"] not in LIVE:
                self._forgotten.add(job["jobId"])

    def _is_forgotten(self, job: Wire) -> bool:
        """Tell whether a job is over and struck off; the list has no tags, so we remember which were."""
        is_struck = FORGOTTEN_TAG in job.get("tags", {}) or job["jobId"] in self._forgotten
        return is_struck and job["status"] not in LIVE

    def _queue(self, shape: Shape) -> _Queue:
        """Return the queue for a shape. Raises: Unplaceable when there is none yet."""
        queue = self._known.get(shape) or self._queues().get(shape)
        if queue is None:
            raise Unplaceable(f"batch: {self._orchestrator_id} has no queue for {shape.name}")
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

    def _list(self, queue: _Queue, since: datetime) -> Mapping[str, Wire]:
        """Return all live jobs of a queue by id, and all submitted since then; what was read last counts."""
        value = str(int(since.timestamp() * 1000))
        asked: list[Wire] = [{"jobStatus": status} for status in LIVE]
        asked.append({"filters": [{"name": "AFTER_CREATED_AT", "values": [value]}]})
        found: dict[str, Wire] = {}
        for each in asked:
            found |= {job["jobId"]: job for job in _pages(self._client, queue, each)}
        return found

    def _find(self, attempt_id: str) -> list[Wire]:
        """Return the jobs of an attempt, on whichever queue."""
        queues = self._queues().values()
        return [job for queue in queues for job in self._named(self._client, queue, attempt_id)]

    def _named(self, client: Any, queue: _Queue, attempt_id: str) -> list[Wire]:
        wanted = {"filters": [{"name": "JOB_NAME", "values": [attempt_id]}]}
        # The filter takes capital letters for small ones.
        return [job for job in _pages(client, queue, wanted) if job["jobName"] == attempt_id]

    def _describe(self, job_ids: Sequence[str]) -> Sequence[Wire]:
        found: Sequence[Wire] = self._client.describe_jobs(jobs=list(job_ids))["jobs"]
        return found


def _pages(client: Any, queue: _Queue, asked: Wire) -> Iterator[Wire]:
    """Yield the jobs of a queue that are asked for."""
    pages = client.get_paginator("list_jobs").paginate(
        jobQueue=queue.name, PaginationConfig={"PageSize": PER_PAGE}, **asked
    )
    for page in pages:
        yield from page["jobSummaryList"]


def _batches(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(job_ids), PER_PAGE):
        yield job_ids[start : start + PER_PAGE]


def _translated(doing: str) -> AbstractContextManager[None]:
    """Turn the provider's errors into ours."""
    return aws.translated(f"batch: {doing}", ERRORS)
