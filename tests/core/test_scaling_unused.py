"""Machines that the scheduler does not use though something waits: they leave, and others are seldom tried."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

from shared.core import census
from shared.core.breaker import learnt
from shared.core.placement import choose
from shared.core.scaling import plan
from shared.core.waiting import why_waiting
from shared.models.farm import (
    Breaker,
    Decision,
    FleetInstance,
    Node,
    Orchestrator,
    Placement,
    PoolKey,
    ProblemCode,
    Shape,
    Stage,
)
from shared.models.task import WaitingFor
from tests.core.farm import (
    NOW,
    OTHER_SHAPE,
    SHAPE,
    A,
    B,
    S,
    a_placement,
    an_orchestrator,
    decide,
    drained,
    grown,
    retired,
    some,
    wants,
)

TICK = timedelta(minutes=1)


# One decision


def test_an_unused_machine_is_no_supply_and_leaves() -> None:
    (left, grew) = decide(an_orchestrator(), [wants(1)], some(1, S.IDLE, is_unused=True))
    assert left.drain == ("idle-z-a-0",)
    assert left.reason == "1 idle, the scheduler does not use them"
    assert grown([grew]) == {B: 1}


def test_an_unused_machine_stays_until_its_paid_minute_ends() -> None:
    there = some(1, S.IDLE, is_unused=True, created_at=NOW - timedelta(seconds=601))
    assert not drained(decide(an_orchestrator(tick_s=2), [wants(1)], there))


def test_an_unused_machine_that_was_drained_is_deleted_and_not_put_back() -> None:
    there = some(1, S.DRAINING, PoolKey("z-a", *OTHER_SHAPE), is_unused=True)
    decisions = decide(an_orchestrator(), [wants(1, OTHER_SHAPE)], there)
    assert retired(decisions) == {"draining-z-a-0"}
    assert not any(each.resume for each in decisions)


def test_attempts_that_were_passed_over_get_one_instance_together() -> None:
    old = replace(wants(50), is_passed_over=True)
    (decision,) = decide(an_orchestrator(), [old, replace(old, expected_s=9.0)])
    assert len(decision.grow) == 1
    assert "100 wait (100 beside unused instances before)" in decision.reason


def test_attempts_that_were_passed_over_get_none_until_the_pause_is_over() -> None:
    old = replace(wants(50), is_passed_over=True)
    paused = Breaker(pool=A, until=NOW + timedelta(seconds=1), cause=ProblemCode.UNUSED)
    orchestrator = an_orchestrator(breakers=(paused,))
    assert decide(orchestrator, [old]) == ()
    over = replace(paused, until=NOW)
    assert len(decide(replace(orchestrator, breakers=(over,)), [old])) == 1


def test_those_that_came_later_get_their_instances_in_the_pause_too() -> None:
    paused = Breaker(pool=A, until=NOW + timedelta(hours=1), cause=ProblemCode.UNUSED)
    old = replace(wants(50), is_passed_over=True)
    decisions = decide(an_orchestrator(breakers=(paused,)), [old, wants(4)])
    assert grown(decisions) == {A: 2, B: 2}


def test_a_pool_whose_machines_are_unused_is_open_to_new_jobs() -> None:
    everywhere = tuple(
        Breaker(pool=pool, until=NOW + timedelta(hours=1), cause=ProblemCode.UNUSED)
        for pool in (A, B)
    )
    orchestrator = an_orchestrator(breakers=everywhere)
    choice = choose([orchestrator], SHAPE, holds_data={}, data_bytes=0, prices={}, now=NOW)
    assert choice.orchestrator_id == "o1"


# What was seen


def test_the_pause_of_unused_machines_and_that_of_the_stock_do_not_mix() -> None:
    out_of_stock = Breaker(pool=A, until=NOW + timedelta(seconds=9), cause=ProblemCode.STOCK_OUT)
    orchestrator = an_orchestrator(breakers=(out_of_stock,))
    problems = census.unused(orchestrator, some(2, S.IDLE, is_unused=True), NOW)
    found = learnt(orchestrator, problems, [], NOW).breakers
    assert {(each.cause, each.pause_s) for each in found} == {("stock_out", 60), ("unused", 60)}


def test_a_pause_is_prolonged_while_machines_are_still_unused_and_doubles_afterwards() -> None:
    unused = some(1, S.IDLE, is_unused=True)
    orchestrator = an_orchestrator()

    def seen(at: datetime) -> Breaker:
        nonlocal orchestrator
        problems = census.unused(orchestrator, unused, at)
        orchestrator = learnt(orchestrator, problems, unused, at)
        (found,) = orchestrator.breakers
        return found

    assert seen(NOW).pause_s == 60
    assert seen(NOW + TICK / 2).until == NOW + 1.5 * TICK
    assert seen(NOW + 2 * TICK).pause_s == 120


def test_unused_machines_in_a_zone_that_is_off_say_nothing() -> None:
    off = an_orchestrator(zones={"z-a": False, "z-b": True})
    assert census.unused(off, some(1, S.IDLE, is_unused=True), NOW) == []


# A farm over time, as the lists of provider and scheduler show it


@dataclass
class Farm:
    """What provider and scheduler would list; a machine joins within one tick."""

    orchestrator: Orchestrator = field(default_factory=an_orchestrator)
    now: datetime = NOW
    there: dict[str, FleetInstance] = field(default_factory=dict)
    ineligible: set[str] = field(default_factory=set)
    placements: list[Placement] = field(default_factory=list)
    decisions: Sequence[Decision] = ()
    reasons: dict[Shape, tuple[WaitingFor, str]] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)

    def submit(self, job: str, number: int = 1) -> None:
        self.placements += [
            a_placement(f"a-{job}-{next(self.numbers)}-1", Stage.WAITING, submitted_at=self.now)
            for _ in range(number)
        ]

    def start(self, job: str) -> None:
        """Have the scheduler start what waits of a job on whatever is idle."""
        busy = {each.instance for each in self.placements}
        idle = [name for name in self.there if name not in busy | self.ineligible]
        for index, each in enumerate(self.placements):
            if idle and each.stage is Stage.WAITING and f"-{job}-" in each.attempt_id:
                self.placements[index] = replace(
                    each, stage=Stage.STARTED, started_at=self.now, instance=idle.pop()
                )

    def tick(self) -> int:
        """Tick and let a minute pass; returns how many machines were started."""
        nodes = [
            Node(name=name, node_id=name, zone="z", is_up=True, is_eligible=is_eligible)
            for name in self.there
            for is_eligible in [name not in self.ineligible]
        ]
        instances = census.instances(
            self.orchestrator,
            self.there.values(),
            nodes=nodes,
            placements=self.placements,
            expected_s={},
            now=self.now,
        )
        unused = census.unused(self.orchestrator, instances, self.now)
        self.orchestrator = learnt(self.orchestrator, unused, instances, self.now)
        backlog = census.backlog(self.orchestrator, self.placements, {})
        self.decisions = plan(
            self.orchestrator,
            backlog=backlog,
            instances=instances,
            now=self.now,
            new_name=lambda: f"i-{next(self.numbers)}",
        )
        self.reasons = why_waiting(
            self.orchestrator,
            backlog=backlog,
            instances=instances,
            decisions=self.decisions,
            now=self.now,
        )
        self.ineligible |= drained(self.decisions)
        for name in retired(self.decisions):
            del self.there[name]
        grow_count = 0
        for decision in self.decisions:
            for name in decision.grow:
                grow_count += 1
                self.there[name] = FleetInstance(name=name, pool=decision.pool, created_at=self.now)
        self.now += TICK
        return grow_count


def test_machines_for_what_does_not_fit_leave_and_are_tried_again_ever_more_rarely() -> None:
    farm = Farm()
    farm.submit("big", 8)
    assert farm.tick() == 8
    sizes, started = [], []
    for _ in range(6 * 60):
        started.append(farm.tick())
        sizes.append(len(farm.there))
    assert sum(started[:20]) <= 4  # one at a time, and each time a longer pause
    assert max(sizes[20:]) == 1
    assert sum(started[-120:]) <= 4
    assert farm.reasons[SHAPE][0] in (WaitingFor.SCHEDULER, WaitingFor.BOOT)


def test_a_job_whose_machines_are_unused_is_told_so() -> None:
    farm = Farm()
    farm.submit("big", 2)
    said = []
    for _ in range(9):
        farm.tick()
        said.append(farm.reasons[SHAPE])
    told = (WaitingFor.SCHEDULER, "2 instances are idle, the scheduler does not use them")
    assert told in said
    assert any(reason.startswith("the scheduler did not use") for _, reason in said)


def test_what_fits_gets_its_machines_beside_what_does_not() -> None:
    farm = Farm()
    farm.submit("big", 3)
    for _ in range(10):
        farm.tick()
    farm.submit("small", 5)
    started = [farm.tick()]
    for _ in range(3):
        farm.start("small")
        started.append(farm.tick())
    assert sum(started) in (5, 6)
    assert not any(p.stage is Stage.WAITING and "-small-" in p.attempt_id for p in farm.placements)


def test_once_one_of_them_runs_all_get_their_machines() -> None:
    farm = Farm()
    farm.submit("big", 8)
    for _ in range(10):
        farm.tick()
    while not farm.there:
        farm.tick()
    farm.start("big")
    assert farm.tick() == 7


def test_a_machine_kept_warm_for_long_is_supply_for_what_has_just_come() -> None:
    farm = Farm(orchestrator=an_orchestrator(idle_s=3600))
    farm.submit("first")
    farm.tick()
    farm.placements.clear()
    for _ in range(10):
        farm.tick()
    farm.submit("second")
    assert farm.tick() == 0
    assert not farm.decisions
