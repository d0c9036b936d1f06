"""What people may order for a whole job, by how far it is; the tables of single tasks are in lifecycle.py."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from shared.core.lifecycle import FENCES
from shared.core.outstanding import noted
from shared.core.progress import ordered, with_upload
from shared.core.recovery import larger_types, usable_mib
from shared.errors import InvalidTransition
from shared.models.account import InstanceType
from shared.models.job import Command, Fence, Job, JobStatus, Sync, SyncState, UploadState
from shared.models.submission import JobEdit
from shared.models.task import WaitingFor


class Phase(StrEnum):
    """How far a job is, as far as commands are concerned."""

    UNDER_WAY = "under way"
    BEING_KILLED = "being killed"
    ENDED = "ended"


_RETRIES = (Command.RETRY, Command.RETRY_ALL, Command.RETRY_FAILED, Command.RETRY_PREEMPTED)
# These begin with the inputs where it was those that failed.
WITH_INPUTS = (Command.RETRY, Command.RETRY_ALL, Command.RETRY_SYNC)

# (phase, command) -> whether there is anything to do. A pair that is missing is refused.
JOB_COMMANDS: Mapping[tuple[Phase, Command], bool] = {
    **{(Phase.UNDER_WAY, each): True for each in Command if each is not Command.REVIEWED},
    (Phase.BEING_KILLED, Command.KILL): False,
    (Phase.BEING_KILLED, Command.RELEASE): False,
    (Phase.ENDED, Command.KILL): False,
    (Phase.ENDED, Command.RELEASE): False,
    **{(Phase.ENDED, each): True for each in _RETRIES},
    (Phase.ENDED, Command.REVIEWED): True,
    (Phase.ENDED, Command.EDIT): True,
}


def phase_of(job: Job) -> Phase:
    """Return how far a job is."""
    if job.is_ended:
        return Phase.ENDED
    return Phase.BEING_KILLED if job.fence is Fence.KILLED else Phase.UNDER_WAY


def obeyed(job: Job, order: Command) -> Job:
    """Return the job with a command on the whole of it, or as it is when nothing is left to do.

    Not for edits and reviews. Raises: InvalidTransition; Conflict.
    """
    if not has_work(job, order):
        return job
    if order is Command.RELEASE and not (job.scouts_pending and job.fence is Fence.OPEN):
        return job  # a person held it or let it go since its scouts were read
    is_ready = job.sync.state is SyncState.DONE and job.upload.state is UploadState.DONE
    if order is Command.RETRY_SYNC and is_ready:
        raise InvalidTransition(f"job {job.job_id}: its inputs are ready, {order} does not apply")
    if order in _RETRIES:
        job = replace(job, reviewed_at=None, reviewed_by="")
    if order in FENCES:
        job = ordered(job, order, FENCES[order])
    return _with_inputs_again(job) if order in WITH_INPUTS else job


def has_work(job: Job, order: Command) -> bool:
    """Tell whether a job has anything to do for a command; False when it is so already. Raises: InvalidTransition."""
    phase = phase_of(job)
    found = JOB_COMMANDS.get((phase, order))
    if found is not None:
        return found
    if phase is Phase.BEING_KILLED:
        raise InvalidTransition(
            f"job {job.job_id} is being killed: {order} must wait until it has ended"
        )
    raise InvalidTransition(f"job {job.job_id} is {job.status}: {order} does not apply")


def _with_inputs_again(job: Job) -> Job:
    if job.upload.state is UploadState.FAILED:
        again = replace(job.upload, state=UploadState.WAITING, tries=0, reason="")
        return with_upload(job, again)
    if job.sync.state is not SyncState.FAILED:
        return job
    return replace(
        job,
        sync=Sync(state=SyncState.PENDING, total_count=job.sync.total_count),
        status=JobStatus.SYNC_PENDING,
        waiting_for=WaitingFor.SYNC,
        waiting_note="its inputs are made ready once more",
    )


def reviewed(job: Job, user_id: str, now: datetime) -> Job:
    """Return the job with who looked at what came of it first. Raises: InvalidTransition."""
    if not has_work(job, Command.REVIEWED) or job.reviewed_at is not None:
        return job
    return replace(job, reviewed_at=now, reviewed_by=user_id)


def edited(
    job: Job, edit: JobEdit, machine: InstanceType | None, offered: Iterable[InstanceType] = ()
) -> Job:
    """Return the job as it shall be; what runs runs on as it is.

    `machine` is the instance type that the edit names, or the job's own, `offered` what its tasks may go to from there;
    neither is needed where neither type nor price class is another. What waits at the scheduler as it was before is
    taken back. Raises: InvalidTransition; Conflict.
    """
    has_work(job, Command.EDIT)
    after = replace(
        job,
        priority=_either(edit.priority, job.priority),
        max_instances=_either(edit.max_instances, job.max_instances),
        preempted_retries=_either(edit.preempted_retries, job.preempted_retries),
        standard_after=_either(edit.standard_after, job.standard_after),
        out_of_memory_retries=_either(edit.out_of_memory_retries, job.out_of_memory_retries),
    )
    if changes_shape(job, edit) and machine is not None:
        is_preemptible = job.is_preemptible if edit.is_preemptible is None else edit.is_preemptible
        after = on_machine(after, machine, is_preemptible, offered)
    if edit.standard_after and after.standard_micros_per_minute is None:
        raise InvalidTransition(
            f"job {job.job_id}: standard_after needs the price of standard machines, which it was submitted without"
        )
    if job.is_ended:
        return after
    if _at_scheduler(after) != _at_scheduler(job):
        return noted(after, Command.EDIT)
    if _ladder(after) != _ladder(job):
        return noted(after, Command.EDIT, is_for_ladder=True)
    return after


def changes_shape(job: Job, edit: JobEdit) -> bool:
    """Tell whether an edit asks for other machines."""
    is_other_type = edit.instance_type not in (None, job.instance_type)
    return is_other_type or edit.is_preemptible not in (None, job.is_preemptible)


def _either(wanted: int | None, present: int) -> int:
    return present if wanted is None else wanted


def on_machine(
    job: Job, machine: InstanceType, is_preemptible: bool, offered: Iterable[InstanceType]
) -> Job:
    """Return the job with all that it takes from its machine, the price of a minute too.

    `offered` are the types that its tasks may go to when that one is too small.
    """
    price = (
        machine.preemptible_micros_per_minute if is_preemptible else machine.price_micros_per_minute
    )
    return replace(
        job,
        instance_type=machine.name,
        provider=machine.provider,
        operating_system=machine.operating_system,
        is_preemptible=is_preemptible,
        price_micros_per_minute=price,
        standard_micros_per_minute=machine.price_micros_per_minute,
        cores=machine.cores,
        memory_mib=usable_mib(machine),
        larger=larger_types(machine, offered, is_preemptible=is_preemptible),
    )


def _at_scheduler(job: Job) -> tuple[str, bool, int]:
    """Return what a scheduler is told of each of the job's first attempts, or what decides it."""
    return job.instance_type, job.is_preemptible, job.priority


def _ladder(job: Job) -> tuple[int, int]:
    """Return what decides further attempts beside that."""
    return job.standard_after, job.out_of_memory_retries
