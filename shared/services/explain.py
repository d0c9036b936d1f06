"""Explain: tell each job whose attempts wait at a scheduler what they wait for."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from shared.core.unserved import explained
from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import LIMITS, UNSERVED, WaitingFor
from shared.ports import JobStore


def explain(
    placements: Sequence[Placement],
    reasons: Mapping[Shape, tuple[WaitingFor, str]],
    jobs: JobStore,
    now: datetime,
) -> None:
    """Write the reasons of a tick on the jobs, only where they differ from what stands there."""
    seen: defaultdict[JobRef, _Seen] = defaultdict(_Seen)
    for each in placements:
        seen[AttemptRef.parse(each.attempt_id).task.job].add(each, reasons)
    for job in jobs.jobs(ref for ref, found in seen.items() if found.waiting):
        told = partial(_told, seen[job.ref], reasons, now)
        if told(job) != job:
            jobs.change_job(job.ref, told)


@dataclass
class _Seen:
    """What a scheduler has of a job: what waits and has a reason, when each shape was started last, what runs."""

    waiting: Counter[Shape] = field(default_factory=Counter)
    started_at: dict[Shape, datetime] = field(default_factory=dict)
    runs: bool = False

    def add(self, placement: Placement, reasons: Mapping[Shape, tuple[WaitingFor, str]]) -> None:
        shape, started_at = placement.shape, placement.started_at
        if placement.stage is Stage.WAITING and shape in reasons:
            self.waiting[shape] += 1
        self.runs |= placement.stage is Stage.STARTED
        if started_at is not None:
            self.started_at[shape] = max(self.started_at.get(shape, started_at), started_at)


def _of_all(
    waiting: Counter[Shape], reasons: Mapping[Shape, tuple[WaitingFor, str]]
) -> tuple[WaitingFor, str]:
    """Return why most of a job's attempts wait; the sentence says too why those wait that are tried again elsewhere."""
    most, *others = sorted(waiting, key=lambda shape: (-waiting[shape], shape))
    reason, note = reasons[most]
    elsewhere = (f"; on {_machine(shape)}: {reasons[shape][1]}" for shape in others)
    return reason, note + "".join(elsewhere)


def _machine(shape: Shape) -> str:
    price_class = "preemptible" if shape.is_preemptible else "standard"
    return f"{shape.instance_type} ({price_class})"


def _told(
    seen: _Seen, reasons: Mapping[Shape, tuple[WaitingFor, str]], now: datetime, job: Job
) -> Job:
    """Return the job with why it waits.

    A limit holds back what never got so far, and is admission's to take back; but where nothing runs and no machine can
    be had for all that is placed, it is that which holds back the rest.
    """
    if job.is_ended:
        return job
    shapes = {shape: reasons[shape][0] for shape in seen.waiting}
    job = explained(job, shapes, seen.started_at, now)
    is_in_vain = not seen.runs and UNSERVED.issuperset(shapes.values())
    if job.waiting_for in LIMITS and not is_in_vain:
        return job
    reason, note = _of_all(seen.waiting, reasons)
    return replace(job, waiting_for=reason, waiting_note=note)
