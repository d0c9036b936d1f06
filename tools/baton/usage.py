"""`baton usage`: what accounts used, day by day, as the dashboard shows it."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import click

from shared import wiring
from shared.errors import InvalidRequest
from shared.services.administration import known_account
from tools.baton.answers import Answer, answers

MOST_DAYS = 400


@click.group()
def usage() -> None:
    """What was used, and what it cost."""


@usage.command("days")
@click.argument("account_id")
@click.option(
    "--from",
    "first",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The first UTC day; else 6 days before the last.",
)
@click.option(
    "--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="The last UTC day; else today."
)
@answers
def list_days(account_id: str, first: datetime | None, last: datetime | None) -> Answer:
    """Show the sums of each day of an account, and of all of them together."""
    known_account(account_id, wiring.account_store())
    end = last.date() if last else wiring.now().date()
    start = first.date() if first else end - timedelta(days=6)
    count = (end - start).days + 1
    if not 1 <= count <= MOST_DAYS:
        raise InvalidRequest(
            {"from": f"must be at most {MOST_DAYS - 1} days before --to, and not after it"}
        )
    found = wiring.ledger_store().days(account_id, start, count)
    days = [_listed(start + timedelta(days=number), each) for number, each in enumerate(found)]
    totals = {f"total_{name}": sum(each[name] for each in days) for name in _SUMMED}
    return {"account_id": account_id, **totals, "days": days}


_SUMMED = ("attempt_count", "billed_minutes", "cost_micros", "wasted_minutes", "wasted_micros")


def _listed(day: date, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "date": day.isoformat(),
        **{name: found.get(name, 0) for name in _SUMMED},
        "by_project_micros": dict(found.get("micros_by_project", {})),
        "metered_at": found.get("metered_at"),
    }
