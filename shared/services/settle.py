"""Settle: sum a job's pages into the job, release its tasks when the scouts have passed, and end it."""

from datetime import datetime, timedelta

from shared.core.progress import scouts_have_passed, settled
from shared.models.job import Command, Fence, Job, JobRef
from shared.ports import Ports
from shared.services.control import order

# What nobody waits for is summed at most this often by one process; the sweep makes up for a process that ended.
_PAUSE = timedelta(seconds=1)
_REMEMBERED_JOBS = 10_000

_asked: dict[JobRef, datetime] = {}


def ask_to_settle(ref: JobRef, ports: Ports, *, is_urgent: bool) -> None:
    """Have the job summed soon; what is not urgent is passed over when it was asked for a moment ago."""
    now = ports.now()
    asked = _asked.get(ref)
    if not is_urgent and asked is not None and now - asked < _PAUSE:
        return
    if len(_asked) >= _REMEMBERED_JOBS:
        _asked.clear()
    _asked[ref] = now
    ports.bus.publish("settle", [{"account_id": ref.account_id, "job_id": ref.job_id}])


def settle(ref: JobRef, ports: Ports) -> Job:
    """Bring the job's sums and status up to date. Pages are read after the job, so an older sum never replaces a newer one."""
    has_just_ended = False

    def summed(job: Job) -> Job:
        nonlocal has_just_ended
        after = settled(job, ports.jobs.page_summaries(job), ports.now())
        has_just_ended = after.is_ended and not job.is_ended
        return after

    job = ports.jobs.change_job(ref, summed)
    if job.scouts_pending and job.fence is Fence.OPEN and _scouts_have_passed(job, ports):
        order(job.ref, Command.RELEASE, ports)
    if has_just_ended:
        ports.admission.strike(ref.account_id, [ref.job_id])
        today = ports.now().date().isoformat()
        ports.bus.publish("meter", [{"account_id": ref.account_id, "date": today}])
    return job


def _scouts_have_passed(job: Job, ports: Ports) -> bool:
    tasks = ports.jobs.tasks(job.ref, job.scout_task_ids)
    return scouts_have_passed(job, {task.task_id: task.status for task in tasks})
