"""What usage reports are asked for: the clients write filter and grouping as JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from shared.errors import InvalidRequest

LONGEST = timedelta(days=400)
USUAL = timedelta(days=31)
_MOMENT = timedelta(microseconds=1)
_MAX_TERMS = 20
_YEARS = range(1970, 3000)


class Period(NamedTuple):
    """From `first` on, before `end`."""

    first: datetime
    end: datetime


def read_usage_query(said: Mapping[str, str], now: datetime) -> Period:
    """Return the period that `filter` leaves: the last 31 days where it does not say. Raises: InvalidRequest."""
    for name in ("group_by", "order_by"):
        _check_start_time_only(name, said.get(name, ""))
    first, end = None, None
    for number, term in enumerate(_read_list("filter", said.get("filter", ""))):
        lower, upper = _read_term(f"filter.{number}", term)
        if lower is not None:
            first = lower if first is None else max(first, lower)
        if upper is not None:
            end = upper if end is None else min(end, upper)
    end = end or (now if first is None or first < now else first)
    first = first or end - USUAL
    if end - first > LONGEST:
        raise InvalidRequest({"filter": f"must be at most {LONGEST.days} days"})
    return Period(first, end)


def _read_list(name: str, text: str) -> list[Any]:
    if not text:
        return []
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest({name: f"is not JSON: {error}"}) from error
    if not isinstance(found, list) or len(found) > _MAX_TERMS:
        raise InvalidRequest({name: f"must be a list of at most {_MAX_TERMS}"})
    return found


def _check_start_time_only(name: str, text: str) -> None:
    """Rows are hours, in order: nothing else can be asked for."""
    asked = [text] if text and not text.startswith("[") else _read_list(name, text)
    if any(each != "start_time" for each in asked):
        raise InvalidRequest({name: "can be start_time only"})


def _read_term(where: str, term: Any) -> tuple[datetime | None, datetime | None]:
    """Return from when on, and before when."""
    if not isinstance(term, dict) or set(term) != {"field", "op", "value"}:
        raise InvalidRequest({where: "must be an object of field, op and value"})
    if term["field"] != "start_time":
        raise InvalidRequest({f"{where}.field": "can be start_time only"})
    at = _read_moment(f"{where}.value", term["value"])
    bounds = {
        ">=": (at, None),
        ">": (at + _MOMENT, None),
        "<": (None, at),
        "<=": (None, at + _MOMENT),
        "==": (at, at + _MOMENT),
    }
    if not isinstance(term["op"], str) or term["op"] not in bounds:
        raise InvalidRequest({f"{where}.op": f"must be one of {' '.join(bounds)}"})
    return bounds[term["op"]]


def _read_moment(where: str, value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest({where: "must be a day or a moment, e.g. 2026-03-02"}) from error
    if at.year not in _YEARS:
        raise InvalidRequest({where: f"must be in the years {_YEARS[0]} to {_YEARS[-1]}"})
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
