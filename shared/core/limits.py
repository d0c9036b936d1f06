"""What holds attempts back: how much is left of each limit, and what one attempt takes of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.core.budgets import Spending, covers, renewal, under_way
from shared.core.pricing import dollars
from shared.models.account import Account, Budget
from shared.models.job import Job, JobRef
from shared.models.task import WaitingFor


@dataclass(kw_only=True)
class Limit:
    """Something of which every attempt takes a part; `left` may be less than nothing, where a limit was lowered.

    Shapes: `takes` is what one attempt takes, by job; jobs that are not in it are not limited. `note` tells why a job
    waits: the same as long as the limit is, however much of it is taken, since every change of it is a write for each
    job that waits; and nothing that somebody who sees no more than one of the jobs may not know.
    """

    reason: WaitingFor
    left: int
    takes: Mapping[JobRef, int]
    note: str

    def room(self, ref: JobRef) -> int:
        """Return how many more attempts of a job there may be."""
        return max(self.left, 0) // self.takes[ref]

    def take(self, ref: JobRef, count: int) -> None:
        """Count so many more attempts of a job."""
        self.left -= count * self.takes[ref]


def limits_of(
    account: Account,
    jobs: Sequence[Job],
    in_flight: Mapping[JobRef, int],
    spending: Spending | None,
) -> list[Limit]:
    """Return what the jobs of an account share. Where two bind alike, the first is told: it will last the longest."""
    return [
        *_budgets(jobs, in_flight, spending),
        *_licences(account, jobs, in_flight),
        Limit(
            reason=WaitingFor.LIMIT,
            left=account.max_instances - sum(in_flight.values()),
            takes=dict.fromkeys((job.ref for job in jobs), 1),
            note=f"the account runs {account.max_instances} instances at most",
        ),
    ]


def own_limits(job: Job, in_flight: Mapping[JobRef, int]) -> list[Limit]:
    """Return what limits one job alone."""
    if not job.max_instances:
        return []
    return [
        Limit(
            reason=WaitingFor.LIMIT,
            left=job.max_instances - in_flight.get(job.ref, 0),
            takes={job.ref: 1},
            note=f"the job runs {job.max_instances} instances at most",
        )
    ]


def seats_taken(jobs: Sequence[Job], in_flight: Mapping[JobRef, int]) -> Counter[str]:
    """Return how many attempts in flight have a seat of each licence product."""
    taken: Counter[str] = Counter()
    for job in jobs:
        for product in job.licences:
            taken[product] += in_flight.get(job.ref, 0)
    return taken


def _licences(
    account: Account, jobs: Sequence[Job], in_flight: Mapping[JobRef, int]
) -> list[Limit]:
    taken = seats_taken(jobs, in_flight)
    return [
        Limit(
            reason=WaitingFor.LICENCE,
            left=seats - taken[product],
            takes={job.ref: 1 for job in jobs if product in job.licences},
            note=_note_of_seats(product, seats),
        )
        for product, seats in sorted(account.licences.items())
    ]


def _note_of_seats(product: str, seats: int) -> str:
    said = "the only seat is taken" if seats == 1 else f"all {seats} seats are taken"
    return f"{product}: {said}"


def _budgets(
    jobs: Sequence[Job], in_flight: Mapping[JobRef, int], spending: Spending | None
) -> list[Limit]:
    if spending is None:
        return []
    found = []
    for budget, spent_micros in spending.spent.items():
        paid = {job.ref: spending.attempt_micros[job.ref] for job in jobs if covers(budget, job)}
        coming = under_way(budget, jobs, in_flight, spending.attempt_micros)
        found.append(
            Limit(
                reason=WaitingFor.BUDGET,
                left=budget.limit_micros - spent_micros - coming,
                takes={ref: micros for ref, micros in paid.items() if micros > 0},
                note=_note_of_budget(budget, spending.as_of),
            )
        )
    return found


def _note_of_budget(budget: Budget, as_of: datetime) -> str:
    """Return why jobs wait for a budget. What a whole account may spend is not for all who may see one of its jobs."""
    renewed_on = renewal(budget, as_of)
    whose = "the account's budget"
    if budget.project:
        amount = dollars(budget.limit_micros) + (" a month" if renewed_on else "")
        whose = f"the budget of project {budget.project}, {amount},"
    renewed = f"; it renews on {renewed_on} (UTC)" if renewed_on else ""
    return f"{whose} has no room for another attempt{renewed}"
