"""Which tasks may start next: by priority and age, within every limit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shared.core.budgets import Spending
from shared.core.limits import Limit, limits_of, own_limits
from shared.core.unserved import probes, waits_in_vain, why
from shared.models.account import Account
from shared.models.job import Fence, Job, JobRef, SyncState
from shared.models.task import LIMITS, PageSummary, TaskStatus, WaitingFor

NOBODY: Mapping[JobRef, Limit] = {}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How many attempts of a job may start now, and what the rest of it waits for."""

    job: Job
    ready_count: int
    quota: int
    waiting_for: WaitingFor
    note: str

    @property
    def is_limited(self) -> bool:
        """Tell whether a limit holds back some of the job."""
        return self.quota < self.ready_count and self.waiting_for in LIMITS


def is_admissible(job: Job) -> bool:
    """Tell whether tasks of the job may be given to a scheduler at all."""
    return job.fence is Fence.OPEN and job.sync.state is SyncState.DONE and not job.is_ended


def awaited_count(job: Job) -> int:
    """Return for how many tasks of a job a machine is of use, also of those that are not at the scheduler yet.

    What a limit or a licence holds back starts as others end. What a budget does may wait for its next month: for that
    no machine is kept, and those at the scheduler are counted there.
    """
    return 0 if job.waiting_for is WaitingFor.BUDGET else job.counts.get(TaskStatus.PENDING, 0)


def in_flight_counts(pages: Mapping[JobRef, Sequence[PageSummary]]) -> dict[JobRef, int]:
    """Return how many attempts of each job are at a scheduler or running."""
    return {ref: sum(page.in_flight_count for page in each) for ref, each in pages.items()}


def ready_count(job: Job, pages: Mapping[JobRef, Sequence[PageSummary]]) -> int:
    """Return how many tasks of a job could be given to a scheduler now, were there no limits."""
    if not is_admissible(job):
        return 0
    return max(sum(page.ready_count for page in pages.get(job.ref, ())), 0)


def turns(
    account: Account,
    jobs: Sequence[Job],
    pages: Mapping[JobRef, Sequence[PageSummary]],
    spending: Spending | None = None,
    *,
    unserved: Collection[JobRef] = (),
    homeless: Mapping[JobRef, Limit] = NOBODY,
) -> list[Turn]:
    """Return the jobs that have ready tasks, first come first: priority, then age, then id.

    Every attempt in flight counts against the limits, also those of jobs that may start nothing now. What holds a job
    back is the limit that leaves it the fewest attempts; it takes nothing from those that this limit is not for. For
    the `unserved` no machine can be had for long: of them no more are placed than find out when that is over. The
    `homeless` cannot be placed anywhere, for which each has a limit of its own.
    """
    in_flight = in_flight_counts(pages)
    shared = limits_of(account, jobs, in_flight, spending)
    result = []
    for job in sorted(jobs, key=_order):
        count = ready_count(job, pages)
        if not count:
            continue
        own = own_limits(job, in_flight)
        limits = [each for each in shared if job.ref in each.takes] + own
        if job.ref in homeless:
            limits.insert(0, homeless[job.ref])
        elif job.ref in unserved:
            limits.insert(0, probes(job, pages[job.ref]))
        binding = min(limits, key=lambda each: each.room(job.ref))
        quota = min(binding.room(job.ref), count)
        for each in limits:
            each.take(job.ref, quota)
        reason, note = _why(job, pages[job.ref], binding)
        result.append(Turn(job=job, ready_count=count, quota=quota, waiting_for=reason, note=note))
    return result


def _why(job: Job, pages: Sequence[PageSummary], binding: Limit) -> tuple[WaitingFor, str]:
    """Return what holds a job back: no limit, where what it has placed could not run with any more room either."""
    if waits_in_vain(job, pages):
        return why(job)
    return binding.reason, binding.note


def _order(job: Job) -> tuple[int, object, str]:
    return (-job.priority, job.created_at, job.job_id)
