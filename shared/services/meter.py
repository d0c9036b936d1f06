"""Meter: the ledger of a day, summed for the dashboard and the reports.

It is summed anew each time, so a repeat changes nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from shared.models.money import LedgerEntry
from shared.models.task import Outcome
from shared.ports import Ports


def meter(account_id: str, date: str, ports: Ports) -> dict[str, object]:
    """Sum one UTC day (YYYY-MM-DD) of an account and store it; returns the sums."""
    totals = totals_of(ports.jobs.ledger(account_id, date))
    ports.jobs.save_day(account_id, date, totals | {"date": date, "metered_at": ports.now()})
    return totals


def meter_all(ports: Ports) -> int:
    """Sum today and yesterday of every account; returns how many accounts there are."""
    today = ports.now().date()
    accounts = ports.admission.accounts()
    for account_id in accounts:
        for day in (today, today - timedelta(days=1)):
            meter(account_id, day.isoformat(), ports)
    return len(accounts)


def totals_of(entries: Sequence[LedgerEntry]) -> dict[str, object]:
    """Return attempts, minutes and micro-dollars of some entries; what came to nothing in columns of its own."""
    by_project: dict[str, int] = defaultdict(int)
    for entry in entries:
        by_project[entry.project] += entry.cost_micros
    wasted = [entry for entry in entries if entry.outcome is not Outcome.SUCCESS]
    return {
        "attempt_count": len(entries),
        "billed_minutes": sum(entry.billed_minutes for entry in entries),
        "cost_micros": sum(entry.cost_micros for entry in entries),
        "wasted_minutes": sum(entry.billed_minutes for entry in wasted),
        "wasted_micros": sum(entry.cost_micros for entry in wasted),
        "micros_by_project": dict(by_project),
    }
