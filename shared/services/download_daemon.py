"""What download daemons call: the next frames of a location, and how they went.

A daemon with a location is handed the frames of jobs submitted with exactly that location, one without a location those
of jobs without one. What was handed out is leased: it is offered again once its daemon has been silent for too long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.core.download_leases import is_free, kept, leased, returned
from shared.core.permissions import Action, check
from shared.models.account import Principal
from shared.models.download import DownloadLease
from shared.models.job import Job, TaskRef
from shared.models.submission import DownloadStatus
from shared.models.task import TASKS_PER_PAGE, Page, Task, TaskStatus
from shared.ports import DownloadStore, Ports
from shared.services.ask import ask_to_settle
from shared.services.downloads import (
    MAX_FILES_A_PAGE,
    described,
    fitting,
    note_downloaded,
    note_empty,
)
from shared.services.projects import check_job, visible

MAX_COUNT = 500
# What one call looks at: more than that is in the hands of daemons only where they are very many.
_JOBS_TOGETHER = 20
_MOST_JOBS = 200
_MOST_PAGES = 50


@dataclass
class _Answer:
    """What is being put together: at most `count` tasks, and only so many files."""

    count: int
    downloads: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def file_count(self) -> int:
        """How many files are in it."""
        return sum(len(each["files"]) for each in self.downloads)

    def is_full(self) -> bool:
        """Tell whether nothing more goes in."""
        return len(self.downloads) >= self.count or self.file_count >= MAX_FILES_A_PAGE


def next_downloads(
    principal: Principal, location: str, count: int, ports: Ports, store: DownloadStore
) -> list[dict[str, Any]]:
    """Lease and return at most `count` tasks whose frames nobody has fetched, of the oldest jobs first.

    Raises: Forbidden.
    """
    check(principal, Action.DOWNLOAD)
    answer = _Answer(min(count, MAX_COUNT))
    above, looked_at = "", 0
    while not answer.is_full() and looked_at < _MOST_JOBS:
        jobs = store.jobs(principal.account_id, location, above, _JOBS_TOGETHER)
        for job in visible(principal, jobs, ports):
            _add_job(answer, job, ports, store)
        if len(jobs) < _JOBS_TOGETHER:
            break
        above, looked_at = jobs[-1].job_id, looked_at + len(jobs)
    return answer.downloads


def _add_job(answer: _Answer, job: Job, ports: Ports, store: DownloadStore) -> None:
    if answer.is_full():
        return
    pages = store.pages(job.ref, _MOST_PAGES)
    if not pages:
        # Its sums are old, and it has perhaps ended: else nobody would bring them up to date.
        ask_to_settle(job.ref, ports, is_urgent=False)
    for page in pages:
        if answer.is_full():
            return
        tasks = _lease(answer, job, page, ports, store)
        note_empty(job, tasks, ports)
        answer.downloads += described(job, tasks, ports)


def _lease(
    answer: _Answer, job: Job, page: Page, ports: Ports, store: DownloadStore
) -> Sequence[Task]:
    """Lease as many tasks of a page as still go into the answer, and return them."""
    chosen: list[Task] = []

    def choose(leases: Mapping[str, DownloadLease]) -> Mapping[str, DownloadLease]:
        now = ports.now()
        free = [
            task_id
            for task_id, status in sorted(page.statuses.items(), key=_by_number)
            if status is TaskStatus.SUCCESS
            and is_free(leases.get(task_id), page.attempts[task_id], now)
        ]
        wanted = free[: answer.count - len(answer.downloads)]
        tasks = ports.jobs.tasks(job.ref, wanted)
        there = [task for task in tasks if task.status is TaskStatus.SUCCESS]
        chosen[:] = fitting(there, answer.file_count)
        return _leases(answer, chosen, leases, now)

    store.change_leases(job.ref, page.number, choose, ports.now())
    answer.size_bytes += _size(chosen)
    return chosen


def _leases(
    answer: _Answer,
    chosen: Sequence[Task],
    leases: Mapping[str, DownloadLease],
    now: datetime,
) -> dict[str, DownloadLease]:
    size = answer.size_bytes + _size(chosen)
    return {
        task.task_id: leased(leases.get(task.task_id), task.attempt, size, now) for task in chosen
    }


def _size(tasks: Sequence[Task]) -> int:
    return sum(task.attempts[-1].output_bytes for task in tasks if task.attempts)


def _by_number(item: tuple[str, TaskStatus]) -> int:
    return int(item[0])


def note_status(
    principal: Principal, said: DownloadStatus, ports: Ports, store: DownloadStore
) -> None:
    """Note how a download goes; what is said about frames that are not the task's current ones changes nothing.

    `downloaded` moves the task on, once; `downloading` keeps the lease, `pending` gives it back.
    Raises: Forbidden; NotFound.
    """
    check(principal, Action.DOWNLOAD)
    job_id, task_id, number = said.download_id.split("-")
    ref = TaskRef(*check_job(principal, job_id, ports), task_id)
    if said.status == "downloaded":
        note_downloaded(ref, int(number), ports)
        return

    def change(leases: Mapping[str, DownloadLease]) -> Mapping[str, DownloadLease]:
        lease = leases.get(task_id)
        if lease is None or lease.attempt != int(number):
            return {}
        now = ports.now()
        held = kept(lease, now) if said.status == "downloading" else returned(lease, now)
        return {task_id: held}

    store.change_leases(ref.job, int(task_id) // TASKS_PER_PAGE, change, ports.now())
