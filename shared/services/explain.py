"""Explain: tell each job whose attempts wait at a scheduler what they wait for."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import WaitingFor
from shared.ports import JobStore


def explain(
    placements: Sequence[Placement],
    reasons: Mapping[Shape, tuple[WaitingFor, str]],
    jobs: JobStore,
) -> None:
    """Write the reasons of a tick on the jobs, only where they differ from what stands there."""
    waiting: defaultdict[JobRef, Counter[Shape]] = defaultdict(Counter)
    for each in placements:
        if each.stage is Stage.WAITING and each.shape in reasons:
            waiting[AttemptRef.parse(each.attempt_id).task.job][each.shape] += 1
    for job in jobs.jobs(waiting):
        reason, note = _of_all(waiting[job.ref], reasons)
        if _may_be_told(job) and (job.waiting_for, job.waiting_note) != (reason, note):
            jobs.change_job(job.ref, partial(_with_reason, reason, note))


def _of_all(
    waiting: Counter[Shape], reasons: Mapping[Shape, tuple[WaitingFor, str]]
) -> tuple[WaitingFor, str]:
    """Return why most of a job's attempts wait; the sentence says too why those wait that are tried again elsewhere."""
    most, *others = sorted(waiting, key=lambda shape: (-waiting[shape], shape))
    reason, note = reasons[most]
    elsewhere = (f"; on {_told(shape)}: {reasons[shape][1]}" for shape in others)
    return reason, note + "".join(elsewhere)


def _told(shape: Shape) -> str:
    price_class = "preemptible" if shape.is_preemptible else "standard"
    return f"{shape.instance_type} ({price_class})"


def _with_reason(reason: WaitingFor, note: str, job: Job) -> Job:
    if not _may_be_told(job):
        return job
    return replace(job, waiting_for=reason, waiting_note=note)


def _may_be_told(job: Job) -> bool:
    """A limit holds back tasks that never reached the scheduler: that reason stays, and is admission's to take back."""
    return not job.is_ended and job.waiting_for is not WaitingFor.LIMIT
