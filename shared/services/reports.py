"""Reports of usage: computing by the hour, storage by the day. Read from the days that the meter has drawn."""

from datetime import date, datetime, timedelta

from shared.core.permissions import Action, check
from shared.core.usage import StoredDay, UsedHour, stored_day, used_hours
from shared.errors import InvalidRequest
from shared.models.account import Principal
from shared.ports import Ports

MAX_DAYS = 400


def compute_usage(
    principal: Principal, first: datetime, end: datetime, ports: Ports
) -> list[UsedHour]:
    """Return the hours of a period in which attempts ended, at least one; everything counts where it ended.

    Raises: Forbidden.
    """
    check(principal, Action.READ_BILLING)
    count = max((end.date() - first.date()).days + 1, 0)
    days = [first.date() + timedelta(days=number) for number in range(count)]
    found = ports.ledger.days(principal.account_id, first.date(), count)
    return used_hours(list(zip(days, found, strict=True)), first, end)


def storage_usage(principal: Principal, first: date, end: date, ports: Ports) -> list[StoredDay]:
    """Return each day from `first` on, before `end`. Raises: Forbidden; InvalidRequest."""
    check(principal, Action.READ_BILLING)
    count = (end - first).days
    if not 1 <= count <= MAX_DAYS:
        raise InvalidRequest({"end": f"must be 1 to {MAX_DAYS} days after start"})
    found = ports.ledger.days(principal.account_id, first, count)
    return [
        stored_day(first + timedelta(days=number), fields) for number, fields in enumerate(found)
    ]
