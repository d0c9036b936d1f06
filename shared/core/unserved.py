"""Jobs for which no machine can be had: since when, and how many of their attempts keep a place meanwhile.

What waits at a scheduler counts against every limit of the account, so that what cannot run must not wait there in its
hundreds while others could. A few stay, the probes: they are what a machine is started for once there are some again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.limits import Limit
from shared.models.farm import Shape
from shared.models.job import Job
from shared.models.task import UNSERVED, PageSummary, TaskStatus, WaitingFor

# So long a job keeps all its places. By then a pool that failed was tried twice more (breaker.py): what comes back
# sooner is not worth moving anything.
PATIENCE = timedelta(minutes=5)
# So many attempts of a job wait on, or as many as run, so that no machine that ends one is ever without the next.
PROBE_COUNT = 4


def explained(
    job: Job,
    shapes: Mapping[Shape, WaitingFor],
    started_at: Mapping[Shape, datetime],
    now: datetime,
) -> Job:
    """Return the job with what its attempts at the scheduler wait for, and since when no machine can be had.

    Shapes: `started_at` is when an attempt of each shape was started last.
    """
    since = {}
    for shape, reason in shapes.items():
        before = job.unserved_since.get(shape.name)
        known = _since(before, reason, started_at.get(shape), now)
        if known is not None:
            since[shape.name] = known
    told = {shape.name: reason for shape, reason in shapes.items()}
    return replace(job, waiting_shapes=told, unserved_since=since)


def is_unserved(job: Job, now: datetime) -> bool:
    """Tell whether the machine that a job asks for could not be had for so long that its places are better used."""
    since = job.unserved_since.get(own_shape(job).name)
    return since is not None and now - since >= PATIENCE


def waits_in_vain(job: Job, pages: Sequence[PageSummary]) -> bool:
    """Tell whether nothing of a job runs, and all that it has placed waits for machines that cannot be had."""
    in_flight = sum(page.in_flight_count for page in pages)
    reasons = set(job.waiting_shapes.values())
    return in_flight > 0 and not running_count(pages) and bool(reasons) and reasons <= UNSERVED


def own_shape(job: Job) -> Shape:
    """Return what the first attempts of a job ask for."""
    return Shape(job.instance_type, job.is_preemptible)


def running_count(pages: Sequence[PageSummary]) -> int:
    """Return how many attempts of a job run."""
    return sum(page.counts.get(TaskStatus.RUNNING, 0) for page in pages)


def room(pages: Sequence[PageSummary]) -> int:
    """Return how many more places there are for a job that is unserved; less than nothing where it has too many."""
    running = running_count(pages)
    return max(PROBE_COUNT, running) + running - sum(page.in_flight_count for page in pages)


def probes(job: Job, pages: Sequence[PageSummary]) -> Limit:
    """Return what limits a job that is unserved."""
    reason, note = why(job)
    return Limit(reason=reason, left=room(pages), takes={job.ref: 1}, note=note)


def why(job: Job) -> tuple[WaitingFor, str]:
    """Return what such a job waits for: as the tick told it, or else, until the next one tells it, in short."""
    said = job.waiting_for
    if said is not None and said in UNSERVED | {WaitingFor.BOOT}:
        return said, job.waiting_note
    reasons = job.waiting_shapes
    first = next(iter(reasons.values()), WaitingFor.SCHEDULER)
    reason = reasons.get(own_shape(job).name, first)
    return reason, f"what it has placed waits for {job.instance_type}, and the rest for that"


def _since(
    before: datetime | None, reason: WaitingFor, started_at: datetime | None, now: datetime
) -> datetime | None:
    """Return since when no machine of a shape can be had; one that boots may yet fail as those before it did."""
    if reason in UNSERVED:
        return before or now
    has_started = started_at is not None and before is not None and started_at > before
    return before if reason is WaitingFor.BOOT and not has_started else None
