"""Which tasks may start next: by priority and age, within every limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.models.account import Account
from shared.models.job import Fence, Job, JobRef, SyncState
from shared.models.task import PageSummary, WaitingFor


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How many attempts of a job may start now, and what the rest of it waits for."""

    job: Job
    ready_count: int
    quota: int
    waiting_for: WaitingFor
    note: str


def is_admissible(job: Job) -> bool:
    """Tell whether tasks of the job may be given to a scheduler at all."""
    return job.fence is Fence.OPEN and job.sync.state is SyncState.DONE and not job.is_ended


def turns(
    account: Account, jobs: Sequence[Job], pages: Mapping[JobRef, Sequence[PageSummary]]
) -> list[Turn]:
    """Return the jobs that have ready tasks, first come first: priority, then age, then id.

    Every attempt in flight counts against the account's limit, also those of jobs that may start nothing now.
    """
    in_flight = {ref: sum(page.in_flight_count for page in each) for ref, each in pages.items()}
    left = account.max_instances - sum(in_flight.values())
    result = []
    for job in sorted(jobs, key=_order):
        ready_count = sum(page.ready_count for page in pages.get(job.ref, ()))
        if not is_admissible(job) or ready_count <= 0:
            continue
        quota, note = max(left, 0), f"the account runs {account.max_instances} instances at most"
        if job.max_instances:
            room = max(job.max_instances - in_flight[job.ref], 0)
            if room < quota:
                quota, note = room, f"the job runs {job.max_instances} instances at most"
        quota = min(quota, ready_count)
        left -= quota
        result.append(
            Turn(
                job=job,
                ready_count=ready_count,
                quota=quota,
                waiting_for=WaitingFor.LIMIT,
                note=note,
            )
        )
    return result


def _order(job: Job) -> tuple[int, object, str]:
    return (-job.priority, job.created_at, job.job_id)
