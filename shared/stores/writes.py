"""Writes of Firestore documents, and what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeGuard

FieldPath = tuple[str, ...]


class _Deleted:
    """Marks a field that shall not be there any more."""


DELETED: Final = _Deleted()


@dataclass(frozen=True, kw_only=True)
class Create:
    """A document that must not be there yet."""

    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Put:
    """A document that replaces whatever was there."""

    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Update:
    """Some fields of a document; with `version` only if it has not changed since, with `upsert` even if there is none.

    Shapes: the keys of `fields` and `add` are field paths, i.e. tuples of names.
    """

    path: str
    fields: Mapping[Any, Any] = field(default_factory=dict)
    add: Mapping[Any, int] = field(default_factory=dict)
    version: Any = None
    upsert: bool = False


class Written(NamedTuple):
    """What became of a write: the new values of what it added to, in order, and the document's version after it."""

    added: Sequence[int]
    version: Any


def fold(writes: Sequence[Create | Put | Update]) -> tuple[list[Create | Put | Update], list[int]]:
    """Make one write of those blind updates of a document that set different fields.

    Returns what is left, and for each of `writes` where it went. To change ten fields of a document costs the database
    hardly more than to change one.
    """
    folded: list[Create | Put | Update] = []
    places: list[int] = []
    blind: dict[str, int] = {}
    for each in writes:
        place = blind.pop(each.path, len(folded))
        both = _sum_of(folded[place], each) if place < len(folded) else None
        if both is None:
            place = len(folded)
            folded.append(each)
        else:
            folded[place] = both
        if _is_blind(each):
            blind[each.path] = place
        places.append(place)
    return folded, places


def _is_blind(write: Create | Put | Update) -> TypeGuard[Update]:
    return isinstance(write, Update) and write.version is None and not write.upsert


def _sum_of(one: Create | Put | Update, other: Create | Put | Update) -> Update | None:
    """Return what does the same as one blind update and then another, None where their order matters."""
    if not (_is_blind(one) and _is_blind(other)):
        return None
    if not {*one.fields, *one.add}.isdisjoint(other.fields) or not one.fields.keys().isdisjoint(
        other.add
    ):
        return None
    add = dict(one.add)
    for path, number in other.add.items():
        add[path] = add.get(path, 0) + number
    return Update(path=one.path, fields={**one.fields, **other.fields}, add=add)


def part_of(
    written: Written, folded: Create | Put | Update, part: Create | Put | Update
) -> Written:
    """Return what one of the folded updates is told: the values of what it added to itself."""
    if not (isinstance(folded, Update) and isinstance(part, Update)):
        return written
    values = dict(zip(folded.add, written.added, strict=True))
    return Written([values[path] for path in part.add], written.version)
