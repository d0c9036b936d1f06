"""What may still be spent: what attempts in flight will cost, and what the next one would."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from shared.core.durations import prior
from shared.models.account import Budget, Period
from shared.models.job import Job, JobRef
from shared.models.task import PageSummary, TaskStatus

# What an attempt is taken to run, for which neither its own job nor another one on such machines says more.
UNKNOWN_MINUTES = 60
_RAN = (TaskStatus.SUCCESS, TaskStatus.DOWNLOADED, TaskStatus.FAILED, TaskStatus.PREEMPTED)

Pages = Mapping[JobRef, Sequence[PageSummary]]


class Spending(NamedTuple):
    """What each budget has spent within its present period, and what one attempt of each job will cost."""

    spent: Mapping[Budget, int]
    attempt_micros: Mapping[JobRef, int]
    as_of: datetime


def covers(budget: Budget, job: Job) -> bool:
    """Tell whether what the job costs is paid from the budget."""
    return budget.project in ("", job.project)


def first_day(budget: Budget, now: datetime) -> date | None:
    """Return the first UTC day of the budget's present period; None where it has none."""
    return now.date().replace(day=1) if budget.period is Period.MONTH else None


def renewal(budget: Budget, now: datetime) -> date | None:
    """Return the first UTC day of the budget's next period; None where there is none."""
    first = first_day(budget, now)
    return first and (first + timedelta(days=31)).replace(day=1)


def attempt_micros(jobs: Sequence[Job], pages: Pages, now: datetime) -> dict[JobRef, int]:
    """Return what an attempt of each job is taken to cost, at the job's own price, one minute at least.

    Its ended attempts say it; before any has ended, those of the account's other jobs on such machines; else an hour,
    or as long as the job has been running, if that is longer. Costs no read.
    """
    known = {job.ref: _known_minutes(job, pages.get(job.ref, ())) for job in jobs}
    others: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for job in jobs:
        if (minutes := known[job.ref]) is not None:
            others[job.instance_type, job.is_preemptible].append(float(minutes))
    found = {}
    for job in jobs:
        price, minutes = job.price_micros_per_minute, known[job.ref]
        if minutes is not None:
            micros = ceil(minutes * price)
        else:
            believed = prior(others[job.instance_type, job.is_preemptible])
            usual = UNKNOWN_MINUTES if believed is None else believed
            micros = ceil(max(usual, _running_minutes(job, pages.get(job.ref, ()), now)) * price)
        found[job.ref] = max(micros, price)
    return found


def under_way(
    budget: Budget,
    jobs: Sequence[Job],
    in_flight: Mapping[JobRef, int],
    attempt_micros: Mapping[JobRef, int],
) -> int:
    """Return what the attempts in flight will have cost the budget when they end."""
    paid = (job.ref for job in jobs if covers(budget, job))
    return sum(in_flight.get(ref, 0) * attempt_micros[ref] for ref in paid)


def _known_minutes(job: Job, pages: Sequence[PageSummary]) -> Fraction | None:
    """Return what the job's ended attempts have taken, in minutes at its price; None before the first.

    The pages count as ended also what was withdrawn before any claim and cost nothing, so their average may be too low.
    The average by task is not, and has the retries in it; but after a retry of what had ended already it may be far
    too high, and counts for no more than an hour then. Where nothing of the kind has happened the two are the same.
    """
    cost_micros = sum(page.cost_micros for page in pages)
    price = job.price_micros_per_minute
    if cost_micros <= 0 or price <= 0:
        return None
    by_attempt = Fraction(cost_micros, max(sum(page.ended_count for page in pages), 1))
    ran_count = sum(page.counts.get(status, 0) for page in pages for status in _RAN)
    most = Fraction(UNKNOWN_MINUTES * price)
    by_task = min(Fraction(cost_micros, ran_count), most) if ran_count else most
    return max(by_attempt, by_task) / price


def _running_minutes(job: Job, pages: Sequence[PageSummary], now: datetime) -> float:
    """Return for how long some attempt of a job may have been running of which nothing has ended."""
    is_running = any(page.counts.get(TaskStatus.RUNNING, 0) for page in pages)
    if not is_running or job.started_at is None:
        return 0.0
    return (now - job.started_at) / timedelta(minutes=1)
