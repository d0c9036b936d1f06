"""Why a single task waits: what its job says, as far as it is true of this task."""

from shared.core.recovery import next_step
from shared.models.job import Fence, Job
from shared.models.task import LIMITS, UNSERVED, Task, TaskStatus, WaitingFor

# What a job waits for before any of its tasks can be given to a scheduler.
_BEFORE_THE_SCHEDULER = LIMITS | {WaitingFor.UPLOAD, WaitingFor.SYNC, WaitingFor.ADMISSION}
# What is said of a whole job, and is never why one of its tasks that may start waits.
_OF_HELD_TASKS = frozenset({WaitingFor.HOLD, WaitingFor.SCOUT})


def why_task_waits(job: Job, task: Task, *, is_placed: bool) -> WaitingFor | None:
    """Return what a task waits for; None when it runs or has ended.

    `is_placed`: its present attempt is at the scheduler.
    """
    if task.status is TaskStatus.HOLDING:
        is_for_scouts = job.scouts_pending and job.fence is Fence.OPEN and not task.is_scout
        return WaitingFor.SCOUT if is_for_scouts else WaitingFor.HOLD
    if task.status is not TaskStatus.PENDING:
        return None
    if job.fence is Fence.HELD:
        return WaitingFor.HOLD
    if is_placed:
        return _at_scheduler(job, task)
    # Where no machine can be had, that holds back the rest of the job too.
    said = job.waiting_for
    return said if said in _BEFORE_THE_SCHEDULER | UNSERVED else WaitingFor.ADMISSION


def _at_scheduler(job: Job, task: Task) -> WaitingFor:
    """Return why an attempt waits at the scheduler: as others of its shape do, which may not be most of the job."""
    if job.waiting_shapes:
        shape = next_step(job, task.attempts, counted_from=task.counted_from).shape
        return job.waiting_shapes.get(shape.name, WaitingFor.SCHEDULER)
    said = job.waiting_for
    if said is None or said in _BEFORE_THE_SCHEDULER | _OF_HELD_TASKS:
        return WaitingFor.SCHEDULER
    return said
