"""plan(): minimum sizes, quotas, spares, what is held back, and what is called off."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core import census
from shared.core.admission import awaited_count
from shared.core.census import Backlog
from shared.models.farm import Instance, Orchestrator, PoolKey, Shape, Stage
from shared.models.job import JobRef
from shared.models.task import TaskStatus, WaitingFor
from tests.builders import a_job
from tests.core.farm import (
    NOW,
    OTHER_SHAPE,
    SHAPE,
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

# Minimum sizes


def test_a_pool_is_brought_to_its_minimum_though_nothing_waits() -> None:
    (decision,) = decide(an_orchestrator(min_sizes={B.pool_id: 3}), [], some(1, S.BUSY, B))
    assert grown([decision]) == {B: 2}
    assert decision.reason == "2 missing from the least it shall have: 2 more"


def test_a_minimum_is_what_waits_gets_too() -> None:
    orchestrator = an_orchestrator(min_sizes={B.pool_id: 4})
    assert grown(decide(orchestrator, [wants(3)])) == {B: 4}
    assert sum(grown(decide(orchestrator, [wants(6)])).values()) == 6


def test_the_last_idle_ones_of_a_minimum_stay() -> None:
    there = some(3, S.IDLE) + some(1, S.BUSY)
    assert len(drained(decide(an_orchestrator(min_sizes={A.pool_id: 2}), [], there))) == 2
    assert not drained(decide(an_orchestrator(min_sizes={A.pool_id: 9}), [], there))


def test_a_zone_that_is_switched_off_keeps_no_minimum() -> None:
    off = an_orchestrator(zones={"z-a": False, "z-b": True}, min_sizes={A.pool_id: 2})
    assert not grown(decide(off))
    assert len(drained(decide(off, [], some(2, S.IDLE)))) == 2


# Quotas


def test_a_quota_holds_for_a_type_in_all_zones_and_both_price_classes() -> None:
    standard = Shape(SHAPE.instance_type, False)
    orchestrator = an_orchestrator(max_per_type={SHAPE.instance_type: 10})
    there = some(2, S.BUSY) + some(2, S.BUSY, PoolKey("z-b", *standard))
    decisions = decide(orchestrator, [wants(20), wants(2, standard), wants(5, OTHER_SHAPE)], there)
    by_shape = dict.fromkeys((SHAPE, standard, OTHER_SHAPE), 0)
    for pool, number in grown(decisions).items():
        by_shape[Shape(*pool[1:])] += number
    assert by_shape == {SHAPE: 4, standard: 2, OTHER_SHAPE: 5}


def test_what_waits_for_a_quota_is_told_so() -> None:
    orchestrator = an_orchestrator(max_per_type={SHAPE.instance_type: 0})
    found = reason(orchestrator, [], [wants(1)])
    assert found == (WaitingFor.QUOTA, f"the quota of 0 {SHAPE.instance_type} is used up")


# Spares


@pytest.mark.parametrize(("waiting", "started"), [(1, 1), (8, 8), (9, 10), (100, 112)])
def test_of_many_that_want_a_machine_each_a_few_more_are_started(
    waiting: int, started: int
) -> None:
    orchestrator = an_orchestrator(spare_percent=12, max_grow_per_tick=1000)
    assert sum(grown(decide(orchestrator, [wants(waiting)])).values()) == started


def test_tasks_that_share_machines_get_no_spares() -> None:
    orchestrator = an_orchestrator(boot_s=60, spare_percent=50)
    assert sum(grown(decide(orchestrator, [wants(100, expected_s=6)])).values()) == 10


# What is held back


def held(number: int, expected_s: float | None = None) -> Backlog:
    return Backlog(shape=SHAPE, count=number, expected_s=expected_s, is_held=True)


def test_work_that_a_limit_holds_back_counts_for_how_many_short_tasks_share_a_machine() -> None:
    alone = decide(an_orchestrator(boot_s=60), [wants(40, expected_s=6)])
    behind = decide(an_orchestrator(boot_s=60), [wants(40, expected_s=6), held(160, 6)])
    assert sum(grown(alone).values()) == 4
    assert sum(grown(behind).values()) == 20


def test_a_limit_is_never_outgrown_by_what_it_holds_back() -> None:
    decisions = decide(an_orchestrator(spare_percent=0), [wants(7), held(1000)])
    assert sum(grown(decisions).values()) == 7
    assert decide(an_orchestrator(), [held(1000)]) == ()


def test_an_idle_machine_waits_some_seconds_for_what_is_held_back() -> None:
    for idle_s, leaves in ((9, 0), (10, 2)):
        there = some(2, S.IDLE, idle_since=NOW - timedelta(seconds=idle_s))
        assert len(drained(decide(an_orchestrator(idle_s=0), [held(3)], there))) == leaves
        assert len(drained(decide(an_orchestrator(idle_s=0), [], there))) == 2


def test_what_is_held_is_what_a_job_has_pending_beside_what_waits_at_the_scheduler() -> None:
    seen = [
        a_placement(f"studio-00001-000{n}-1", stage)
        for n, stage in enumerate([Stage.WAITING, Stage.WAITING, Stage.STARTED, Stage.ENDED])
    ]
    pending = {JobRef("studio", "00001"): 9, JobRef("studio", "00002"): 5}
    assert census.held_back(seen, pending, {"studio-00001": 30.0}) == [held(7, 30.0)]
    assert census.held_back(seen, {JobRef("studio", "00001"): 1}, {}) == []


@pytest.mark.parametrize(
    ("reason", "count"), [(WaitingFor.LIMIT, 7), (WaitingFor.LICENCE, 7), (WaitingFor.BUDGET, 0)]
)
def test_no_machine_is_kept_for_what_a_budget_holds_back(reason: WaitingFor, count: int) -> None:
    """Others end and leave their seats; nobody knows when there will be money."""
    seen = [
        a_placement(f"acme-00001-000{n}-1", stage)
        for n, stage in enumerate([Stage.WAITING, Stage.WAITING, Stage.STARTED])
    ]
    job = a_job(counts={TaskStatus.PENDING: 9}, waiting_for=reason)
    found = census.held_back(seen, {job.ref: awaited_count(job)}, {})
    assert sum(each.count for each in found) == count


@pytest.mark.parametrize("is_later", [False, True])
def test_what_is_held_is_taken_to_ask_for_what_most_of_its_job_ask_for(is_later: bool) -> None:
    """Some of its tasks may be tried again on other machines."""
    shapes = [SHAPE, SHAPE, OTHER_SHAPE] if is_later else [OTHER_SHAPE, SHAPE, SHAPE]
    seen = [
        a_placement(f"studio-00001-00{n}-1", Stage.STARTED, shape=shape)
        for n, shape in enumerate(shapes)
    ]
    (found,) = census.held_back(seen, {JobRef("studio", "00001"): 9}, {})
    assert (found.shape, found.count) == (SHAPE, 9)


# What is called off


def test_what_boots_for_nothing_is_called_off_unless_it_may_be_up_any_moment() -> None:
    early = booting(3, created_at=NOW - timedelta(seconds=29))
    (decision,) = decide(an_orchestrator(boot_s=60), [], early)
    assert len(decision.retire) == 3
    assert decision.reason == "nothing waits, 3 called off before they are up"
    assert (
        decide(an_orchestrator(boot_s=60), [], booting(3, created_at=NOW - timedelta(seconds=30)))
        == ()
    )
    assert decide(an_orchestrator(boot_s=60), [wants(1)], early) == ()
    registered = [replace(each, may_return=True) for each in early]
    assert decide(an_orchestrator(boot_s=60), [], registered) == ()


def test_what_boots_for_the_minimum_is_not_called_off() -> None:
    assert decide(an_orchestrator(min_sizes={A.pool_id: 3}), [], booting(3)) == ()


# Properties

_counts = st.integers(0, 200)
_orchestrators = st.builds(
    an_orchestrator,
    max_per_type=st.dictionaries(st.sampled_from([SHAPE[0], OTHER_SHAPE[0]]), st.integers(0, 60)),
    min_sizes=st.dictionaries(st.sampled_from([A.pool_id, B.pool_id]), st.integers(0, 20)),
    spare_percent=st.integers(0, 30),
    max_instances=st.integers(0, 200),
)
_backlogs = st.lists(
    st.builds(
        Backlog,
        shape=st.sampled_from([SHAPE, OTHER_SHAPE]),
        count=_counts,
        expected_s=st.none() | st.floats(1, 300),
        is_held=st.booleans(),
    ),
    max_size=4,
)
_there = st.tuples(*[st.integers(0, 15)] * 4).map(
    lambda n: some(n[0], S.BUSY) + some(n[1], S.IDLE, B) + booting(n[2]) + some(n[3], S.BUSY, B)
)


@given(_orchestrators, _backlogs, _there)
@settings(max_examples=200, deadline=None)
def test_quotas_and_the_cap_hold_whatever_the_minimum_and_the_spares(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance]
) -> None:
    added = grown(decide(orchestrator, backlog, there))
    for name, most in orchestrator.max_per_type.items():
        more = sum(number for pool, number in added.items() if pool.instance_type == name)
        assert not more or more + sum(each.pool.instance_type == name for each in there) <= most
    if added:
        assert len(there) + sum(added.values()) <= orchestrator.max_instances


@given(_orchestrators, _backlogs, _there)
@settings(max_examples=200, deadline=None)
def test_the_same_again_is_the_same_and_once_carried_out_there_is_nothing_left_to_start(
    orchestrator: Orchestrator, backlog: list[Backlog], there: list[Instance]
) -> None:
    # what leaves makes room under a cap, so there is none here
    roomy = replace(orchestrator, max_instances=9999, max_grow_per_tick=9999, max_per_type={})
    first = decide(roomy, backlog, there)
    assert decide(roomy, backlog, there) == first
    second = decide(roomy, backlog, apply(there, first))
    assert not grown(second)
    assert not drained(second)


@given(_orchestrators, _backlogs, _there, st.integers(1, 60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_more_that_waits_or_is_held_never_starts_less_or_drains_more(
    orchestrator: Orchestrator,
    backlog: list[Backlog],
    there: list[Instance],
    more: int,
    is_held: bool,
) -> None:
    less = decide(orchestrator, backlog, there)
    greater = decide(orchestrator, [*backlog, replace(held(more), is_held=is_held)], there)
    assert sum(grown(greater).values()) >= sum(grown(less).values())
    assert drained(greater) <= drained(less)
    assert retired(greater) <= retired(less)
