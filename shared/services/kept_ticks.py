"""Kept ticks: what each round of the autoscaler was planned from, in object storage, for 14 days.

A document would be too small: 20,000 instances are most of a megabyte, compressed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from itertools import takewhile

from shared.core.replay import PlannedTick
from shared.log import log, reason_of
from shared.ports import Blobs
from shared.schemas import planned_ticks

ROOT = "ticks/"
KEPT_DAYS = 14
AT_ONCE = 16


def keep_tick(tick: PlannedTick, blobs: Blobs) -> None:
    """Keep a round unless it saw nothing; a tick has done its work by then, so trouble is logged and not raised."""
    if tick.is_empty:
        return
    orchestrator_id, at = tick.inputs.orchestrator.orchestrator_id, tick.inputs.now
    name = f"{_day(at.date(), orchestrator_id)}{at:%H%M%S.%f}.json.gz"
    try:
        blobs.write(name, planned_ticks.written(tick), "application/gzip")
    except Exception as error:  # noqa: BLE001  the farm scales on whatever cannot be kept
        reason = reason_of(error)
        log("ERROR", "tick not kept", orchestrator_id=orchestrator_id, reason=reason)


def kept_ticks(day: date, orchestrator_id: str, blobs: Blobs) -> Iterator[PlannedTick]:
    """Yield the ticks of a UTC day by orchestrator and time, of all orchestrators when none is named.

    Raises: Conflict when one was kept in another form.
    """
    for name in blobs.names(_day(day, orchestrator_id)):
        yield planned_ticks.read(blobs.read(name), name)


def forget_ticks(now: datetime, blobs: Blobs) -> int:
    """Delete the ticks of days that are more than 14 days ago; returns how many."""
    oldest = f"{ROOT}{(now - timedelta(days=KEPT_DAYS)).date()}"
    old = list(takewhile(lambda name: name < oldest, blobs.names(ROOT)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(blobs.delete, old))
    return len(old)


def _day(day: date, orchestrator_id: str) -> str:
    """Return how the names begin; the day comes first, so that the old ones do."""
    return f"{ROOT}{day}/{orchestrator_id}/" if orchestrator_id else f"{ROOT}{day}/"
