"""What was used, as the reports tell it: hours of computing, days of storage."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from shared.models.money import LedgerSums

GIB = 1024**3
_HOUR = timedelta(hours=1)


class UsedHour(NamedTuple):
    """What the attempts that ended within an hour come to."""

    start: datetime
    sums: LedgerSums


class StoredDay(NamedTuple):
    """What was stored on a day, on average, and its cost. Units: bytes, micro-dollars, micro-dollars a GiB-month."""

    day: date
    size_bytes: int
    cost_micros: int
    price_micros: int


def used_hours(
    days: Sequence[tuple[date, Mapping[str, Any]]], first: datetime, end: datetime
) -> list[UsedHour]:
    """Return the hours from `first` on, before `end`, in which attempts ended; where there are none, one of zeros."""
    found = [
        UsedHour(start, LedgerSums(**said))
        for day, fields in days
        for hour, said in sorted(fields.get("hours", {}).items())
        if first <= (start := _hour(day, hour)) < end
    ]
    return found or [UsedHour(first.replace(minute=0, second=0, microsecond=0), LedgerSums())]


def _hour(day: date, hour: str) -> datetime:
    return datetime.combine(day, time(tzinfo=UTC)) + int(hour) * _HOUR


def stored_day(day: date, fields: Mapping[str, Any]) -> StoredDay:
    """Return what a day's measurements come to: nothing where there are none."""
    samples = list(fields.get("storage", {}).values())
    if not samples:
        return StoredDay(day, 0, 0, 0)
    month_days = monthrange(day.year, day.month)[1]
    size_bytes = sum(each["size_bytes"] for each in samples)
    micros = sum(each["size_bytes"] * each["micros_per_gib_month"] for each in samples)
    return StoredDay(
        day,
        size_bytes=size_bytes // len(samples),
        cost_micros=round(micros / (len(samples) * GIB * month_days)),
        price_micros=samples[-1]["micros_per_gib_month"],
    )
