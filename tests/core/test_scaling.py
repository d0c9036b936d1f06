"""plan(): what each pool is told to do, and what it may never be told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core import census
from shared.core.census import Backlog
from shared.core.scaling import plan
from shared.core.waiting import why_pools_wait
from shared.models.farm import (
    Breaker,
    FleetInstance,
    Instance,
    Node,
    Orchestrator,
    Placement,
    PoolKey,
    ProblemCode,
    Stage,
)
from shared.models.task import WaitingFor
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
    reason,
    retired,
    some,
    wants,
)

OUT_OF_STOCK = tuple(
    Breaker(pool=pool, until=NOW + timedelta(seconds=9), cause=ProblemCode.STOCK_OUT)
    for pool in (A, B)
)

# Growth


def test_nothing_waits_and_nothing_runs_so_nothing_is_decided() -> None:
    assert decide(an_orchestrator()) == ()


def test_each_waiting_attempt_gets_an_instance_spread_over_the_zones() -> None:
    assert grown(decide(an_orchestrator(), [wants(6)])) == {A: 3, B: 3}


def test_booting_and_idle_instances_are_counted_before_more_are_started() -> None:
    there = booting(3) + some(2, S.IDLE, B)
    assert sum(grown(decide(an_orchestrator(), [wants(6)], there)).values()) == 1


def test_busy_instances_that_will_be_free_within_a_boot_are_counted() -> None:
    there = some(4, S.BUSY, free_in_s=30.0) + some(4, S.BUSY, B, free_in_s=300.0)
    assert sum(grown(decide(an_orchestrator(boot_s=60), [wants(6)], there)).values()) == 4


def test_tasks_shorter_than_a_boot_share_instances() -> None:
    assert sum(grown(decide(an_orchestrator(boot_s=60), [wants(100, expected_s=6)])).values()) == 10


def test_tasks_longer_than_a_boot_get_one_instance_each() -> None:
    assert sum(grown(decide(an_orchestrator(boot_s=60), [wants(9, expected_s=900)])).values()) == 9


def test_growth_fills_the_smaller_zone_first() -> None:
    there = some(4, S.BUSY)
    assert grown(decide(an_orchestrator(), [wants(6)], there)) == {A: 1, B: 5}


def test_growth_goes_to_the_cheaper_zone() -> None:
    assert grown(decide(an_orchestrator(), [wants(6)], prices={A: 3, B: 2})) == {B: 6}


def test_growth_avoids_a_zone_whose_instances_break() -> None:
    assert grown(decide(an_orchestrator(), [wants(4)], some(1, S.DEAD))) == {B: 4}


def test_growth_avoids_a_zone_that_is_out_of_stock_until_the_pause_is_over() -> None:
    stock_out = Breaker(pool=A, until=NOW + timedelta(seconds=1), cause="stock_out")
    orchestrator = an_orchestrator(breakers=(stock_out,))
    assert grown(decide(orchestrator, [wants(4)])) == {B: 4}
    over = replace(orchestrator, breakers=(replace(stock_out, until=NOW, closed_at=NOW),))
    assert grown(decide(over, [wants(4)])) == {A: 2, B: 2}


def test_growth_goes_to_the_zones_where_machines_cost_least() -> None:
    orchestrator = an_orchestrator(price_percents={"z-a": 110}, max_per_pool=6)
    assert grown(decide(orchestrator, [wants(4)])) == {B: 4}
    assert grown(decide(orchestrator, [wants(9)])) == {A: 3, B: 6}


def test_where_the_scheduler_starts_machines_by_itself_nothing_is_decided_and_that_is_said() -> (
    None
):
    batch = an_orchestrator(fleet="managed", scheduler="batch", min_sizes={A.pool_id: 2})
    assert decide(batch, [wants(4)]) == ()
    assert reason(batch, [], [wants(4)]) == (
        WaitingFor.SCHEDULER,
        "AWS Batch starts machines by itself",
    )


def test_a_stock_out_of_one_shape_does_not_stop_another() -> None:
    stock_out = Breaker(pool=A, until=NOW + timedelta(hours=1), cause="stock_out")
    decisions = decide(an_orchestrator(breakers=(stock_out,)), [wants(2, OTHER_SHAPE)])
    assert grown(decisions) == {PoolKey("z-a", *OTHER_SHAPE): 1, PoolKey("z-b", *OTHER_SHAPE): 1}


def test_a_zone_that_is_switched_off_does_not_grow() -> None:
    assert grown(decide(an_orchestrator(zones={"z-a": False, "z-b": True}), [wants(4)])) == {B: 4}


def test_a_type_the_orchestrator_does_not_offer_does_not_grow() -> None:
    assert decide(an_orchestrator(instance_types=("n1-standard-8",)), [wants(4)]) == ()


@pytest.mark.parametrize(
    "caps", [{"max_instances": 5}, {"max_grow_per_tick": 5}, {"max_per_pool": 3}]
)
def test_caps_limit_growth_and_the_reason_says_so(caps: dict[str, int]) -> None:
    decisions = decide(an_orchestrator(**caps), [wants(50)])
    assert 5 <= sum(grown(decisions).values()) <= 6
    assert all("within the caps" in each.reason for each in decisions)


def test_shapes_share_a_cap_fairly() -> None:
    decisions = decide(an_orchestrator(max_instances=10), [wants(100), wants(3, OTHER_SHAPE)])
    by_shape: dict[str, int] = {}
    for pool, number in grown(decisions).items():
        by_shape[pool.instance_type] = by_shape.get(pool.instance_type, 0) + number
    assert by_shape == {"n1-standard-4": 7, "n1-standard-8": 3}


def test_a_pool_that_could_not_be_listed_is_left_alone_and_the_others_grow() -> None:
    least = an_orchestrator(min_sizes={A.pool_id: 3})
    assert grown(decide(an_orchestrator(), [wants(4)], unlisted_pools=[A])) == {B: 4}
    assert decide(least, [wants(4)], unlisted_pools=[A, B]) == ()
    idle = some(2, S.IDLE) + some(3, S.IDLE, B)
    assert {each.pool for each in decide(an_orchestrator(idle_s=0), [], idle)} == {A, B}
    (alone,) = decide(an_orchestrator(idle_s=0), [], idle, unlisted_pools=[A])
    assert alone.pool == B


def test_instances_that_could_not_be_listed_count_against_the_cap() -> None:
    decisions = decide(an_orchestrator(max_instances=10), [wants(50)], unlisted_count=8)
    assert sum(grown(decisions).values()) == 2


# Shrinking


def test_idle_instances_are_drained_first_and_deleted_once_they_are() -> None:
    first = decide(an_orchestrator(), [], some(2, S.IDLE))
    assert drained(first) == {"idle-z-a-0", "idle-z-a-1"}
    assert not retired(first)
    second = decide(an_orchestrator(), [], some(2, S.DRAINING))
    assert retired(second) == {"draining-z-a-0", "draining-z-a-1"}
    assert not drained(second)


def test_a_drained_instance_that_works_again_is_left_alone() -> None:
    assert decide(an_orchestrator(), [], some(1, S.DRAINING, idle_since=None)) == ()


def test_an_instance_that_has_just_become_idle_stays() -> None:
    there = some(1, S.IDLE, idle_since=NOW - timedelta(seconds=59))
    assert decide(an_orchestrator(idle_s=60), [], there) == ()


def test_idle_instances_stay_while_something_waits_for_their_shape() -> None:
    assert decide(an_orchestrator(), [wants(1)], some(3, S.IDLE)) == ()


def test_idle_instances_leave_though_something_waits_for_another_shape() -> None:
    decisions = decide(an_orchestrator(), [wants(1, OTHER_SHAPE)], some(3, S.IDLE))
    assert len(drained(decisions)) == 3


@pytest.mark.parametrize(("age_s", "leaves"), [(601, False), (650, False), (655, True)])
def test_an_idle_instance_leaves_at_the_end_of_the_minute_paid(age_s: int, leaves: bool) -> None:
    there = some(1, S.IDLE, created_at=NOW - timedelta(seconds=age_s))
    assert bool(drained(decide(an_orchestrator(tick_s=2), [], there))) is leaves


def test_drained_instances_are_put_back_when_something_waits_again() -> None:
    there = some(3, S.DRAINING, STANDARD)
    decisions = decide(an_orchestrator(), [wants(2, OTHER_SHAPE)], there)
    assert not grown(decisions)
    assert len(decisions[0].resume) == 2
    assert len(decisions[0].retire) == 1


def test_a_preemptible_instance_out_of_use_is_never_put_back() -> None:
    """Its provider may have said that it goes: the report of that preemption takes it out of use too."""
    decisions = decide(an_orchestrator(), [wants(2)], some(3, S.DRAINING))
    assert not any(each.resume for each in decisions)
    assert len(retired(decisions)) == 3
    assert sum(grown(decisions).values()) == 2


def test_a_zone_switched_off_is_drained_at_once_busy_ones_too_but_none_is_deleted() -> None:
    there = some(2, S.IDLE, idle_since=NOW) + some(2, S.BUSY) + booting(1)
    decisions = decide(an_orchestrator(zones={"z-a": False, "z-b": True}), [wants(9)], there)
    assert len(drained(decisions)) == 4
    assert not retired(decisions)
    assert grown(decisions) == {B: 9}


def test_drained_instances_in_a_zone_switched_off_are_not_put_back() -> None:
    orchestrator = an_orchestrator(zones={"z-a": False, "z-b": True})
    decisions = decide(orchestrator, [wants(1, OTHER_SHAPE)], some(1, S.DRAINING, STANDARD))
    assert retired(decisions) == {"draining-z-a-0"}
    assert grown(decisions) == {STANDARD._replace(zone="z-b"): 1}


def test_an_orchestrator_switched_off_is_drained_whole() -> None:
    decisions = decide(an_orchestrator(is_enabled=False), [wants(3)], some(1, S.IDLE, B))
    assert drained(decisions) == {"idle-z-b-0"}
    assert not grown(decisions)


# What is broken


def test_a_machine_that_never_joined_is_deleted_and_another_one_started() -> None:
    late = booting(1, created_at=NOW - timedelta(seconds=301))
    decisions = decide(an_orchestrator(boot_s=60), [wants(1)], late)
    assert retired(decisions) == {"booting-z-a-0"}
    assert grown(decisions) == {B: 1}


def test_a_slow_kind_of_machine_is_given_three_times_its_boot() -> None:
    late = booting(1, created_at=NOW - timedelta(seconds=899))
    assert decide(an_orchestrator(boot_s=300), [wants(1)], late) == ()


@pytest.mark.parametrize("problem", [ProblemCode.STOCK_OUT, ProblemCode.QUOTA])
def test_a_machine_the_provider_cannot_start_is_given_up_at_once(problem: ProblemCode) -> None:
    decisions = decide(an_orchestrator(), [wants(1)], booting(1, problem=problem))
    assert retired(decisions) == {"booting-z-a-0"}
    assert grown(decisions) == {B: 1}


def test_stopped_machines_are_all_deleted() -> None:
    there = some(30, S.DEAD, problem=ProblemCode.OTHER)
    assert len(retired(decide(an_orchestrator(), [], there))) == 30


def test_of_many_silent_machines_only_a_tenth_is_given_up_per_tick() -> None:
    there = some(30, S.DEAD) + some(70, S.BUSY)
    assert len(retired(decide(an_orchestrator(), [], there))) == 10
    assert len(retired(decide(an_orchestrator(), [], some(1, S.DEAD)))) == 1


@pytest.mark.parametrize("heard_of", [0, 30])
def test_machines_a_scheduler_set_up_anew_does_not_know_are_not_given_up_all_at_once(
    heard_of: int,
) -> None:
    farm = booting(70, created_at=NOW - timedelta(hours=2)) + some(heard_of, S.BUSY, B)
    first = retired(decide(an_orchestrator(), [wants(9)], farm))
    assert len(first) == (70 + heard_of) // 10
    farm = [each for each in farm if each.name not in first]
    assert len(retired(decide(an_orchestrator(), [], farm))) <= 10


def test_every_decision_says_why_and_what_it_is_based_on() -> None:
    there = some(1, S.DEAD) + some(1, S.BUSY)
    for each in decide(an_orchestrator(), [wants(5)], there):
        assert each.reason
        assert {"waiting", "need", "supply", "size", "booting", "idle", "busy"} <= set(each.facts)


# Properties

ZONES = ("z-a", "z-b", "z-c")
SHAPES = (SHAPE, OTHER_SHAPE)
CAPS = ("max_instances", "max_grow_per_tick", "max_per_pool")


@st.composite
def _instances(draw: st.DrawFn) -> list[Instance]:
    found = []
    for i, status in enumerate(draw(st.lists(st.sampled_from(list(S)), max_size=30))):
        age_s = draw(st.integers(0, 1200))
        is_free = status is S.IDLE or (status is S.DRAINING and draw(st.booleans()))
        pool = PoolKey(draw(st.sampled_from(ZONES)), *draw(st.sampled_from(SHAPES)))
        since = NOW - timedelta(seconds=draw(st.integers(0, age_s)))
        found.append(
            Instance(
                name=f"i-{i}",
                pool=pool,
                status=status,
                created_at=NOW - timedelta(seconds=age_s),
                idle_since=since if is_free else None,
                is_unused=is_free and draw(st.booleans()),
                free_in_s=draw(st.none() | st.floats(0, 500)) if status is S.BUSY else None,
                problem=draw(st.none() | st.sampled_from(ProblemCode))
                if status in (S.BOOTING, S.DEAD)
                else None,
                may_return=status in (S.BOOTING, S.DEAD) and draw(st.booleans()),
            )
        )
    return found


_groups = st.builds(
    Backlog,
    shape=st.sampled_from(SHAPES),
    count=st.integers(0, 60),
    expected_s=st.none() | st.floats(0.5, 500),
    is_passed_over=st.booleans(),
    avoided_zones=st.sets(st.sampled_from(ZONES), max_size=2).map(
        lambda zones: tuple(sorted(zones))
    ),
)
_backlogs = st.lists(_groups, max_size=5)


@st.composite
def _orchestrators(draw: st.DrawFn) -> Orchestrator:
    paused = draw(st.lists(st.tuples(st.sampled_from(ZONES), st.sampled_from(SHAPES)), max_size=3))
    return an_orchestrator(
        zones={zone: draw(st.booleans()) for zone in ZONES},
        is_enabled=draw(st.sampled_from([True, True, True, False])),
        pool_switches=draw(
            st.dictionaries(
                st.builds(
                    lambda zone, shape: PoolKey(zone, *shape).pool_id,
                    st.sampled_from(ZONES),
                    st.sampled_from(SHAPES),
                ),
                st.booleans(),
                max_size=2,
            )
        ),
        boot_s=draw(st.integers(0, 200)),
        idle_s=draw(st.integers(0, 120)),
        tick_s=draw(st.sampled_from([1, 2, 60])),
        breakers=tuple(
            Breaker(
                pool=PoolKey(zone, *shape),
                until=NOW + timedelta(seconds=draw(st.integers(-60, 60))),
                cause=draw(st.sampled_from(["stock_out", "unused"])),
            )
            for zone, shape in paused
        ),
        **{cap: draw(st.integers(0, 60)) for cap in CAPS},
    )


@given(_orchestrators(), _backlogs, _instances(), st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_no_cap_is_ever_exceeded(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance], unlisted: int
) -> None:
    decisions = decide(orchestrator, backlog, there, unlisted_count=unlisted)
    added = grown(decisions)
    assert sum(added.values()) <= orchestrator.max_grow_per_tick
    if added:
        assert len(there) + unlisted + sum(added.values()) <= orchestrator.max_instances
    for pool, number in added.items():
        size = sum(each.pool == pool for each in there)
        assert size + number <= orchestrator.max_per_pool
        assert orchestrator.is_on(pool)


@given(_orchestrators(), _backlogs, _instances())
@settings(max_examples=300, deadline=None)
def test_no_instance_with_work_is_ever_deleted(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance]
) -> None:
    by_name = {each.name: each for each in there}
    decisions = decide(orchestrator, backlog, there)
    for name in retired(decisions):
        instance = by_name[name]
        assert instance.status in (S.BOOTING, S.DRAINING, S.DEAD)
        assert instance.status is not S.DRAINING or instance.idle_since is not None
        assert instance.problem is not None or not instance.may_return
    for name in drained(decisions) & {each.name for each in there if each.status is S.BUSY}:
        assert not orchestrator.is_on(by_name[name].pool)


@given(_orchestrators(), _backlogs, _instances())
@settings(max_examples=300, deadline=None)
def test_no_instance_gets_two_orders_and_no_pool_two_decisions(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance]
) -> None:
    decisions = decide(orchestrator, backlog, there)
    names = [n for each in decisions for n in (*each.drain, *each.retire, *each.resume)]
    assert len(names) == len(set(names))
    assert set(names) <= {each.name for each in there}
    assert len({each.pool for each in decisions}) == len(decisions)
    for each in decisions:
        assert each.reason
        assert each.grow or each.drain or each.retire or each.resume


@given(_orchestrators(), _backlogs, _instances())
@settings(max_examples=300, deadline=None)
def test_ticks_on_an_unchanged_farm_come_to_rest_without_turning_back(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance]
) -> None:
    roomy = replace(orchestrator, max_instances=1000, max_grow_per_tick=1000, max_per_pool=1000)
    farm = there
    started: set[str] = set()
    for _ in range(40):
        decisions = decide(roomy, backlog, farm)
        if not decisions:
            break
        after = apply(farm, decisions)
        started |= {each.name for each in after} - {each.name for each in farm}
        assert not started & (retired(decisions) | drained(decisions))
        farm = after
    assert decide(roomy, backlog, farm) == ()


@given(_orchestrators(), _backlogs, _instances(), _groups)
@settings(max_examples=300, deadline=None)
def test_more_demand_never_means_less_growth_or_more_shrinking(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance], more: Backlog
) -> None:
    less = decide(orchestrator, backlog, there)
    greater = decide(orchestrator, [*backlog, more], there)
    assert sum(grown(greater).values()) >= sum(grown(less).values()) - sum(
        len(each.resume) for each in greater
    )
    assert drained(greater) <= drained(less)
    assert retired(greater) <= retired(less)


@given(_orchestrators(), _instances())
@settings(max_examples=200, deadline=None)
def test_with_nothing_to_do_every_instance_is_gone_in_the_end(
    orchestrator: Orchestrator, there: list[Instance]
) -> None:
    now, farm = NOW, there
    for _ in range(400):
        # work ends, boots arrive, deletions finish: time alone must bring the farm to zero
        farm = [_later(each, now) for each in farm if each.status is not S.RETIRING]
        if not farm:
            return
        decisions = plan(orchestrator, backlog=(), instances=farm, now=now, new_name=str)
        assert not grown(decisions)
        farm = apply(farm, decisions)
        now += timedelta(seconds=orchestrator.tick_s)
    assert not farm


def _later(instance: Instance, now: datetime) -> Instance:
    if instance.status in (S.BOOTING, S.BUSY):
        return replace(instance, status=S.IDLE, idle_since=now, problem=None)
    if instance.status is S.DRAINING and instance.idle_since is None:
        return replace(instance, idle_since=now)
    return instance


# Why something waits


def test_a_waiting_attempt_says_how_far_the_boot_is() -> None:
    there = some(2, S.BUSY) + booting(3)
    assert reason(an_orchestrator(), there, [wants(4)]) == (
        WaitingFor.BOOT,
        "2 of 6 instances are up, 4 booting",
    )


def test_a_waiting_attempt_says_that_no_zone_is_on() -> None:
    off = an_orchestrator(zones={"z-a": False, "z-b": False})
    assert reason(off, [], [wants(1)])[0] is WaitingFor.ZONE_OFF
    assert reason(an_orchestrator(instance_types=("x",)), [], [wants(1)])[0] is WaitingFor.ZONE_OFF


@pytest.mark.parametrize("code", [WaitingFor.STOCK_OUT, WaitingFor.QUOTA])
def test_a_waiting_attempt_says_that_no_zone_has_a_machine(code: WaitingFor) -> None:
    until = NOW + timedelta(seconds=9)
    everywhere = tuple(Breaker(pool=pool, until=until, cause=code.value) for pool in (A, B))
    found, note = reason(an_orchestrator(breakers=everywhere), [], [wants(1)])
    assert found is code
    assert note.endswith("; tried again from 12:00:09 UTC on")


def test_a_waiting_attempt_says_that_the_orchestrator_is_full() -> None:
    there = some(2, S.BUSY, PoolKey("z-a", *OTHER_SHAPE))
    assert reason(an_orchestrator(max_instances=2), there, [wants(1)])[0] is WaitingFor.QUOTA


def test_a_waiting_attempt_with_a_machine_up_waits_for_the_scheduler() -> None:
    assert reason(an_orchestrator(), some(1, S.IDLE), [wants(1)])[0] is WaitingFor.SCHEDULER


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"breakers": OUT_OF_STOCK}, "no zone has such a machine left for now; tried again from"),
        ({"max_per_type": {SHAPE.instance_type: 1}}, "the quota of 1 n1-standard-4 is used up"),
        ({"max_instances": 1}, "o1 runs 1 instances at most"),
    ],
    ids=["stock", "quota", "full"],
)
def test_a_busy_machine_does_not_hide_why_there_are_no_more(
    fields: dict[str, Any], note: str
) -> None:
    code, said = reason(an_orchestrator(**fields), some(1, S.BUSY), [wants(500)])
    assert code is (WaitingFor.STOCK_OUT if "breakers" in fields else WaitingFor.QUOTA)
    assert said.startswith(note)


def test_a_pool_that_could_not_be_listed_says_so_when_something_waits_for_it() -> None:
    orchestrator, said = an_orchestrator(), (WaitingFor.BOOT, "0 of 1 instances are up, 1 booting")
    found = why_pools_wait(orchestrator, {SHAPE: said}, [A, B, STANDARD], NOW, unlisted=[A])
    unlisted = (WaitingFor.BOOT, "could not be listed: the provider could not be asked")
    assert found == {A: unlisted, B: said, STANDARD: None}


# The census


def ended(attempt_id: str, took_s: float) -> Placement:
    started_at = NOW - timedelta(seconds=600)
    return a_placement(
        attempt_id,
        Stage.ENDED,
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=took_s),
        instance="i-1",
    )


def test_what_a_jobs_attempts_take_is_learnt_from_those_that_ended() -> None:
    seen = [ended("a-00001-0-1", 10), ended("a-00001-1-1", 20), ended("a-00001-2-1", 90)]
    assert census.expected_seconds(seen, NOW) == {"a-00001": 20.0}


def test_what_runs_longer_than_the_ended_ones_is_believed() -> None:
    running = a_placement("a-00001-1-1", Stage.STARTED, started_at=NOW - timedelta(seconds=300))
    assert census.expected_seconds([ended("a-00001-0-1", 10), running], NOW) == {"a-00001": 300.0}


def test_the_backlog_keeps_jobs_of_different_length_apart() -> None:
    waiting = [a_placement(f"a-0000{job}-{i}-1", Stage.WAITING) for job in (1, 2) for i in (0, 1)]
    found = census.backlog(an_orchestrator(), waiting, {"a-00001": 9.0})
    assert found == [wants(2, expected_s=9.0), wants(2)]


def joined(
    listed: FleetInstance, node: Node | None = None, placements: Sequence[Placement] = ()
) -> Instance:
    nodes = [node] if node else []
    found = census.instances(
        an_orchestrator(boot_s=60),
        [listed],
        nodes=nodes,
        placements=placements,
        expected_s={"a-00001": 100.0},
        now=NOW,
    )
    return found[0]


LISTED = FleetInstance(name="i-1", pool=A, created_at=NOW - timedelta(minutes=9))
NODE = Node(name="i-1", node_id="n", zone="z-a", is_up=True, is_eligible=True)
RUNNING = a_placement(
    "a-00001-0-1", Stage.STARTED, instance="i-1", started_at=NOW - timedelta(seconds=70)
)


@pytest.mark.parametrize(
    ("listed", "node", "placements", "status"),
    [
        (LISTED, None, (), S.BOOTING),
        (LISTED, NODE, (), S.IDLE),
        (LISTED, NODE, (RUNNING,), S.BUSY),
        (LISTED, replace(NODE, is_eligible=False), (), S.DRAINING),
        (LISTED, replace(NODE, is_eligible=False), (RUNNING,), S.DRAINING),
        (LISTED, replace(NODE, is_up=False), (), S.DEAD),
        (LISTED, replace(NODE, is_up=False, is_joining=True), (), S.BOOTING),
        (LISTED, None, (RUNNING,), S.BUSY),
        (LISTED, replace(NODE, is_up=False), (RUNNING,), S.BUSY),
        (LISTED, replace(NODE, is_up=False, is_joining=True), (RUNNING,), S.BUSY),
        (LISTED, replace(NODE, is_up=False, is_eligible=False), (RUNNING,), S.DRAINING),
        (replace(LISTED, is_retiring=True), None, (RUNNING,), S.RETIRING),
        (replace(LISTED, is_stopped=True), None, (RUNNING,), S.DEAD),
        (replace(LISTED, is_stopped=True), NODE, (), S.DEAD),
        (replace(LISTED, is_retiring=True), NODE, (RUNNING,), S.RETIRING),
    ],
)
def test_an_instance_is_what_provider_and_scheduler_say_together(
    listed: FleetInstance, node: Node | None, placements: Sequence[Placement], status: S
) -> None:
    found = joined(listed, node, placements)
    assert found.status is status
    is_free = status in (S.IDLE, S.DRAINING) and not placements
    assert (found.idle_since is not None) is is_free


def test_a_busy_instance_is_expected_to_be_free_when_its_attempt_ends_give_or_take_a_tenth() -> (
    None
):
    assert joined(LISTED, NODE, [RUNNING]).free_in_s == 30.0 + 10.0


def test_an_instance_is_idle_since_its_last_attempt_or_else_since_it_joined() -> None:
    done = ended("a-00001-0-1", 10)
    assert joined(LISTED, NODE, [done]).idle_since == done.ended_at
    assert joined(LISTED, NODE).idle_since == LISTED.created_at + timedelta(seconds=60)


def test_an_instance_that_never_worked_is_idle_since_the_scheduler_could_use_it() -> None:
    joined_at = NOW - timedelta(seconds=20)
    node = replace(NODE, joined_at=joined_at)
    assert joined(LISTED, node).idle_since == joined_at
    done = ended("a-00001-0-1", 10)
    assert joined(LISTED, node, [done]).idle_since == done.ended_at
    assert joined(LISTED, replace(NODE, joined_at=NOW + timedelta(seconds=5))).idle_since == NOW


def test_where_nobody_knows_when_a_machine_joined_it_is_idle_for_no_longer_than_it_can_be() -> None:
    usual = LISTED.created_at + timedelta(seconds=60)
    for after in (usual - timedelta(seconds=9), usual + timedelta(seconds=9)):
        assert joined(LISTED, replace(NODE, joined_after=after)).idle_since == max(usual, after)


def test_when_it_joined_is_asked_only_of_machines_that_are_up_and_have_never_worked() -> None:
    names = ("idle", "known", "down", "busy", "worked")
    listed = [replace(LISTED, name=name) for name in names]
    nodes = [
        replace(
            NODE,
            name=name,
            node_id=f"n-{name}",
            is_up=name != "down",
            joined_at=NOW if name == "known" else None,
        )
        for name in (*names, "not-ours")
    ]
    placements = [
        replace(RUNNING, instance="busy"),
        replace(ended("a-1-0-1", 1), instance="worked"),
    ]
    assert census.undated(listed, nodes, placements) == ["n-idle"]


def test_a_machine_that_booted_longer_than_usual_is_not_unused_the_moment_it_joins() -> None:
    late = replace(LISTED, created_at=NOW - timedelta(seconds=290))
    waiting = a_placement("a-00002-0-1", Stage.WAITING, submitted_at=NOW - timedelta(minutes=9))
    node = replace(NODE, joined_at=NOW - timedelta(seconds=2))
    assert not joined(late, node, [waiting]).is_unused
    assert joined(late, NODE, [waiting]).is_unused


def test_a_machine_that_registered_and_cannot_work_yet_has_not_joined() -> None:
    node = replace(NODE, is_up=False, is_joining=True)
    assert not joined(LISTED, node).has_joined
    assert joined(LISTED, node, [RUNNING]).has_joined


def test_a_machine_that_joined_while_it_was_looked_at_keeps_its_attempt() -> None:
    found = joined(LISTED, None, [RUNNING])
    assert not retired(decide(an_orchestrator(), [], [found]))


def test_a_silent_machine_that_has_work_is_no_supply_for_what_waits() -> None:
    assert joined(LISTED, replace(NODE, is_up=False), [RUNNING]).free_in_s is None


def test_a_silent_machine_that_may_return_is_taken_out_of_use_before_it_is_deleted() -> None:
    silent = joined(LISTED, replace(NODE, is_up=False))
    (first,) = decide(an_orchestrator(), [], [silent])
    assert (first.drain, first.retire) == (("i-1",), ())
    assert first.reason == "1 silent or never ready, out of use"
    silent = joined(LISTED, replace(NODE, is_up=False, is_eligible=False))
    (second,) = decide(an_orchestrator(), [], [silent])
    assert (second.drain, second.retire) == ((), ("i-1",))


def test_a_machine_that_registered_and_never_got_ready_is_taken_out_of_use_before_it_is_deleted() -> (
    None
):
    unready = replace(NODE, is_up=False, is_joining=True)
    (first,) = decide(an_orchestrator(), [], [joined(LISTED, unready)])
    assert (first.drain, first.retire) == (("i-1",), ())
    (second,) = decide(an_orchestrator(), [], [joined(LISTED, replace(unready, is_eligible=False))])
    assert (second.drain, second.retire) == ((), ("i-1",))


def test_of_several_nodes_of_one_name_the_one_that_is_up_counts_or_else_the_one_that_may_be() -> (
    None
):
    old = replace(NODE, node_id="old", is_up=False)
    new = replace(NODE, node_id="new", is_up=False, is_joining=True)
    up = replace(NODE, node_id="up")
    for nodes in permutations([old, new, up]):
        assert census.by_name(nodes) == {"i-1": up}
    for nodes in permutations([old, new]):
        assert census.by_name(nodes) == {"i-1": new}


def test_of_many_silent_machines_a_tenth_is_taken_out_of_use_and_another_tenth_deleted() -> None:
    there = [
        *some(15, S.DEAD, may_return=True),
        *some(15, S.DEAD, B),
        *some(70, S.BUSY),
    ]
    decisions = decide(an_orchestrator(), [], there)
    assert len(drained(decisions)) == len(retired(decisions)) == 10
    assert {name for name in drained(decisions) if "z-a" not in name} == set()
