"""Usage and budgets. Who may: owners and administrators, of their own account; at most 400 days in one answer."""

from calendar import monthrange
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.core.usage import GIB, StoredDay, UsedHour
from shared.http import Reply
from shared.models.money import MICROS_PER_DOLLAR
from shared.schemas.days import read_day
from shared.schemas.usage import read_usage_query
from shared.services.budgets import budgets_in_use
from shared.services.reports import compute_usage, storage_usage


def get_usage(request: Request) -> Reply:
    """Tell what was computed, by the hour in which it ended; one row of zeros for nothing, the clients need one."""
    principal = caller(request)
    period = read_usage_query(request.args, wiring.now())
    hours = compute_usage(principal, period.first, period.end, wiring.ports())
    return {"data": [_hour(number, hour) for number, hour in enumerate(hours)]}


def _hour(number: int, hour: UsedHour) -> dict[str, Any]:
    """Return a row; its cores are core-hours, which is how the clients read them."""
    return {
        "self_link": number,
        "start_time": format_datetime(hour.start, usegmt=True),
        "minutes": hour.sums.billed_minutes,
        "cores": round(hour.sums.core_minutes / 60, 4),
        "instance_cost": hour.sums.cost_micros / MICROS_PER_DOLLAR,
        "license_cost": 0.0,
    }


def get_storage_usage(request: Request) -> Reply:
    """Tell what was stored, by the day: `?start=2026-03-01&end=2026-04-01`, without the end itself."""
    principal = caller(request)
    first = read_day("start", request.args.get("start", ""))
    end = read_day("end", request.args.get("end", ""))
    days = storage_usage(principal, first, end, wiring.ports())
    return {"data": [_storage(days) | {"end_date": end.isoformat()}]}


def _storage(days: Sequence[StoredDay]) -> dict[str, Any]:
    """Return the one row; sums and prices are texts, as the clients know them."""
    last = days[-1].day
    price = next((each.price_micros for each in reversed(days) if each.price_micros), None)
    monthly = (wiring.storage_price() if price is None else price) / MICROS_PER_DOLLAR
    cost = sum(each.cost_micros for each in days) / MICROS_PER_DOLLAR
    gibs = [each.size_bytes / GIB for each in days]
    return {
        "start_date": days[0].day.isoformat(),
        "cost_per_day": [each.cost_micros / MICROS_PER_DOLLAR for each in days],
        "gibs_per_day": [round(each, 6) for each in gibs],
        "cost": f"{cost:.6f}",
        "gibs_used": f"{sum(gibs) / len(gibs):.6f}",
        "currency": "USD",
        "storage_unit": "GiB",
        "monthly_price": f"{monthly:.6f}",
        "daily_price": f"{monthly / monthrange(last.year, last.month)[1]:.6f}",
    }


def get_budgets(request: Request) -> Reply:
    """Tell what the account and its projects may spend, have spent, and will have when what is under way has ended."""
    found = budgets_in_use(caller(request).account_id, wiring.ports())
    return {
        "data": [
            {
                "project": each.budget.project or None,
                "period": each.budget.period.value,
                "renews_on": each.renews_on.isoformat() if each.renews_on else None,
                "limit_micros": each.budget.limit_micros,
                "spent_micros": each.spent_micros,
                "under_way_micros": each.under_way_micros,
            }
            for each in found
        ]
    }
