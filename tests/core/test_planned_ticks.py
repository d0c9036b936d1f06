"""The form in which a tick is kept: all fields of all models in it, and no other form is read."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.census import Backlog
from shared.core.replay import PlanInputs, PlannedTick
from shared.errors import Conflict
from shared.models.farm import Breaker, Decision, PoolKey, Shape
from shared.schemas.planned_ticks import read, written
from tests.core.farm import NOW, SHAPE, A, B, S, an_instance, an_orchestrator
from tests.golden_files import check_golden

BREAKER = Breaker(pool=B, until=NOW + timedelta(minutes=1), cause="stock_out")


def an_eventful_tick() -> PlannedTick:
    return PlannedTick(
        inputs=PlanInputs(
            orchestrator=an_orchestrator(min_sizes={A.pool_id: 2}, breakers=(BREAKER,)),
            now=NOW,
            backlog=(
                Backlog(shape=SHAPE, count=3, expected_s=12.5),
                Backlog(shape=SHAPE, count=1, avoided_zones=("z-a",)),
            ),
            instances=(an_instance("i1", S.IDLE), an_instance("i2", S.BUSY, free_in_s=4.25)),
            prices={A: 1200},
            unlisted_count=1,
            unlisted_pools=(B,),
        ),
        decisions=(Decision(pool=A, grow=("i3",), reason="3 wait", facts={"need": 2.5}),),
        plan_ms=1.5,
    )


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return every value that a field of this type may have."""
    words = st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(),
        int: st.integers(-(2**53), 2**53),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        object: st.integers(-(2**53), 2**53) | st.text(),
        datetime: st.datetimes(timezones=st.just(UTC)),
        PoolKey: st.builds(PoolKey, words, words, st.booleans()),
        Shape: st.builds(Shape, words, st.booleans()),
    }
    if kind in plain:
        return plain[kind]
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{each.name: values_of(hints[each.name]) for each in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    inner = [values_of(each) for each in get_args(kind) if each not in (NoneType, ...)]
    if get_origin(kind) is UnionType:
        return st.none() | inner[0]
    if get_origin(kind) is Mapping:
        return st.dictionaries(*inner, max_size=3)
    assert get_origin(kind) in (tuple, Sequence), kind
    return st.lists(inner[0], max_size=3).map(tuple)


@given(values_of(PlannedTick))
@settings(max_examples=100, deadline=None)
def test_every_field_of_every_model_is_kept(tick: PlannedTick) -> None:
    assert read(written(tick), "a tick") == tick


def test_a_kept_tick_has_its_form() -> None:
    check_golden("planned_tick", json.loads(gzip.decompress(written(an_eventful_tick()))))


def test_the_same_tick_is_kept_as_the_same_bytes() -> None:
    assert written(an_eventful_tick()) == written(an_eventful_tick())


def test_the_times_of_the_database_are_times() -> None:
    until = DatetimeWithNanoseconds(2026, 11, 20, 12, nanosecond=123456789, tzinfo=UTC)
    tick = an_eventful_tick()
    orchestrator = replace(tick.inputs.orchestrator, breakers=(replace(BREAKER, until=until),))
    stored = replace(tick, inputs=replace(tick.inputs, orchestrator=orchestrator))
    (found,) = read(written(stored), "a tick").inputs.orchestrator.breakers
    assert found.until == datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


def changed(path: Sequence[str | int], value: object) -> bytes:
    """Return a tick's bytes with something set, or removed, within."""
    whole = json.loads(gzip.decompress(written(an_eventful_tick())))
    place = whole
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return gzip.compress(json.dumps(whole).encode())


INPUTS = ("tick", "inputs")


def test_a_tick_that_was_kept_before_zones_could_be_avoided_avoids_none() -> None:
    tick = an_eventful_tick()
    found = read(changed([*INPUTS, "backlog", 1, "avoided_zones"], None), "a tick")
    (first, second) = tick.inputs.backlog
    plain = replace(tick.inputs, backlog=(first, replace(second, avoided_zones=())))
    assert found == replace(tick, inputs=plain)


@pytest.mark.parametrize("name", ["may_return"])
def test_a_tick_that_was_kept_before_there_was_a_field_is_read(name: str) -> None:
    assert read(changed([*INPUTS, "instances", 0, name], None), "a tick") == an_eventful_tick()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(["form"], 0), "form 0, not 1"),
        (changed(["form"], None), "form"),
        (changed(["tick"], []), ""),
        (
            changed([*INPUTS, "orchestrator", "spare_percent"], None),
            "Orchestrator .* spare_percent",
        ),
        (changed([*INPUTS, "orchestrator", "spares"], 1), "Orchestrator .* spares"),
        (changed([*INPUTS, "backlog", 0, "is_held"], None), "Backlog .* is_held"),
        (changed([*INPUTS, "backlog", 0], []), ""),
        (changed([*INPUTS, "instances", 0, "status"], "asleep"), "asleep"),
        (changed([*INPUTS, "instances", 0, "pool"], "nowhere"), ""),
        (changed([*INPUTS, "now"], "noon"), "noon"),
        (gzip.compress(b"{"), ""),
        (gzip.compress(b"[]"), ""),
        (b"no gzip", ""),
        (written(an_eventful_tick())[:-20], ""),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_another_form_is_refused_by_the_name_of_what_was_kept(content: bytes, said: str) -> None:
    with pytest.raises(Conflict, match=f"ticks/x was kept in another form.*{said}"):
        read(content, "ticks/x")
