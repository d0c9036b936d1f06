"""Settle: sum a job's pages into the job, release its tasks when the scouts have passed, and end it."""

from shared.core.progress import frees_machines, scouts_have_passed, settled
from shared.models.job import Command, Fence, Job, JobRef
from shared.ports import Ports
from shared.services.active import strike
from shared.services.ask import ask_to_meter, ask_to_scale, ask_to_shrink
from shared.services.blocking import block
from shared.services.control import order
from shared.services.upload_daemon import withdraw


def settle(ref: JobRef, ports: Ports) -> Job:
    """Bring the job's sums and status up to date.

    Pages are read after the job, so an older sum never replaces a newer one. What has not changed is not written: each
    minute all jobs are summed that wait.
    """
    has_just_ended = has_freed = False
    before: Job | None = None

    def summed(job: Job) -> Job:
        nonlocal has_just_ended, has_freed, before
        after = settled(job, ports.jobs.page_summaries(job), ports.now())
        has_just_ended = after.is_ended and not job.is_ended
        has_freed = frees_machines(job, after)
        before = job
        return after

    job = ports.jobs.change_job(ref, summed)
    if job.scouts_pending and job.fence is Fence.OPEN and _scouts_have_passed(job, ports):
        order(job.ref, Command.RELEASE, ports)
    elif has_freed and not has_just_ended:
        ask_to_shrink(job.orchestrator_id, ports)
    if has_just_ended:
        withdraw(job, ports)
        strike(ref.account_id, [ref.job_id], ports)
        ask_to_scale(job.orchestrator_id, ports)
        ask_to_meter(ref.account_id, ports)
    return block(before or job, job, ports)


def _scouts_have_passed(job: Job, ports: Ports) -> bool:
    tasks = ports.jobs.tasks(job.ref, job.scout_task_ids)
    return scouts_have_passed(job, {task.task_id: task.status for task in tasks})
