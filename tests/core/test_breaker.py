"""The breaker of each pool: what opens it, who probes, what closes it, and who stands above it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.breaker import (
    FAILED_COUNT,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_STRIKES,
    MOST_STRIKES_PER_POOL,
    PROBE_COUNT,
    STORM,
    STORM_SHARE,
    learnt,
    probing_count,
)
from shared.core.pools import boot_limit
from shared.core.scaling import plan
from shared.core.waiting import why_waiting
from shared.models.farm import (
    Breaker,
    BreakerState,
    FleetProblem,
    Instance,
    Orchestrator,
    PoolKey,
    ProblemCode,
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
    an_instance,
    an_orchestrator,
    decide,
    drained,
    grown,
    some,
    wants,
)

C = ProblemCode
OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED
TICK = timedelta(minutes=1)
# Late in the tests' usual orchestrator, whose machines boot in a minute.
LATE = timedelta(seconds=301)


def a_problem(code: C = C.STOCK_OUT, ago_s: float = 1, pool: PoolKey = A) -> FleetProblem:
    return FleetProblem(pool=pool, code=code, message="", at=NOW - timedelta(seconds=ago_s))


def a_breaker(since_s: float = 30, pool: PoolKey = A, **fields: object) -> Breaker:
    """Return a breaker that is half open for so many seconds."""
    known = Breaker(pool=pool, until=NOW - timedelta(seconds=since_s), cause=C.STOCK_OUT)
    return replace(known, **fields)  # type: ignore[arg-type]


def after(
    orchestrator: Orchestrator,
    problems: Sequence[FleetProblem] = (),
    instances: Sequence[Instance] = (),
    now: datetime = NOW,
) -> Orchestrator:
    return learnt(orchestrator, problems, instances, now)


def states(orchestrator: Orchestrator, now: datetime = NOW) -> dict[PoolKey, BreakerState]:
    return {each.pool: each.state(now) for each in orchestrator.breakers}


def dead_boots(number: int, first: int = 0, pool: PoolKey = A) -> list[Instance]:
    return [
        an_instance(f"late-{first + i}", S.BOOTING, pool, created_at=NOW - LATE)
        for i in range(number)
    ]


def stopped(
    number: int, pool: PoolKey = A, name: str = "stopped", **fields: object
) -> list[Instance]:
    given = {"problem": C.OTHER, "has_joined": True, **fields}
    return [an_instance(f"{name}-{pool.zone}-{i}", S.DEAD, pool, **given) for i in range(number)]


# What opens it


def test_a_stock_out_opens_it_and_the_same_report_again_changes_nothing() -> None:
    first = after(an_orchestrator(), [a_problem()])
    (found,) = first.breakers
    assert (found.pool, found.pause_s, found.cause) == (A, FIRST_PAUSE_S, "stock_out")
    assert after(first, [a_problem()]) == first
    later = NOW + timedelta(seconds=70)
    assert after(first, [a_problem()], now=later) == first


def test_two_reports_at_once_count_as_one() -> None:
    (found,) = after(an_orchestrator(), [a_problem(), a_problem(ago_s=2)]).breakers
    assert found.pause_s == FIRST_PAUSE_S


def test_a_quota_opens_it_in_every_zone_and_one_machine_closes_it_everywhere() -> None:
    found = after(an_orchestrator(), [a_problem(C.QUOTA)])
    assert states(found) == {A: OPEN, B: OPEN}
    later = NOW + timedelta(minutes=2)
    up = some(1, S.BUSY, B, created_at=NOW + timedelta(seconds=61))
    assert states(after(found, [], up, later), later) == {A: CLOSED, B: CLOSED}


def test_troubles_that_are_nobodys_fault_open_nothing() -> None:
    assert after(an_orchestrator(), [a_problem(C.OTHER)]) == an_orchestrator()


def test_dead_boots_open_it_when_there_are_enough_and_none_of_them_joined() -> None:
    few = after(an_orchestrator(), [], dead_boots(FAILED_COUNT - 1))
    assert few.breakers == ()
    assert len(few.strikes) == FAILED_COUNT - 1
    (found,) = after(an_orchestrator(), [], dead_boots(FAILED_COUNT)).breakers
    assert (found.pool, found.cause) == (A, "dead_boots")
    joined = some(1, S.BUSY, created_at=NOW - LATE)
    assert after(an_orchestrator(), [], dead_boots(9) + joined) == an_orchestrator()


def test_dead_boots_that_come_one_by_one_are_counted_over_several_ticks() -> None:
    orchestrator, now = an_orchestrator(), NOW
    for number in range(FAILED_COUNT):
        assert not orchestrator.breakers
        late = [replace(each, created_at=now - LATE) for each in dead_boots(1, first=number)]
        orchestrator = after(orchestrator, [], late, now)
        assert after(orchestrator, [], late, now) == orchestrator  # a repeated tick
        now += timedelta(minutes=6)
    assert [each.cause for each in orchestrator.breakers] == ["dead_boots"]
    assert orchestrator.strikes == ()


def test_a_machine_that_joins_takes_back_what_failed_before_it() -> None:
    struck = after(an_orchestrator(), [], dead_boots(FAILED_COUNT - 1))
    joined = some(1, S.IDLE, created_at=NOW)
    assert after(struck, [], joined, NOW + timedelta(minutes=1)).strikes == ()


def test_machines_that_are_stopped_before_they_join_are_failing_starts() -> None:
    young = NOW - timedelta(seconds=40)
    broken = stopped(FAILED_COUNT, STANDARD, created_at=young, has_joined=False)
    (found,) = after(an_orchestrator(), [], broken).breakers
    assert (found.pool, found.cause) == (STANDARD, "failing_starts")
    refused = [replace(each, problem=C.OTHER) for each in dead_boots(FAILED_COUNT)]
    assert [each.cause for each in after(an_orchestrator(), [], refused).breakers] == [
        "failing_starts"
    ]


@pytest.mark.parametrize(
    ("lost", "left", "is_storm"), [(4, 4, True), (3, 4, False), (3, 1, True), (3, 0, False)]
)
def test_half_of_at_least_four_machines_taken_back_is_a_storm(
    lost: int, left: int, is_storm: bool
) -> None:
    found = after(an_orchestrator(), [], stopped(lost) + some(left, S.BUSY))
    assert [each.cause for each in found.breakers] == ["preemptions"] * is_storm


def test_a_storm_is_noticed_over_several_ticks_and_nothing_is_counted_twice() -> None:
    there = some(8, S.BUSY)
    orchestrator, lost = an_orchestrator(), stopped(4)
    for minute in range(3):  # the one before is still listed at the next look
        seen = [*lost[max(minute - 1, 0) : minute + 1], *there[minute + 1 :]]
        orchestrator = after(orchestrator, [], seen, NOW + minute * TICK)
        assert len(orchestrator.strikes) == minute + 1
        assert not orchestrator.breakers
    calm = after(orchestrator, [], there, NOW + 9 * TICK)
    assert calm == an_orchestrator()
    storm = after(orchestrator, [], [lost[3], *there[4:]], NOW + 3 * TICK)
    assert [each.cause for each in storm.breakers] == ["preemptions"]


def test_a_pool_that_we_make_smaller_has_not_lost_what_we_took() -> None:
    noticed = after(an_orchestrator(), [], stopped(4) + some(96, S.BUSY))
    assert {each.size for each in noticed.strikes} == {100}
    for left in (some(4, S.BUSY), []):
        assert not after(noticed, [], left, NOW + TICK).breakers
    leaving = some(96, S.RETIRING, has_joined=True)
    assert not after(an_orchestrator(), [], stopped(4) + leaving).breakers


def test_of_a_pool_whose_breaker_is_open_no_preemption_is_kept_or_noticed_anew() -> None:
    lost, left = stopped(10_000), some(10_000, S.BUSY)
    storm = after(an_orchestrator(), [], lost + left)
    assert states(storm) == {A: OPEN}
    assert storm.strikes == ()
    tried = NOW + timedelta(seconds=FIRST_PAUSE_S)
    half_open = after(storm, [], lost + left, tried)
    assert (states(half_open, tried), half_open.strikes) == ({A: HALF_OPEN}, ())
    probe = an_instance("probe", S.BUSY, created_at=tried)
    still_listed, works = lost[:9], [probe, *left[:5]]
    for minute in range(1, 4):
        now = tried + minute * TICK
        half_open = after(half_open, [], still_listed + works, now)
        assert states(half_open, now) == {A: CLOSED}
    assert states(after(half_open, [], stopped(20, name="again") + works, now), now) == {A: OPEN}


def test_no_more_failures_are_remembered_than_a_document_holds() -> None:
    zones = {f"z-{i}": True for i in range(6)}
    farm: list[Instance] = dead_boots(FAILED_COUNT - 1)
    for zone in zones:
        pool = A._replace(zone=zone)
        farm += stopped(MOST_STRIKES_PER_POOL + 9, pool) + some(1500, S.BUSY, pool)
    found = after(an_orchestrator(zones=zones), [], farm)
    assert not found.breakers
    assert len(found.strikes) == MOST_STRIKES
    by_pool = Counter(each.pool for each in found.strikes)
    assert max(by_pool.values()) == MOST_STRIKES_PER_POOL
    assert by_pool[A] == FAILED_COUNT - 1
    assert after(found, [], farm) == found


def test_machines_that_had_joined_and_are_unknown_now_are_no_dead_boots() -> None:
    forgotten = [replace(each, has_joined=True) for each in dead_boots(FAILED_COUNT)]
    known = some(40, S.BUSY, B)
    assert after(an_orchestrator(), [], forgotten + known) == an_orchestrator()


def test_while_the_scheduler_has_lost_its_books_no_machine_counts_as_never_joined() -> None:
    late, known = dead_boots(FAILED_COUNT), some(17, S.BUSY, B)
    gone = some(3, S.BOOTING, B, has_joined=True)
    assert after(an_orchestrator(), [], late + known + gone) == an_orchestrator()
    assert states(after(an_orchestrator(), [], late + known + gone[:2])) == {A: OPEN}


def test_standard_machines_that_somebody_stops_are_no_storm() -> None:
    assert after(an_orchestrator(), [], stopped(8, STANDARD)) == an_orchestrator()


def test_what_was_preempted_in_a_storm_goes_to_another_zone() -> None:
    lost, left = stopped(4), some(2, S.BUSY)
    orchestrator = after(an_orchestrator(), [], lost + left)
    assert grown(decide(orchestrator, [wants(4)], lost + left)) == {B: 4}


def test_a_quota_and_a_pools_own_failures_are_remembered_apart() -> None:
    failing = a_breaker(since_s=90, pool=A, cause=C.DEAD_BOOTS, pause_s=960)
    short = after(an_orchestrator(breakers=(failing,)), [a_problem(C.QUOTA)])
    assert failing in short.breakers
    assert decide(short, [wants(4)]) == ()
    later = NOW + timedelta(minutes=2)
    up = some(1, S.BUSY, B, created_at=NOW + timedelta(seconds=61))
    healed = after(short, [], up, later)
    known = {(each.pool, each.cause): each for each in healed.breakers}
    assert known[A, C.QUOTA].state(later) is CLOSED
    assert known[A, C.DEAD_BOOTS] == failing
    again = after(healed, [a_problem(C.DEAD_BOOTS, ago_s=-120)], up, later)
    assert max(each.pause_s for each in again.breakers) == LONGEST_PAUSE_S


# Half open


def test_a_pool_is_tried_with_one_machine_while_others_serve_the_rest() -> None:
    orchestrator = an_orchestrator(breakers=(a_breaker(),))
    decisions = decide(orchestrator, [wants(9)])
    assert grown(decisions) == {A: PROBE_COUNT, B: 8}
    assert "to find out whether it works again (stock_out)" in decisions[0].reason


def test_a_probe_counts_as_coming_and_there_is_no_second_one() -> None:
    orchestrator = an_orchestrator(zones={"z-a": True}, breakers=(a_breaker(),))
    probe = booting = [an_instance("probe", S.BOOTING, created_at=NOW - timedelta(seconds=9))]
    assert decide(orchestrator, [wants(1)], probe) == ()
    assert decide(orchestrator, [wants(5)], booting) == ()


def test_one_machine_probes_a_quota_for_all_zones() -> None:
    quotas = tuple(a_breaker(pool=pool, cause=C.QUOTA) for pool in (A, B))
    orchestrator = an_orchestrator(breakers=quotas)
    assert grown(decide(orchestrator, [wants(9)])) == {A: PROBE_COUNT}
    out_of_stock = Breaker(pool=A, until=NOW + timedelta(minutes=1), cause=C.STOCK_OUT)
    elsewhere = replace(orchestrator, breakers=(*quotas, out_of_stock))
    assert grown(decide(elsewhere, [wants(9)])) == {B: PROBE_COUNT}
    probe = [an_instance("probe", S.BOOTING, B, created_at=NOW - timedelta(seconds=9))]
    assert decide(orchestrator, [wants(9)], probe) == ()
    overruled = replace(orchestrator, pool_switches={A.pool_id: True})
    assert sum(grown(decide(overruled, [wants(9)])).values()) == 9


def test_machines_from_before_are_no_probes() -> None:
    orchestrator = an_orchestrator(zones={"z-a": True}, breakers=(a_breaker(),))
    before = some(3, S.BOOTING, created_at=NOW - timedelta(seconds=80))
    assert grown(decide(orchestrator, [wants(9)], before)) == {A: 1}
    up = some(3, S.BUSY, created_at=NOW - timedelta(seconds=80))
    assert states(after(orchestrator, [], up)) == {A: HALF_OPEN}


def test_it_closes_when_the_probe_has_joined() -> None:
    orchestrator = an_orchestrator(breakers=(a_breaker(),))
    probe = some(1, S.BUSY, created_at=NOW - timedelta(seconds=20))
    found = after(orchestrator, [], probe)
    assert states(found) == {A: CLOSED}
    assert grown(decide(found, [wants(9)], probe)) == {A: 4, B: 5}
    assert after(found, [], probe) == found


@pytest.mark.parametrize(
    "probe",
    [
        an_instance("probe", S.BOOTING, created_at=NOW - LATE),
        an_instance("probe", S.DEAD, created_at=NOW - LATE, problem=C.OTHER, has_joined=True),
        an_instance("probe", S.DEAD, created_at=NOW - LATE / 2, problem=C.OTHER),
    ],
    ids=["late", "preempted", "stopped"],
)
def test_a_probe_that_fails_opens_it_for_twice_as_long(probe: Instance) -> None:
    orchestrator = an_orchestrator(breakers=(a_breaker(since_s=LATE.total_seconds() + 9),))
    found = after(orchestrator, [], [probe])
    assert [(each.pause_s, each.state(NOW)) for each in found.breakers] == [(120, OPEN)]
    assert after(found, [], [probe]) == found


def test_a_stock_out_of_the_probe_opens_it_for_twice_as_long_and_is_forgotten_after_a_while() -> (
    None
):
    orchestrator = an_orchestrator(breakers=(a_breaker(),))
    (second,) = after(orchestrator, [a_problem()]).breakers
    assert (second.pause_s, second.until) == (120, NOW + timedelta(seconds=120))
    long_ago = an_orchestrator(breakers=(a_breaker(since_s=3600),))
    (afresh,) = after(long_ago, [a_problem()]).breakers
    assert afresh.pause_s == FIRST_PAUSE_S
    assert after(long_ago) == an_orchestrator()


def test_it_is_not_forgotten_while_a_probe_is_on_its_way() -> None:
    orchestrator = an_orchestrator(breakers=(a_breaker(since_s=1300),))
    probe = [an_instance("probe", S.BOOTING, created_at=NOW - timedelta(seconds=9))]
    assert states(after(orchestrator, [], probe)) == {A: HALF_OPEN}
    assert states(after(orchestrator)) == {}


def test_one_that_has_closed_opens_for_twice_as_long_when_it_fails_again_soon() -> None:
    closed = a_breaker(since_s=300, closed_at=NOW - timedelta(seconds=60))
    (found,) = after(an_orchestrator(breakers=(closed,)), [a_problem()]).breakers
    assert (found.pause_s, found.closed_at) == (120, None)


# The operator's switch


def test_a_pool_that_is_switched_on_grows_whatever_its_breaker_says() -> None:
    opened = Breaker(pool=A, until=NOW + timedelta(hours=1), cause=C.DEAD_BOOTS)
    orchestrator = an_orchestrator(breakers=(opened,), pool_switches={A.pool_id: True})
    assert grown(decide(orchestrator, [wants(4)])) == {A: 2, B: 2}


def test_a_pool_that_is_switched_off_is_emptied_as_a_zone_is() -> None:
    orchestrator = an_orchestrator(pool_switches={A.pool_id: False}, min_sizes={A.pool_id: 2})
    there = some(2, S.IDLE) + some(1, S.BUSY)
    decisions = decide(orchestrator, [wants(4)], there)
    assert drained(decisions) == {each.name for each in there}
    assert grown(decisions) == {B: 4}
    assert decisions[0].reason == f"{A.pool_id} is switched off"
    assert grown(decide(orchestrator, [wants(2, OTHER_SHAPE)]))[STANDARD] == 1


def test_switches_of_zone_and_orchestrator_stand_above_that_of_a_pool() -> None:
    switches = {A.pool_id: True}
    for off in ({"zones": {"z-a": False}}, {"is_enabled": False}, {"is_region_enabled": False}):
        assert decide(an_orchestrator(pool_switches=switches, **off), [wants(4)]) == ()


def test_a_waiting_attempt_says_which_pools_fail_and_until_when() -> None:
    until = NOW + timedelta(minutes=1)
    breakers = (
        Breaker(pool=A, until=until, cause=C.DEAD_BOOTS),
        Breaker(pool=B, until=until, cause=C.PREEMPTIONS),
    )
    orchestrator = an_orchestrator(breakers=breakers)
    found = why_waiting(orchestrator, backlog=[wants(1)], instances=[], decisions=[], now=NOW)
    note = (
        "z-a starts machines that never join, z-b takes them back; tried again from 12:01:00 UTC on"
    )
    assert found[SHAPE] == (WaitingFor.STOCK_OUT, note)
    off = replace(orchestrator, pool_switches={A.pool_id: False, B.pool_id: False})
    found = why_waiting(off, backlog=[wants(1)], instances=[], decisions=[], now=NOW)
    assert found[SHAPE][0] is WaitingFor.ZONE_OFF


# Any farm, over any time


@dataclass
class Weather:
    """A farm of two zones whose provider fails as it likes: each machine that starts meets the next fate."""

    orchestrator: Orchestrator
    fates: list[str]
    now: datetime = NOW
    there: dict[str, tuple[Instance, str]] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)
    drained: set[str] = field(default_factory=set)
    noticed: dict[str, tuple[PoolKey, datetime, int]] = field(default_factory=dict)

    def seen(self, waiting: int) -> list[Instance]:
        """Return the machines as a look would find them now: idle when nothing waits."""
        result = []
        for each, fate in self.there.values():
            age = self.now - each.created_at
            found = each
            if fate == "stops" and age >= timedelta(seconds=30):
                found = replace(each, status=S.DEAD, problem=C.OTHER)
            elif fate in ("joins", "goes") and age >= timedelta(seconds=60):
                found = replace(each, status=S.BUSY, has_joined=True)
                if not waiting:
                    status = S.DRAINING if each.name in self.drained else S.IDLE
                    idle_since = each.created_at + timedelta(seconds=60)
                    found = replace(found, status=status, idle_since=idle_since)
                if fate == "goes" and age >= timedelta(seconds=150):
                    found = replace(found, status=S.DEAD, problem=C.OTHER)
            result.append(found)
        return result

    def tick(self, waiting: int) -> None:
        seen = self.seen(waiting)
        before = self.orchestrator
        self.orchestrator = learnt(before, [], seen, self.now)
        assert learnt(self.orchestrator, [], seen, self.now) == self.orchestrator
        decisions = plan(
            self.orchestrator,
            backlog=[wants(waiting)],
            instances=seen,
            now=self.now,
            new_name=lambda: f"i-{next(self.numbers)}",
        )
        self.check(before, seen, grown(decisions))
        problems = []
        for decision in decisions:
            self.drained.update(decision.drain)
            for name in decision.retire:
                del self.there[name]
            for name in decision.grow:
                fate = self.fates[next(self.numbers) % len(self.fates)]
                if fate == "refused":
                    problems.append(
                        FleetProblem(pool=decision.pool, code=C.STOCK_OUT, message="", at=self.now)
                    )
                    continue
                machine = an_instance(name, S.BOOTING, decision.pool, created_at=self.now)
                self.there[name] = machine, fate
        self.orchestrator = learnt(self.orchestrator, problems, seen, self.now)
        assert learnt(self.orchestrator, problems, seen, self.now) == self.orchestrator

    def check(
        self, before: Orchestrator, seen: Sequence[Instance], growing: dict[PoolKey, int]
    ) -> None:
        known = {each.pool: each for each in before.breakers}
        self.notice(seen)
        for each in self.orchestrator.breakers:
            if each.cause == C.PREEMPTIONS and each.pool not in known:
                self.check_storm(each.pool)
            assert FIRST_PAUSE_S <= each.pause_s <= LONGEST_PAUSE_S
            past = known.get(each.pool)
            if past is not None and past.until != each.until:
                assert each.pause_s == min(past.pause_s * 2, LONGEST_PAUSE_S)
            state = each.state(self.now)
            if self.orchestrator.pool_switches.get(each.pool.pool_id):
                continue
            if state is OPEN:
                assert each.pool not in growing
            if state is HALF_OPEN:
                under_way = probing_count(each, seen)
                assert under_way + growing.get(each.pool, 0) <= PROBE_COUNT
        off = {pool for pool, is_on in self.orchestrator.pool_switches.items() if not is_on}
        assert not off & {pool.pool_id for pool in growing}
        assert len(self.orchestrator.breakers) <= 2
        assert len({each.instance for each in self.orchestrator.strikes}) == len(
            self.orchestrator.strikes
        )
        memory = 4 * boot_limit(self.orchestrator)
        assert all(self.now - each.created_at <= memory for each in self.orchestrator.strikes)

    def notice(self, seen: Sequence[Instance]) -> None:
        """Note which machines were lost, when, and of how many."""
        sizes = Counter(each.pool for each in seen if each.has_joined)
        for each in seen:
            if each.status is S.DEAD and each.has_joined:
                self.noticed.setdefault(each.name, (each.pool, self.now, sizes[each.pool]))

    def check_storm(self, pool: PoolKey) -> None:
        """A storm has taken half of what there was, however small we have made the pool since."""
        recent = [
            (at, size)
            for where, at, size in self.noticed.values()
            if where == pool and self.now - at <= STORM
        ]
        assert len(recent) >= STORM_SHARE * max(recent)[1]


@given(
    st.lists(
        st.sampled_from(["joins", "never", "stops", "goes", "refused"]), min_size=1, max_size=7
    ),
    st.lists(st.tuples(st.integers(0, 12), st.integers(5, 200)), min_size=1, max_size=40),
    st.dictionaries(st.sampled_from([A.pool_id, B.pool_id]), st.booleans()),
)
@settings(max_examples=150, deadline=None)
def test_it_opens_probes_with_one_doubles_within_bounds_and_a_switch_always_wins(
    fates: list[str], ticks: list[tuple[int, int]], switches: dict[str, bool]
) -> None:
    farm = Weather(an_orchestrator(pool_switches=switches), fates)
    for waiting, pause_s in ticks:
        farm.tick(waiting)
        farm.now += timedelta(seconds=pause_s)


def test_a_provider_that_fails_for_an_hour_is_asked_ever_more_rarely_and_heals_by_itself() -> None:
    farm = Weather(an_orchestrator(), ["refused"])
    asked = 0
    for _ in range(60):
        number = len(farm.orchestrator.breakers) and max(
            each.until.timestamp() for each in farm.orchestrator.breakers
        )
        farm.tick(5)
        asked += number != max(each.until.timestamp() for each in farm.orchestrator.breakers)
        farm.now += timedelta(minutes=1)
    assert asked <= 8
    farm.fates = ["joins"]
    for _ in range(40):
        farm.tick(5)
        farm.now += timedelta(minutes=1)
    assert len(farm.there) >= 5
    assert set(states(farm.orchestrator, farm.now).values()) <= {CLOSED}
