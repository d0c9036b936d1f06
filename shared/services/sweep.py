"""Sweep: find and finish whatever stopped half way, for every active job. Run every minute; harmless at any time."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from shared.core.progress import missing_pages, unfinished_pages
from shared.errors import BatonError
from shared.log import log
from shared.models.farm import Placement
from shared.models.job import AttemptRef, Job, JobRef, SyncState
from shared.models.task import PageSummary, TaskStatus
from shared.ports import Ports
from shared.services.admit import admit
from shared.services.control import PAGES_TOGETHER, carry_out
from shared.services.place import place
from shared.services.settle import settle

# Younger than this, a job or a placement is most likely on its way.
_PATIENCE = timedelta(seconds=30)


def sweep(placements: Mapping[str, Sequence[Placement]], ports: Ports) -> int:
    """Look at every active job of every account; returns how many there are.

    `placements` holds, by orchestrator, what its scheduler listed before this call; an orchestrator that could not be
    asked is missing. A fault in one job is logged and leaves the others alone.
    """
    known = {
        orchestrator_id: {placement.attempt_id for placement in each}
        for orchestrator_id, each in placements.items()
    }
    job_count = 0
    for account_id in ports.admission.accounts():
        for job_id in ports.admission.active_job_ids(account_id):
            job_count += 1
            ref = JobRef(account_id, job_id)
            try:
                _sweep_job(ref, known, ports)
            except BatonError as error:
                log(
                    "ERROR",
                    "job not swept",
                    account_id=account_id,
                    job_id=job_id,
                    reason=str(error),
                )
        admit(account_id, ports)
    return job_count


def _sweep_job(ref: JobRef, known: Mapping[str, set[str]], ports: Ports) -> None:
    job = ports.jobs.job(ref)
    if ports.now() - job.created_at < _PATIENCE:
        return
    job = settle(ref, ports)
    pages = ports.jobs.page_summaries(job)
    _expand_again(job, pages, ports)
    if job.sync.state in (SyncState.PENDING, SyncState.SYNCING):
        ports.bus.publish("sync", [{"account_id": ref.account_id, "job_id": ref.job_id}])
    for number in unfinished_pages(job, pages):
        carry_out(ref, number, 1, ports)
    if job.orchestrator_id in known:
        _place_again(job, pages, known[job.orchestrator_id], ports)


def _expand_again(job: Job, pages: Sequence[PageSummary], ports: Ports) -> None:
    missing = missing_pages(job, pages)
    first_pages = sorted({number - number % PAGES_TOGETHER for number in missing})
    messages = [
        {
            "account_id": job.account_id,
            "job_id": job.job_id,
            "first_page": first,
            "page_count": PAGES_TOGETHER,
        }
        for first in first_pages
    ]
    if messages:
        ports.bus.publish("expand", messages)


def _place_again(job: Job, pages: Sequence[PageSummary], known: set[str], ports: Ports) -> None:
    """Submit what was placed and never reached the scheduler; the attempt's id makes a repeat harmless."""
    now = ports.now()
    for summary in pages:
        is_recent = summary.placed_at is None or now - summary.placed_at < _PATIENCE
        running_count = summary.counts.get(TaskStatus.RUNNING, 0)
        if is_recent or summary.in_flight_count <= running_count:
            continue
        page = ports.jobs.page(job.ref, summary.number)
        lost = {
            task_id: page.attempts[task_id]
            for task_id, status in page.statuses.items()
            if status is TaskStatus.PENDING
            and page.is_placed(task_id)
            and _attempt_id(job, task_id, page.attempts[task_id]) not in known
        }
        if lost:
            place(job.ref, page.number, lost, ports)


def _attempt_id(job: Job, task_id: str, number: int) -> str:
    return AttemptRef(job.account_id, job.job_id, task_id, number).attempt_id
