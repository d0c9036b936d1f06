"""Ticks that are over, planned again: with the same policy nothing differs, with another one it is told what does."""

from datetime import timedelta
from inspect import signature
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.census import Backlog
from shared.core.replay import PlanInputs, PlannedTick, compare, counts
from shared.core.scaling import plan
from shared.errors import InvalidRequest
from shared.models.farm import Breaker, Instance, Orchestrator, PoolKey, ProblemCode, Shape
from shared.schemas import planned_ticks
from shared.services.replay import with_policy
from tests.core.farm import (
    NOW,
    OTHER_SHAPE,
    SHAPE,
    A,
    B,
    S,
    an_instance,
    an_orchestrator,
    booting,
    some,
    wants,
)

ZONES = ("z-a", "z-b", "z-c")
POOLS = [PoolKey(zone, *shape) for zone in ZONES for shape in (SHAPE, OTHER_SHAPE)]


def a_tick(
    orchestrator: Orchestrator,
    backlog: list[Backlog] | None = None,
    instances: list[Instance] | None = None,
    **more: Any,
) -> PlannedTick:
    """Return what a tick was planned from, and what was decided."""
    inputs = PlanInputs(
        orchestrator=orchestrator,
        now=NOW,
        backlog=tuple(backlog or ()),
        instances=tuple(instances or ()),
        **more,
    )
    names = iter(range(10_000))
    decisions = inputs.plan(lambda: f"new-{next(names)}")
    return PlannedTick(inputs=inputs, decisions=decisions, plan_ms=0.5)


_seconds = st.integers(0, 1000).map(lambda seconds: NOW - timedelta(seconds=seconds))
_instances = st.lists(
    st.builds(
        Instance,
        name=st.uuids().map(str),
        pool=st.sampled_from(POOLS),
        status=st.sampled_from(list(S)),
        created_at=_seconds,
        idle_since=st.none() | _seconds,
        is_unused=st.booleans(),
        free_in_s=st.none() | st.floats(0, 500),
    ),
    max_size=40,
)
_backlogs = st.lists(
    st.builds(
        Backlog,
        shape=st.sampled_from([SHAPE, OTHER_SHAPE, Shape("n1-standard-8", True)]),
        count=st.integers(0, 60),
        expected_s=st.none() | st.floats(0.5, 500),
        is_passed_over=st.booleans(),
        is_held=st.booleans(),
        avoided_zones=st.sets(st.sampled_from(ZONES), max_size=2).map(
            lambda zones: tuple(sorted(zones))
        ),
    ),
    max_size=5,
)
_breakers = st.builds(
    Breaker,
    pool=st.sampled_from(POOLS),
    until=st.integers(-60, 60).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    cause=st.sampled_from([ProblemCode.STOCK_OUT, ProblemCode.UNUSED]),
)
_prices = st.dictionaries(st.sampled_from(POOLS), st.integers(1, 99))


@st.composite
def _orchestrators(draw: st.DrawFn) -> Orchestrator:
    return an_orchestrator(
        zones={zone: draw(st.booleans()) for zone in ZONES},
        boot_s=draw(st.integers(1, 200)),
        idle_s=draw(st.integers(0, 120)),
        max_instances=draw(st.integers(0, 60)),
        max_per_pool=draw(st.integers(1, 60)),
        max_grow_per_tick=draw(st.integers(1, 60)),
        max_per_type=draw(st.dictionaries(st.just("n1-standard-4"), st.integers(0, 40))),
        min_sizes=draw(st.dictionaries(st.just(A.pool_id), st.integers(0, 5))),
        spare_percent=draw(st.integers(0, 30)),
        breakers=tuple(draw(st.lists(_breakers, max_size=3, unique_by=lambda each: each.pool))),
    )


def test_a_tick_keeps_all_that_plan_is_given() -> None:
    assert {*PlanInputs.__dataclass_fields__, "new_name"} == {*signature(plan).parameters}


@given(_orchestrators(), _backlogs, _instances, _prices, st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_the_same_policy_decides_what_was_decided(
    orchestrator: Orchestrator,
    backlog: list[Backlog],
    there: list[Instance],
    prices: dict[PoolKey, int],
    unlisted: int,
) -> None:
    was = a_tick(orchestrator, backlog, there, prices=prices, unlisted_count=unlisted)
    kept = planned_ticks.read(planned_ticks.written(was), "a tick")
    assert kept == was
    same = with_policy(kept.inputs.orchestrator, {"boot_s": orchestrator.boot_s})
    assert same == orchestrator
    for each in compare(kept, same):
        assert not each.differs
        assert each.wished_then == each.wished_now
        assert (each.then is None) == (each.now is None)
        if each.then and each.now:
            for names in ("retire", "drain", "resume", "reason", "facts"):
                assert getattr(each.then, names) == getattr(each.now, names)


def test_a_policy_that_waits_longer_keeps_what_went() -> None:
    idle = [an_instance("i1", S.IDLE), an_instance("i2", S.IDLE, B), an_instance("i3", S.BUSY, B)]
    tick = a_tick(an_orchestrator(idle_s=60), [], idle)
    found = {each.pool: each for each in compare(tick, an_orchestrator(idle_s=6000))}
    assert [counts(found[pool].then)["drain"] for pool in (A, B)] == [1, 1]
    assert [found[pool].now for pool in (A, B)] == [None, None]
    assert [(found[pool].wished_then, found[pool].wished_now) for pool in (A, B)] == [
        (0, 1),
        (1, 2),
    ]
    assert all(each.differs for each in found.values())


def test_a_policy_with_a_lower_cap_starts_less() -> None:
    tick = a_tick(an_orchestrator(), [wants(10)], booting(2))
    other = an_orchestrator(max_grow_per_tick=4)
    found = compare(tick, other)
    assert sum(counts(each.then)["grow"] for each in found) == 8
    assert sum(counts(each.now)["grow"] for each in found) == 4
    assert sum(each.wished_then for each in found) == 10
    assert sum(each.wished_now for each in found) == 6


def test_what_leaves_anyway_is_not_wished_for() -> None:
    leaving = [*some(2, S.DRAINING), *some(3, S.RETIRING), *some(4, S.BUSY)]
    (found,) = compare(a_tick(an_orchestrator(), [], leaving), an_orchestrator())
    assert (found.wished_then, found.wished_now) == (4, 4)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"idle_s": -1}, "idle_s"),
        ({"idle_s": "long"}, "idle_s"),
        ({"idles": 1}, "idles"),
        ({"min_sizes": {"anywhere": 1}}, "min_sizes"),
        ({"region": "us-east1"}, "region"),
        ({"provider": "aws"}, "provider"),
        ({"orchestrator_id": "o1"}, "orchestrator_id"),
    ],
    ids=str,
)
def test_a_field_that_is_wrong_or_no_policy_is_refused_by_name(
    fields: dict[str, object], wrong: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        with_policy(an_orchestrator(), fields)
    assert {each.partition(".")[0] for each in refused.value.fields} == {wrong}
