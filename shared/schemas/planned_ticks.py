"""A planned tick as one gzipped JSON object, and back: its form is that of the models, field by field.

What was kept before a model changed can be read no more, and is refused: it cannot be planned again as it was. The
exceptions are `ADDED`: fields whose defaults say what was so before there were any.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson

from shared.core.census import Backlog
from shared.core.replay import PlannedTick
from shared.errors import Conflict
from shared.models.farm import Instance, PoolKey, Shape

# Raised when a field comes to mean something else; one that is dropped or renamed is noticed by itself, and one that is
# added too, unless it is here.
FORM = 1
ADDED: Mapping[Any, frozenset[str]] = {
    Backlog: frozenset({"avoided_zones"}),
    Instance: frozenset({"may_return"}),
}
# Of 20,000 instances it makes 750 KB in 25 ms; the usual level saves a fifth of that and takes twice as long.
_LEVEL = 1

# What comes of reading bytes that are no gzip, no JSON, or JSON of something else.
_WRONG = (OSError, EOFError, zlib.error, AttributeError, LookupError, TypeError, ValueError)

Reader = Callable[[Any], Any]


class _OtherForm(Exception):
    """What was read is no planned tick, or not any more."""


def written(tick: PlannedTick) -> bytes:
    """Return a tick as it is kept."""
    prices = {pool.pool_id: price for pool, price in tick.inputs.prices.items()}
    said = vars(tick) | {"inputs": vars(tick.inputs) | {"prices": prices}}
    plain = orjson.dumps(
        {"form": FORM, "tick": said}, default=_plain, option=orjson.OPT_NON_STR_KEYS
    )
    return gzip.compress(plain, _LEVEL, mtime=0)


def read(content: bytes, name: str) -> PlannedTick:
    """Return a tick that was kept; `name` is what an error calls it. Raises: Conflict when it has another form."""
    try:
        found = orjson.loads(gzip.decompress(content))
        if found["form"] != FORM:
            raise _OtherForm(f"form {found['form']}, not {FORM}")
        tick: PlannedTick = _reader(PlannedTick)(found["tick"])
    except (_OtherForm, *_WRONG) as error:
        raise Conflict(f"{name} was kept in another form: {error}") from error
    return tick


def _plain(value: object) -> object:
    """Return what JSON has for what the library does not know."""
    match value:
        case PoolKey():
            return value.pool_id
        case Shape():
            return value.name
        case datetime():  # Firestore's own kind
            return value.isoformat()
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} has no form")


def _shape(name: str) -> Shape:
    return Shape(*PoolKey.parse(f"-:{name}")[1:])


_SPELLED: Mapping[Any, Reader] = {
    PoolKey: lru_cache(1024)(PoolKey.parse),  # thousands of instances are in few pools
    Shape: _shape,
    datetime: datetime.fromisoformat,
}
_PLAIN = (str, int, float, bool, object)


@cache
def _reader(kind: Any) -> Reader:
    """Return what reads a value of this type. Raises: TypeError when there is no form for it."""
    if kind in _SPELLED:
        return _SPELLED[kind]
    if is_dataclass(kind):
        return _record_reader(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind in _PLAIN:
        return lambda found: found
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType) and len(inner) == 2 and NoneType in inner:
        read_one = _reader(next(each for each in inner if each is not NoneType))
        return lambda found: None if found is None else read_one(found)
    if origin is Sequence or (origin is tuple and inner[1:] == (...,)):
        read_each = _reader(inner[0])
        return lambda found: tuple(map(read_each, found))
    if origin is Mapping:
        read_key, read_value = map(_reader, inner)
        return lambda found: {read_key(key): read_value(each) for key, each in found.items()}
    raise TypeError(f"{kind} has no form")


def _record_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {each.name: _reader(hints[each.name]) for each in fields(kind)}
    added = ADDED.get(kind, frozenset())

    def read_record(found: Any) -> Any:
        differing = found.keys() ^ readers.keys()
        if differing - (added - found.keys()):
            raise _OtherForm(f"{kind.__name__} differs in {', '.join(sorted(differing))}")
        return kind(**{name: readers[name](each) for name, each in found.items()})

    return read_record
