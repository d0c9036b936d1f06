"""Meter: the ledger of a day, summed for the dashboard and the reports.

Cheap, and exact all the same, because the ledger only ever grows: a day with as many entries as its sums count is
summed already, which one count tells. Where it grew, the database adds up each part (one read for a thousand entries;
none comes here), and only the parts that can have changed are asked for: the projects known, and the hours since the
last time. If these do not add up to the day, an attempt was settled late or a project is new, and every part is asked
for. All parts are of one moment and the sums are drawn anew each time, so repeats and rounds side by side change
nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from typing import Any

from shared.errors import Contended
from shared.log import log, reason_of
from shared.models.money import LedgerSums
from shared.models.task import Outcome
from shared.ports import LedgerPart, LedgerSpan, Ports

# How far the clocks of two functions may be apart, and a commit on its way.
_LATE = timedelta(minutes=10)
# An attempt that was lost ended when its agent was last heard of, and is settled once its scheduler can be asked again:
# so many days before yesterday are looked at too.
_SETTLED_LATE_DAYS = 14
_TRIES = 5


def meter(account_id: str, day: date, ports: Ports) -> None:
    """Sum one UTC day of an account and store it, unless what is stored is all there is. Raises: Contended."""
    now = ports.now()
    known = ports.ledger.days(account_id, day, 1)[0]
    (whole,) = ports.ledger.sums(account_id, [LedgerPart(day.isoformat())])
    if known.get("attempt_count") == whole.attempt_count:
        return
    drawn = _draw_what_may_have_changed(account_id, day, known, ports)
    if drawn is None:
        drawn = _draw_all(account_id, day, ports)
    fields = drawn | {"date": day.isoformat(), "metered_at": now}
    ports.ledger.save_day(account_id, day, {(name,): value for name, value in fields.items()})


def meter_all(ports: Ports) -> int:
    """Sum today and yesterday of every account, and what was settled late; returns how many accounts there are.

    Whatever goes wrong with one account's day is logged and leaves the others alone.
    """
    today = ports.now().date()
    yesterday = today - timedelta(days=1)
    accounts = ports.admission.accounts()
    for account_id in accounts:
        for day in (today, yesterday):
            _alone(partial(meter, account_id, day, ports), account_id, day)
        _alone(partial(_meter_late, account_id, yesterday, ports), account_id, yesterday)
    return len(accounts)


def _alone(work: Callable[[], None], account_id: str, day: date) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  logged, and tried again by the next round
        reason = reason_of(error)
        log("ERROR", "not metered", account_id=account_id, date=str(day), reason=reason)


def _meter_late(account_id: str, before: date, ports: Ports) -> None:
    """Sum the days before this one once more, if the ledger has more of them than they say."""
    first = before - timedelta(days=_SETTLED_LATE_DAYS)
    known = ports.ledger.days(account_id, first, _SETTLED_LATE_DAYS)
    (micros,) = ports.ledger.spent(account_id, [LedgerSpan(first=first, before=before)])
    if micros != sum(each.get("cost_micros", 0) for each in known):
        for day in (first + timedelta(days=number) for number in range(_SETTLED_LATE_DAYS)):
            _alone(partial(meter, account_id, day, ports), account_id, day)


def _draw_what_may_have_changed(
    account_id: str, day: date, known: Mapping[str, Any], ports: Ports
) -> dict[str, Any] | None:
    """Return the day, its hours before the last metering as they were; None when that does not add up."""
    since, now = known.get("metered_at"), ports.now()
    if since is None or not (since - _LATE).date() == now.date() == day:
        return None
    first, last = (since - _LATE).hour, now.hour
    kept = {hour: LedgerSums(**each) for hour, each in known["hours"].items() if int(hour) < first}
    asked = [f"{hour:02}" for hour in range(first, last + 1)]
    return _draw(account_id, day, sorted(known["micros_by_project"]), asked, kept, ports)


def _draw_all(account_id: str, day: date, ports: Ports) -> dict[str, Any]:
    """Return the day from all its parts; once more when the first entry of a new part came meanwhile."""
    for _ in range(_TRIES):
        projects = ports.ledger.values(account_id, day, "project")
        hours = ports.ledger.values(account_id, day, "hour")
        drawn = _draw(account_id, day, projects, hours, {}, ports)
        if drawn is not None:
            return drawn
    raise Contended(f"ledger of {account_id} on {day}: its parts do not add up")


def _draw(
    account_id: str,
    day: date,
    projects: Sequence[str],
    hours: Sequence[str],
    kept: Mapping[str, LedgerSums],
    ports: Ports,
) -> dict[str, Any] | None:
    """Return the sums of a day, what came to nothing in columns of its own; None when the parts miss an entry."""
    whole_day = LedgerPart(day.isoformat())
    parts = [whole_day, whole_day._replace(outcome=Outcome.SUCCESS)]
    parts += [whole_day._replace(project=each) for each in projects]
    parts += [whole_day._replace(hour=each) for each in hours]
    whole, good, *rest = ports.ledger.sums(account_id, parts)
    by_project = dict(zip(projects, rest, strict=False))
    by_hour = {**kept, **dict(zip(hours, rest[len(projects) :], strict=True))}
    for split in (by_project, by_hour):
        if sum(each.attempt_count for each in split.values()) != whole.attempt_count:
            return None
    return {
        **asdict(whole),
        "wasted_minutes": whole.billed_minutes - good.billed_minutes,
        "wasted_micros": whole.cost_micros - good.cost_micros,
        "micros_by_project": {name: each.cost_micros for name, each in by_project.items()},
        "hours": {hour: asdict(each) for hour, each in by_hour.items() if each.attempt_count},
    }
