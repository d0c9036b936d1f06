"""plan() for attempts that avoid zones: their machines are started elsewhere, as long as there is an elsewhere."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from shared.core import census
from shared.core.census import Backlog
from shared.models.farm import Breaker, Decision, Instance, Orchestrator, PoolKey, Stage
from tests.core.farm import (
    NOW,
    OTHER_SHAPE,
    SHAPE,
    STANDARD,
    A,
    B,
    S,
    a_placement,
    an_orchestrator,
    apply,
    booting,
    decide,
    drained,
    grown,
    retired,
    some,
    wants,
)

C = PoolKey("z-c", *SHAPE)
THREE = an_orchestrator(zones={"z-a": True, "z-b": True, "z-c": True})
# The zone that is avoided is always the cheapest.
DEAR = {A: 1, B: 2, C: 3}


def avoids(number: int, *zones: str, **fields: Any) -> Backlog:
    return replace(wants(number), avoided_zones=zones, **fields)


def reasons(decisions: Sequence[Decision]) -> dict[PoolKey, str]:
    return {each.pool: each.reason for each in decisions}


@pytest.mark.parametrize(
    ("backlog", "added"),
    [
        ([wants(4)], {A: 4}),
        ([avoids(4, "z-a")], {B: 4}),
        ([avoids(4, "z-b")], {A: 4}),
        ([avoids(1, "z-a"), wants(3)], {A: 3, B: 1}),
        ([avoids(1, "z-a"), avoids(2, "z-b"), wants(5)], {A: 7, B: 1}),
        ([avoids(3, "z-a"), avoids(2, "z-b"), avoids(1, "z-c")], {A: 3, B: 3}),
        ([avoids(5, "z-a"), avoids(1, "z-b")], {A: 1, B: 5}),
        ([avoids(2, "z-a", "z-b"), wants(3)], {A: 3, C: 2}),
        ([avoids(2, "z-a", "z-b"), avoids(3, "z-a"), wants(1)], {A: 1, B: 3, C: 2}),
        ([avoids(2, "z-a", "z-b", "z-c")], {A: 2}),
        ([avoids(2, "z-a"), avoids(3, "elsewhere")], {A: 3, B: 2}),
    ],
    ids=str,
)
def test_as_many_are_started_elsewhere_as_avoid_the_cheapest_zone_and_no_more(
    backlog: list[Backlog], added: dict[PoolKey, int]
) -> None:
    assert grown(decide(THREE, backlog, prices=DEAR)) == added


def test_what_avoids_a_zone_with_one_shape_moves_no_other_shape() -> None:
    prices = {**DEAR, STANDARD: 1, STANDARD._replace(zone="z-b"): 2}
    backlog = [avoids(3, "z-a"), wants(4, OTHER_SHAPE)]
    assert grown(decide(an_orchestrator(), backlog, prices=prices)) == {B: 3, STANDARD: 4}


def test_zones_of_one_price_share_what_avoids_another_one_evenly() -> None:
    assert grown(decide(THREE, [avoids(2, "z-a"), wants(4)])) == {A: 2, B: 2, C: 2}
    assert grown(decide(THREE, [avoids(6, "z-a")])) == {B: 3, C: 3}
    assert grown(decide(THREE, [avoids(5, "z-a", "z-b"), wants(3)])) == {A: 2, B: 1, C: 5}


OPEN = Breaker(pool=B, until=NOW + timedelta(minutes=1), cause="stock_out")


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({"zones": {"z-a": True}}, {A: 3}),
        ({"zones": {"z-a": True, "z-b": False}}, {A: 3}),
        ({"breakers": (OPEN,)}, {A: 3}),
        ({"pool_switches": {B.pool_id: False}}, {A: 3}),
        ({"max_per_pool": 2}, {A: 1, B: 2}),
        ({"breakers": (replace(OPEN, until=NOW),)}, {A: 2, B: 1}),  # half open: a probe
        ({"min_sizes": {A.pool_id: 1}}, {A: 1, B: 2}),
    ],
    ids=str,
)
def test_an_avoided_zone_is_used_where_no_other_one_has_room(
    fields: dict[str, Any], added: dict[PoolKey, int]
) -> None:
    decisions = decide(an_orchestrator(**fields), [avoids(3, "z-a")], prices=DEAR)
    assert grown(decisions) == added


def test_where_all_zones_are_avoided_the_one_that_the_fewest_avoid_grows() -> None:
    backlog = [avoids(9, "z-a"), avoids(1, "z-b")]
    assert grown(decide(an_orchestrator(max_instances=1), backlog, prices=DEAR)) == {B: 1}


@pytest.mark.parametrize(
    ("there", "added"),
    [
        (booting(2, B), {A: 4}),  # those that avoid z-a have theirs already
        (booting(1, B), {A: 4, B: 1}),
        (booting(2, A), {A: 2, B: 2}),
        (some(2, S.IDLE, B), {A: 4}),
        (some(4, S.BUSY, B, free_in_s=30.0), {A: 4}),
        (some(4, S.BUSY, B, free_in_s=300.0), {A: 4, B: 2}),
    ],
    ids=["booting", "one", "there", "idle", "soon", "late"],
)
def test_what_is_free_or_booting_elsewhere_is_counted_first(
    there: list[Instance], added: dict[PoolKey, int]
) -> None:
    assert grown(decide(THREE, [avoids(2, "z-a"), wants(4)], there, prices=DEAR)) == added


def test_a_free_machine_in_an_avoided_zone_is_supply_for_the_scheduler_uses_it() -> None:
    assert decide(THREE, [avoids(1, "z-a")], some(1, S.IDLE)) == ()
    assert decide(THREE, [avoids(1, "z-a")], booting(1)) == ()


def test_short_attempts_share_a_machine_elsewhere() -> None:
    short = [avoids(10, "z-a", expected_s=6.0), wants(20, expected_s=6.0)]
    assert grown(decide(an_orchestrator(), short, prices=DEAR)) == {A: 2, B: 1}


def test_the_spare_ones_of_those_that_avoid_a_zone_are_elsewhere_too() -> None:
    orchestrator = an_orchestrator(spare_percent=10)
    assert grown(decide(orchestrator, [avoids(20, "z-a")], prices=DEAR)) == {B: 22}


def test_the_one_that_is_started_for_what_was_passed_over_is_elsewhere_too() -> None:
    passed_over = avoids(9, "z-a", is_passed_over=True)
    assert grown(decide(an_orchestrator(), [passed_over], prices=DEAR)) == {B: 1}


def test_the_reason_names_what_is_avoided_where_that_made_a_difference() -> None:
    backlog = [avoids(2, "z-a"), wants(3)]
    decisions = decide(an_orchestrator(), backlog, prices=DEAR)
    assert reasons(decisions) == {
        A: "5 wait, 0 free or booting: 3 more, 2 keep away from z-a",
        B: "5 wait, 0 free or booting: 2 more, 2 keep away from z-a",
    }
    assert {each.pool: each.facts["avoiding"] for each in decisions} == {A: 2, B: 0}
    same = decide(an_orchestrator(), backlog, prices={A: 2, B: 1})
    assert reasons(same) == {B: "5 wait, 0 free or booting: 5 more"}


def test_the_reason_says_when_an_avoided_zone_was_the_only_one() -> None:
    decisions = decide(an_orchestrator(max_per_pool=2), [avoids(3, "z-a")], prices=DEAR)
    assert reasons(decisions) == {
        A: "3 wait, 0 free or booting: 1 more, 3 keep away from here, but no better zone has room",
        B: "3 wait, 0 free or booting: 2 more, 3 keep away from z-a",
    }


def test_the_backlog_keeps_attempts_that_avoid_other_zones_apart() -> None:
    zones: list[tuple[str, ...]] = [(), ("z-a",), ("z-a",), ("z-a", "z-b")]
    waiting = [
        a_placement(f"a-00001-{i}-1", Stage.WAITING, avoided_zones=each)
        for i, each in enumerate(zones)
    ]
    found = census.backlog(an_orchestrator(), waiting, {})
    assert found == [wants(1), avoids(2, "z-a"), avoids(1, "z-a", "z-b")]


# Properties

ZONES = ("z-a", "z-b", "z-c", "z-d")
SHAPES = (SHAPE, OTHER_SHAPE)
POOLS = [PoolKey(zone, *shape) for zone in ZONES for shape in SHAPES]

_avoided = st.sets(st.sampled_from(ZONES)).map(lambda zones: tuple(sorted(zones)))
_backlogs = st.lists(
    st.builds(
        Backlog,
        shape=st.sampled_from(SHAPES),
        count=st.integers(0, 40),
        expected_s=st.none() | st.floats(0.5, 500),
        is_passed_over=st.booleans(),
        is_held=st.booleans(),
        avoided_zones=_avoided,
    ),
    max_size=6,
)
_prices = st.fixed_dictionaries({key: st.integers(1, 5) for key in POOLS})


@st.composite
def _instances(draw: st.DrawFn) -> list[Instance]:
    drawn = st.tuples(st.sampled_from(list(S)), st.sampled_from(POOLS), st.integers(0, 300))
    return [
        replace(
            some(1, status, pool, created_at=NOW - timedelta(seconds=age_s))[0],
            name=f"i-{i}",
            free_in_s=float(age_s) if status is S.BUSY else None,
        )
        for i, (status, pool, age_s) in enumerate(draw(st.lists(drawn, max_size=20)))
    ]


@st.composite
def _orchestrators(draw: st.DrawFn) -> Orchestrator:
    until = st.integers(-60, 60).map(lambda seconds: NOW + timedelta(seconds=seconds))
    return an_orchestrator(
        zones={zone: draw(st.booleans()) for zone in ZONES},
        spare_percent=draw(st.sampled_from([0, 10, 50])),
        min_sizes=draw(st.dictionaries(st.just(A.pool_id), st.integers(0, 5))),
        breakers=tuple(
            Breaker(pool=pool, until=draw(until), cause=draw(st.sampled_from(["stock_out", "quota"])))
            for pool in draw(st.sets(st.sampled_from(POOLS), max_size=3))
        ),
        max_per_type=draw(st.dictionaries(st.just(SHAPE.instance_type), st.integers(0, 60))),
        max_instances=draw(st.integers(0, 150)),
        max_per_pool=draw(st.integers(0, 50)),
        max_grow_per_tick=draw(st.integers(0, 120)),
    )  # fmt: skip


@given(_orchestrators(), _backlogs, _instances(), _prices)
@settings(max_examples=300, deadline=None)
def test_avoided_zones_change_where_machines_are_started_and_nothing_else(
    orchestrator: Orchestrator,
    backlog: list[Backlog],
    there: list[Instance],
    prices: dict[PoolKey, int],
) -> None:
    choosy = decide(orchestrator, backlog, there, prices=prices)
    free = [replace(each, avoided_zones=()) for each in backlog]
    easy = decide(orchestrator, free, there, prices=prices)
    for shape in SHAPES:
        assert sum(n for key, n in grown(choosy).items() if key[1:] == shape) == sum(
            n for key, n in grown(easy).items() if key[1:] == shape
        )
    assert drained(choosy) == drained(easy)
    assert retired(choosy) == retired(easy)
    sizes = {pool: sum(each.pool == pool for each in there) for pool in POOLS}
    for pool, number in grown(choosy).items():
        assert sizes[pool] + number <= orchestrator.max_per_pool
        assert orchestrator.is_on(pool)


@given(_orchestrators(), _backlogs, _instances(), _prices)
@settings(max_examples=200, deadline=None)
def test_the_same_demand_starts_nothing_more_once_its_machines_boot_and_order_does_not_matter(
    orchestrator: Orchestrator,
    backlog: list[Backlog],
    there: list[Instance],
    prices: dict[PoolKey, int],
) -> None:
    roomy = replace(
        orchestrator,
        max_instances=10_000,
        max_grow_per_tick=10_000,
        max_per_pool=1_000,
        max_per_type={},
        breakers=(),
    )
    first = decide(roomy, backlog, there, prices=prices)
    assert grown(decide(roomy, backlog[::-1], there, prices=prices)) == grown(first)
    farm = apply(there, first)
    farm = [each for each in farm if each.status not in (S.DRAINING, S.DEAD)]
    assert not grown(decide(roomy, backlog, farm, prices=prices))


@given(
    st.lists(
        st.builds(avoids, st.integers(0, 30), st.sampled_from(ZONES))
        | st.builds(avoids, st.integers(0, 30), st.sampled_from(ZONES), st.sampled_from(ZONES))
        | st.builds(wants, st.integers(0, 60)),
        max_size=6,
    ),
    _prices,
)
@settings(max_examples=200, deadline=None)
def test_with_room_everywhere_each_zone_and_each_set_of_them_leaves_enough_for_those_that_avoid_it(
    backlog: list[Backlog], prices: dict[PoolKey, int]
) -> None:
    zones = dict.fromkeys((*ZONES, "z-e"), True)
    added = grown(decide(an_orchestrator(zones=zones), backlog, prices=prices))
    sets = [frozenset(each.avoided_zones) for each in backlog] + [frozenset([z]) for z in ZONES]
    for avoided in sets:
        want = sum(each.count for each in backlog if avoided <= {*each.avoided_zones})
        outside = sum(number for key, number in added.items() if key.zone not in avoided)
        assert not avoided or outside >= min(want, 100)


@given(
    st.lists(st.tuples(st.none() | st.sampled_from(ZONES), st.integers(0, 25)), max_size=5),
    st.fixed_dictionaries({zone: st.integers(0, 40) for zone in ZONES}),
    st.integers(1, 60),
    _prices,
)
@settings(max_examples=150, deadline=None)
def test_as_few_as_possible_are_started_where_they_are_avoided_and_that_costs_as_little_as_possible(
    wanted: list[tuple[str | None, int]],
    busy: dict[str, int],
    most: int,
    prices: dict[PoolKey, int],
) -> None:
    there = [
        each for zone, count in busy.items() for each in some(count, S.BUSY, A._replace(zone=zone))
    ]
    orchestrator = an_orchestrator(
        zones=dict.fromkeys(ZONES, True),
        max_per_pool=most,
        max_instances=10_000,
        max_grow_per_tick=10_000,
    )
    room = {zone: max(most - busy[zone], 0) for zone in ZONES}
    backlog = [avoids(count, zone) if zone else wants(count) for zone, count in wanted]
    assume(sum(count for _, count in wanted) <= sum(room.values()))
    added = grown(decide(orchestrator, backlog, there, prices=prices))
    price = {zone: prices[A._replace(zone=zone)] for zone in ZONES}
    got = {zone: added.get(A._replace(zone=zone), 0) for zone in ZONES}
    least = least_cost(wanted, room, dict.fromkeys(ZONES, 0))
    assert least_cost(wanted, got, dict.fromkeys(ZONES, 0)) == least
    cost = least_cost(wanted, room, price, penalty=1_000_000) - 1_000_000 * least
    assert sum(price[zone] * count for zone, count in got.items()) == pytest.approx(cost, abs=0.01)


def least_cost(
    wanted: list[tuple[str | None, int]],
    room: dict[str, int],
    price: dict[str, int],
    penalty: int = 1,
) -> float:
    """Return the least cost of giving all a machine, with a penalty for each in the zone that it avoids."""
    if not wanted:
        return 0.0
    pairs = [(index, zone) for index in range(len(wanted)) for zone in ZONES]
    found = linprog(
        [float(price[zone] + penalty * (wanted[index][0] == zone)) for index, zone in pairs],
        A_eq=[[float(index == row) for index, _ in pairs] for row in range(len(wanted))],
        b_eq=[float(count) for _, count in wanted],
        A_ub=[[float(zone == column) for _, zone in pairs] for column in ZONES],
        b_ub=[float(room[zone]) for zone in ZONES],
        method="highs",
    )
    assert found.fun is not None
    return round(float(found.fun), 3)
