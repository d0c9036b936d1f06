"""Inspection: jobs and tasks as an operator of the farm looks at them. Reads only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.core.task_waiting import why_task_waits
from shared.errors import InvalidRequest, NotFound
from shared.models.job import Job, JobRef, TaskRef
from shared.models.task import Task, WaitingFor
from shared.ports import Ports

_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class ShownTask:
    """A task, and the one reason why it waits, if it does."""

    task: Task
    waiting_for: WaitingFor | None


def find_jobs(
    account_id: str, is_wanted: Callable[[Job], bool], most: int, ports: Ports
) -> list[Job]:
    """Return the newest jobs that are wanted, newest first."""
    found: list[Job] = []
    below = ""
    while len(found) < most:
        some = ports.jobs.jobs_before(account_id, below, _AT_ONCE)
        found += [job for job in some if is_wanted(job)]
        if len(some) < _AT_ONCE:
            break
        below = some[-1].job_id
    return found[:most]


def active_jobs(account_id: str, ports: Ports) -> list[Job]:
    """Return the jobs on the account's active list, newest first."""
    job_ids = ports.admission.active_job_ids(account_id)
    found = ports.jobs.jobs(JobRef(account_id, job_id) for job_id in job_ids)
    return sorted(found, key=lambda job: int(job.job_id), reverse=True)


def known_job(ref: JobRef, ports: Ports) -> Job:
    """Return a job. Raises: InvalidRequest; NotFound, in words."""
    if not ref.job_id.isdecimal():
        raise InvalidRequest({"job": f"{ref.job_id!r} is no job id"})
    try:
        return ports.jobs.job(ref)
    except NotFound as error:
        raise NotFound(f"account {ref.account_id} has no job {ref.job_id}") from error


def known_task(ref: TaskRef, ports: Ports) -> ShownTask:
    """Return a task. Raises: InvalidRequest; NotFound, in words."""
    job = known_job(ref.job, ports)
    if not ref.task_id.isdecimal():
        raise InvalidRequest({"task": f"{ref.task_id!r} is no task id"})
    try:
        task = ports.jobs.task(ref)
    except NotFound as error:
        raise NotFound(f"job {ref.job_id} has no task {ref.task_id}") from error
    page = ports.jobs.page(ref.job, task.page)
    reason = why_task_waits(job, task, is_placed=page.is_placed(task.task_id))
    return ShownTask(task=task, waiting_for=reason)


def tasks_of(job: Job, ports: Ports) -> Iterator[ShownTask]:
    """Yield the tasks of a job, in order, as far as their pages are written."""
    for summary in ports.jobs.page_summaries(job):
        page = ports.jobs.page(job.ref, summary.number)
        for task in ports.jobs.tasks(job.ref, sorted(page.statuses, key=int)):
            reason = why_task_waits(job, task, is_placed=page.is_placed(task.task_id))
            yield ShownTask(task=task, waiting_for=reason)
