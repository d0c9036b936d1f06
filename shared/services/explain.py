"""Explain: tell each job whose attempts wait at a scheduler what they wait for."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import LIMITS, WaitingFor
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
        told = partial(_told, waiting[job.ref], reasons)
        if told(job) != job:
            jobs.change_job(job.ref, told)


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
    waiting: Counter[Shape], reasons: Mapping[Shape, tuple[WaitingFor, str]], job: Job
) -> Job:
    """Return the job with why it waits; a limit holds back what never got so far, and is admission's to take back."""
    if job.is_ended or job.waiting_for in LIMITS:
        return job
    reason, note = _of_all(waiting, reasons)
    shapes = {shape.name: reasons[shape][0] for shape in waiting}
    return replace(job, waiting_for=reason, waiting_note=note, waiting_shapes=shapes)
