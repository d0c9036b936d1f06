"""Filters of lists: `field_op_value` terms, separated by commas, all of which must hold.

Ops are eq, ne, gt, gte, lt, lte and in. Values: ids and numbers are digits, moments are 2026-03-02 or
2026-03-02T18:00:00Z (UTC unless it says otherwise), flags are true or false; `in` takes several, separated by `|`. A
comma or a backslash inside a value is written with a backslash before it. Names, statuses and flags know eq, ne and in.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shared.errors import InvalidRequest

MAX_TERMS = 20
MAX_VALUES = 100

_TERM = re.compile(r"(?:[^,\\]|\\.)+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_FLAGS: Mapping[str, bool] = {"true": True, "false": False}
_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_OPS = ("eq", "ne", "in")
_YEARS = range(1970, 3000)


class Kind(StrEnum):
    """What the values of a field are."""

    NAME = "name"
    NUMBER = "number"  # ids too: their zeros do not count
    MOMENT = "moment"
    FLAG = "flag"


# A field is of a kind, or one of some words.
Field = Kind | type[StrEnum]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One condition. `value` is what it compares with, a tuple of them for `in`."""

    field: str
    op: str
    value: Any

    def accepts(self, found: Any) -> bool:
        """Tell whether a value fulfils it; what is missing equals nothing and compares with nothing."""
        if self.op in _ORDERED:
            return found is not None and _ORDERED[self.op](found, self.value)
        is_among = found in self.value if self.op == "in" else bool(found == self.value)
        return is_among != (self.op == "ne")


def read_filter(text: str, fields: Mapping[str, Field]) -> list[Term]:
    """Read a filter. Raises: InvalidRequest for `filter`, naming the term that is not understood."""
    terms = [found.group().strip() for found in _TERM.finditer(text)]
    if len(terms) > MAX_TERMS:
        raise InvalidRequest({"filter": f"has more than {MAX_TERMS} terms"})
    return [_read_term(term, fields) for term in terms if term]


def accepts(terms: Iterable[Term], found: Mapping[str, Any]) -> bool:
    """Tell whether what is found fulfils all terms about the fields that it has."""
    return all(term.accepts(found[term.field]) for term in terms if term.field in found)


def _read_term(text: str, fields: Mapping[str, Field]) -> Term:
    names = "|".join(map(re.escape, fields))
    matched = re.fullmatch(rf"({names})_([a-z]+)_(.*)", text, re.DOTALL)
    if matched is None:
        known = ", ".join(fields)
        raise _wrong(text, f"is not FIELD_OP_VALUE with one of the fields {known}")
    name, op, value = matched.groups()
    kind = fields[name]
    ops = (*_OPS, *_ORDERED) if kind in (Kind.NUMBER, Kind.MOMENT) else _OPS
    if op not in ops:
        raise _wrong(text, f"{name} can be compared by {', '.join(ops)} only")
    if op != "in":
        return Term(field=name, op=op, value=_read_value(text, value, kind))
    values = value.split("|")
    if len(values) > MAX_VALUES:
        raise _wrong(text, f"has more than {MAX_VALUES} values")
    return Term(field=name, op=op, value=tuple(_read_value(text, each, kind) for each in values))


def _read_value(term: str, text: str, kind: Field) -> Any:
    text = _ESCAPED.sub(r"\1", text)
    if kind is Kind.NAME:
        return text
    if kind is Kind.NUMBER:
        if not _NUMBER.fullmatch(text):
            raise _wrong(term, f"{text!r} is not a number")
        return int(text)
    if kind is Kind.FLAG:
        if text not in _FLAGS:
            raise _wrong(term, f"{text!r} is neither true nor false")
        return _FLAGS[text]
    if kind is Kind.MOMENT:
        return _read_moment(term, text)
    assert not isinstance(kind, Kind)
    try:
        return kind(text)
    except ValueError as error:
        raise _wrong(term, f"{text!r} is none of {', '.join(kind)}") from error


def _read_moment(term: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong(term, f"{text!r} is not a moment such as 2026-03-02T18:00:00Z") from error
    if found.year not in _YEARS:
        raise _wrong(term, f"the year must be {_YEARS[0]} to {_YEARS[-1]}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _wrong(term: str, reason: str) -> InvalidRequest:
    return InvalidRequest({"filter": f"{term[:200]!r}: {reason[:400]}"})
