"""Spending: what the budgets of an account have spent and what is under way, exactly enough to stop at a line.

The database adds up the ledger (a read for a thousand entries), whose entries come in the commit that ends an attempt.
An account without budgets, and a round in which nothing of theirs could start, costs nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.core.admission import ready_count
from shared.core.budgets import Spending, attempt_micros, covers, first_day
from shared.models.account import Account, Budget
from shared.models.job import Job, JobRef
from shared.models.task import PageSummary
from shared.ports import LedgerSpan, Ports

# What ended before yesterday is summed anew after so long: only an attempt that was settled days late, while nobody
# swept the farm, still adds to it.
_KEPT = timedelta(minutes=10)
_REMEMBERED = 10_000

_older: dict[tuple[str, LedgerSpan], tuple[datetime, int]] = {}


def spending(
    account: Account,
    jobs: Sequence[Job],
    pages: Mapping[JobRef, Sequence[PageSummary]],
    ports: Ports,
) -> Spending | None:
    """Return what bears on the jobs that have ready tasks; None where no budget does. `pages` were read before."""
    ready = [job for job in jobs if ready_count(job, pages)] if account.has_budgets else []
    if not ready:
        return None
    found = ports.accounts.budgets(account.account_id)
    budgets = [each for each in found if any(covers(each, job) for job in ready)]
    if not budgets:
        return None
    now = ports.now()
    return Spending(
        spent=spent(account.account_id, budgets, ports, now),
        attempt_micros=attempt_micros(jobs, pages, now),
        as_of=now,
    )


def spent(
    account_id: str, budgets: Sequence[Budget], ports: Ports, now: datetime
) -> dict[Budget, int]:
    """Return what each budget has spent within the period that `now` is in, in micro-dollars."""
    spans = {each: _spans(each, now) for each in budgets}
    asked = {span for pair in spans.values() for span in pair}
    known = {span: micros for span in asked if (micros := _kept(account_id, span, now)) is not None}
    missing = list(asked - known.keys())
    for span, micros in zip(missing, ports.ledger.spent(account_id, missing), strict=True):
        known[span] = micros
        if span.before is not None:
            _keep(account_id, span, now, micros)
    return {each: sum(known[span] for span in pair) for each, pair in spans.items()}


def _spans(budget: Budget, now: datetime) -> list[LedgerSpan]:
    """Return what has ended since yesterday began, and what ended before that, if the period is as old."""
    first, yesterday = first_day(budget, now), now.date() - timedelta(days=1)
    recent = LedgerSpan(project=budget.project, first=max(first or yesterday, yesterday))
    if first is not None and first >= yesterday:
        return [recent]
    return [recent, LedgerSpan(project=budget.project, first=first, before=yesterday)]


def _kept(account_id: str, span: LedgerSpan, now: datetime) -> int | None:
    at, micros = _older.get((account_id, span), (now, None))
    return micros if abs(now - at) < _KEPT else None


def _keep(account_id: str, span: LedgerSpan, now: datetime, micros: int) -> None:
    if len(_older) >= _REMEMBERED:
        _older.clear()
    _older[account_id, span] = (now, micros)
