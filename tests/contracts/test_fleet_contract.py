"""What the services expect of a Fleet, tried on every driver. A new driver is a new line in DRIVERS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import requests

from shared.errors import CloudError, OutOfCapacity, OverQuota, RateLimited, Unreachable
from shared.fleets import ec2_errors, ec2_resources, gce
from shared.fleets.ec2 import Ec2Fleet
from shared.fleets.gce import GceFleet
from shared.fleets.gce_resources import group_name
from shared.fleets.managed import ManagedFleet
from shared.models.farm import (
    FleetInstance,
    Orchestrator,
    PoolKey,
    ProblemCode,
    instance_name,
    named_at,
)
from shared.ports import Fleet
from tests.contracts.aws import ec2_rig
from tests.contracts.stand_ins import nobody, order_fault, stand_in
from tests.waiting import until

ORCHESTRATOR = Orchestrator(
    orchestrator_id="o1",
    scheduler="nomad",
    scheduler_address="http://127.0.0.1:1",
    fleet="gce",
    project="render",
    region="us-central1",
    zones={"us-central1-a": True, "us-central1-b": True},
)


class Rig(Protocol):
    """A cloud, and what a test may do to it behind the fleet's back.

    Shapes: `a` and `b` are pools of preemptible machines in two zones, `standard` one of standard machines beside `a`.
    Troubles: broken, unavailable, rate, quota, forbidden, stock_out.
    """

    a: PoolKey
    b: PoolKey
    standard: PoolKey

    def fleet(self, orchestrator_id: str = "o1") -> Fleet: ...
    def unreachable(self) -> Fleet: ...
    def is_running(self, name: str) -> bool: ...
    def is_preemptible(self, name: str) -> bool: ...
    def stop(self, name: str) -> None:
        """The provider takes a machine away."""
        ...

    def run_dry(self, zone: str) -> None:
        """The provider has no more machines in this zone."""
        ...

    def many(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """Return how many instances are more than a page and a call hold; those of `a` will cost little."""
        ...

    def fail_next(self, trouble: str) -> None: ...
    def fail_later(self, word: str) -> None:
        """The provider accepts the next growth, and then fails to carry it out, in this word of its own."""
        ...


class GceRig:
    """The stand-in for Compute Engine; its instances are processes that find no scheduler."""

    TROUBLES: ClassVar = {
        "broken": (500, ""),
        "unavailable": (503, ""),
        "rate": (403, "rateLimitExceeded"),
        "quota": (403, "quotaExceeded"),
        "forbidden": (403, "forbidden"),
    }

    def __init__(self, url: str) -> None:
        self._url = url
        self.a = PoolKey("us-central1-a", "n1-standard-4", True)
        self.b = self.a._replace(zone="us-central1-b")
        self.standard = self.a._replace(is_preemptible=False)

    def fleet(self, orchestrator_id: str = "o1") -> Fleet:
        mine = replace(ORCHESTRATOR, orchestrator_id=orchestrator_id)
        return GceFleet(mine, endpoint=self._url)

    def unreachable(self) -> Fleet:
        return GceFleet(ORCHESTRATOR, endpoint=nobody())

    def is_running(self, name: str) -> bool:
        machines = requests.get(f"{self._url}/machines", timeout=10).json()
        return any(each["name"] == name and each["status"] == "RUNNING" for each in machines)

    def is_preemptible(self, name: str) -> bool:
        path = f"/compute/v1/projects/render/zones/us-central1-a/instances/{name}"
        scheduling = requests.get(self._url + path, timeout=10).json()["scheduling"]
        return bool(scheduling["preemptible"])

    def stop(self, name: str) -> None:
        order_fault(self._url, kind="preempt", instance=name, notice_s=0)

    def run_dry(self, zone: str) -> None:
        order_fault(self._url, kind="stockout", zone=zone)

    def many(self, monkeypatch: pytest.MonkeyPatch) -> int:
        self.run_dry(self.a.zone)  # so that none of them becomes a process
        return 1203

    def fail_next(self, trouble: str) -> None:
        status, reason = self.TROUBLES[trouble]
        order_fault(self._url, kind="calls", calls=1, status=status, reason=reason)

    def fail_later(self, word: str) -> None:
        order_fault(
            self._url, kind="operation", operation_type="createInstances", code=word, count=1
        )


@contextmanager
def gce_rig(directory: Path) -> Iterator[Rig]:
    pace = ("--boot-s", "0", "--stop-s", "0.05", "--operation-s", "0.05", "--retry-s", "60")
    with stand_in("compute", "--data", directory, "--nomad", nobody(), *pace) as url:
        yield GceRig(url)


Driver = Callable[[Path], AbstractContextManager[Rig]]
DRIVERS = [pytest.param(gce_rig, id="gce"), pytest.param(ec2_rig, id="ec2")]


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    driver: Driver = request.param
    with driver(tmp_path) as made:
        yield made


@pytest.fixture
def fleet(rig: Rig) -> Fleet:
    return rig.fleet()


NOW = datetime.now(UTC).replace(microsecond=0)


def some_names(count: int, ago_s: int = 0) -> list[str]:
    return [instance_name(NOW - timedelta(seconds=ago_s), f"{index:04d}") for index in range(count)]


def names(instances: Sequence[FleetInstance]) -> list[str]:
    return [each.name for each in instances]


def started(rig: Rig, fleet: Fleet, pool: PoolKey | None = None) -> str:
    """Return the name of an instance that runs."""
    (name,) = some_names(1)
    fleet.grow(pool or rig.a, [name])
    until(lambda: rig.is_running(name))
    return name


# Growing


def test_a_fleet_begins_with_nothing(rig: Rig, fleet: Fleet) -> None:
    assert fleet.pools() == []
    assert fleet.instances(rig.a) == []
    assert fleet.problems(rig.a, NOW - timedelta(hours=1)) == []


def test_instances_start_under_the_names_given(rig: Rig, fleet: Fleet) -> None:
    wanted = some_names(2)
    fleet.grow(rig.a, wanted)
    assert sorted(names(fleet.instances(rig.a))) == wanted
    assert fleet.pools() == [rig.a]
    for name in wanted:
        until(partial(rig.is_running, name))
    (one, two) = fleet.instances(rig.a)
    for each in (one, two):
        assert each.pool == rig.a
        assert each.created_at == NOW
        assert (each.is_retiring, each.is_stopped, each.problem) == (False, False, None)


def test_pools_do_not_see_each_other(rig: Rig, fleet: Fleet) -> None:
    for index, pool in enumerate((rig.a, rig.b, rig.standard)):
        fleet.grow(pool, [instance_name(NOW, f"p{index}")])
    assert sorted(fleet.pools()) == sorted([rig.a, rig.b, rig.standard])
    assert [len(fleet.instances(pool)) for pool in (rig.a, rig.b, rig.standard)] == [1, 1, 1]
    assert names(fleet.instances(rig.standard)) == [instance_name(NOW, "p2")]


def test_orchestrators_do_not_see_each_other(rig: Rig, fleet: Fleet) -> None:
    other = rig.fleet("o1-b")
    other.grow(rig.a, some_names(1))
    assert fleet.pools() == []
    assert fleet.instances(rig.a) == []
    assert other.pools() == [rig.a]


@pytest.mark.parametrize("is_preemptible", [True, False])
def test_only_preemptible_pools_have_preemptible_instances(
    rig: Rig, fleet: Fleet, is_preemptible: bool
) -> None:
    pool = rig.a if is_preemptible else rig.standard
    assert rig.is_preemptible(started(rig, fleet, pool)) is is_preemptible


def test_the_oldest_instance_comes_first(rig: Rig, fleet: Fleet) -> None:
    young, old = some_names(1), some_names(1, ago_s=100)
    fleet.grow(rig.a, young)
    fleet.grow(rig.a, old)
    assert names(fleet.instances(rig.a)) == [*old, *young]


def test_another_process_finds_the_same_pools(rig: Rig, fleet: Fleet) -> None:
    fleet.grow(rig.a, some_names(1))
    assert names(rig.fleet().instances(rig.a)) == some_names(1)
    rig.fleet().grow(rig.a, [instance_name(NOW, "more")])
    assert len(fleet.instances(rig.a)) == 2


# Repeats


def test_growing_by_the_same_names_twice_starts_each_once(rig: Rig, fleet: Fleet) -> None:
    fleet.grow(rig.a, some_names(2))
    fleet.grow(rig.a, some_names(2))
    assert sorted(names(fleet.instances(rig.a))) == some_names(2)


def test_growing_by_names_of_which_some_exist_starts_the_others(rig: Rig, fleet: Fleet) -> None:
    fleet.grow(rig.a, some_names(2))
    fleet.grow(rig.a, some_names(4))
    assert sorted(names(fleet.instances(rig.a))) == some_names(4)


def test_growing_by_nothing_does_nothing(rig: Rig, fleet: Fleet) -> None:
    fleet.grow(rig.a, [])
    fleet.retire(rig.a, [])
    assert fleet.instances(rig.a) == []


# Shrinking


def test_exactly_the_instances_named_are_deleted(rig: Rig, fleet: Fleet) -> None:
    wanted = some_names(3)
    fleet.grow(rig.a, wanted)
    fleet.retire(rig.a, [wanted[1]])
    left = until(lambda: fleet.instances(rig.a), holds=lambda found: len(found) == 2)
    assert sorted(names(left)) == [wanted[0], wanted[2]]


def test_an_instance_on_its_way_out_is_listed_as_such_until_it_is_gone(
    rig: Rig, fleet: Fleet
) -> None:
    name = started(rig, fleet)
    fleet.retire(rig.a, [name])
    assert all(each.is_retiring for each in fleet.instances(rig.a))
    until(lambda: fleet.instances(rig.a), holds=lambda found: not found)


def test_deleting_what_is_gone_or_never_was_is_quiet(rig: Rig, fleet: Fleet) -> None:
    fleet.retire(rig.a, ["never-was"])
    wanted = some_names(2)
    fleet.grow(rig.a, wanted)
    fleet.retire(rig.a, [wanted[0], "never-was"])
    fleet.retire(rig.a, [wanted[0]])
    left = until(lambda: fleet.instances(rig.a), holds=lambda found: len(found) == 1)
    assert names(left) == [wanted[1]]


def test_an_instance_the_provider_took_away_is_stopped_and_can_be_deleted(
    rig: Rig, fleet: Fleet
) -> None:
    name = started(rig, fleet)
    rig.stop(name)
    (found,) = until(
        lambda: fleet.instances(rig.a), holds=lambda found: [e.is_stopped for e in found] == [True]
    )
    assert found.name == name
    assert not found.is_retiring
    fleet.retire(rig.a, [name])
    until(lambda: fleet.instances(rig.a), holds=lambda found: not found)


# Many


def test_more_instances_than_fit_a_page_or_a_call_are_started_listed_and_deleted(
    rig: Rig, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = some_names(rig.many(monkeypatch))
    fleet.grow(rig.a, wanted)
    found = fleet.instances(rig.a)
    assert sorted(names(found)) == wanted
    fleet.retire(rig.a, wanted)
    until(lambda: fleet.instances(rig.a), holds=lambda found: not found)


# What the provider cannot do


def test_an_instance_that_could_not_be_started_says_so_and_so_does_the_pool(
    rig: Rig, fleet: Fleet
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    rig.run_dry(rig.a.zone)
    try:
        fleet.grow(rig.a, some_names(1))
    except OutOfCapacity:  # told at once
        assert fleet.instances(rig.a) == []
    else:
        until(
            lambda: fleet.instances(rig.a),
            holds=lambda found: [each.problem for each in found] == [ProblemCode.STOCK_OUT],
        )
    problems = fleet.problems(rig.a, since)
    assert {each.code for each in problems} == {ProblemCode.STOCK_OUT}
    assert {each.pool for each in problems} == {rig.a}
    assert all(each.message and each.at >= since for each in problems)
    assert problems == sorted(problems, key=lambda each: each.at)
    assert fleet.problems(rig.a, datetime.now(UTC) + timedelta(minutes=1)) == []


def test_a_zone_that_is_dry_leaves_the_others_alone(rig: Rig, fleet: Fleet) -> None:
    rig.run_dry(rig.a.zone)
    fleet.grow(rig.b, [instance_name(NOW, "b")])
    until(lambda: rig.is_running(instance_name(NOW, "b")))
    assert fleet.problems(rig.b, NOW - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("driver", "word", "error"),
    [
        (gce_rig, "ZONE_RESOURCE_POOL_EXHAUSTED", OutOfCapacity),
        (gce_rig, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", OutOfCapacity),
        (gce_rig, "QUOTA_EXCEEDED", OverQuota),
        (gce_rig, "INTERNAL_ERROR", CloudError),
        (ec2_rig, "InsufficientInstanceCapacity", OutOfCapacity),
        (ec2_rig, "VcpuLimitExceeded", OverQuota),
        (ec2_rig, "MaxSpotInstanceCountExceeded", OverQuota),
        (ec2_rig, "InternalError", CloudError),
    ],
)
def test_growth_that_fails_after_it_was_accepted_is_an_error(
    driver: Driver, word: str, error: type[CloudError], tmp_path: Path
) -> None:
    with driver(tmp_path) as rig:
        fleet = rig.fleet()
        rig.fail_later(word)
        with pytest.raises(CloudError) as caught:
            fleet.grow(rig.a, some_names(1))
        assert type(caught.value) is error
        assert fleet.instances(rig.a) == []


CALLS: list[Callable[[Fleet, PoolKey], Any]] = [
    lambda fleet, pool: fleet.grow(pool, some_names(1)),
    lambda fleet, pool: fleet.pools(),
    lambda fleet, pool: fleet.instances(pool),
    lambda fleet, pool: fleet.retire(pool, some_names(1)),
    lambda fleet, pool: fleet.problems(pool, NOW),
]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("broken", CloudError),
        ("unavailable", Unreachable),
        ("rate", RateLimited),
        ("quota", OverQuota),
        ("forbidden", CloudError),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_fails_is_told_and_the_call_can_be_repeated(
    rig: Rig,
    fleet: Fleet,
    call: Callable[[Fleet, PoolKey], Any],
    trouble: str,
    error: type[CloudError],
) -> None:
    rig.fail_next(trouble)
    with pytest.raises(CloudError) as caught:
        call(fleet, rig.a)
    assert type(caught.value) is error
    call(fleet, rig.a)


def test_machines_are_all_named_by_a_provider_that_was_asked_too_often(tmp_path: Path) -> None:
    with ec2_rig(tmp_path) as rig:
        fleet, wanted = rig.fleet(), some_names(20)
        rig.throttle("CreateTags", calls=10)
        fleet.grow(rig.a, wanted)
        assert sorted(names(fleet.instances(rig.a))) == wanted


@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_does_not_answer_is_unreachable(
    rig: Rig, call: Callable[[Fleet, PoolKey], Any]
) -> None:
    with pytest.raises(Unreachable):
        call(rig.unreachable(), rig.a)


# A fleet that needs nobody


def test_a_fleet_whose_scheduler_scales_by_itself_takes_every_call_and_lists_nothing() -> None:
    fleet, pool = ManagedFleet(), PoolKey("us-east-1", "m5.xlarge", True)
    fleet.grow(pool, some_names(2))
    fleet.retire(pool, some_names(2))
    assert fleet.pools() == []
    assert fleet.instances(pool) == []
    assert fleet.problems(pool, NOW) == []


@pytest.mark.parametrize("driver", [GceFleet, Ec2Fleet, ManagedFleet])
def test_a_fleet_has_the_calls_of_the_port_and_no_others(driver: type[Fleet]) -> None:
    def calls(of: type) -> set[str]:
        return {name for name in vars(of) if not name.startswith("_")}

    assert calls(driver) == calls(Fleet)


# Names


def test_an_instances_name_tells_when_it_was_given() -> None:
    assert named_at(instance_name(NOW, "x7f-2")) == NOW
    with pytest.raises(ValueError, match="ours"):
        named_at("somebody-else-0001")


def test_groups_of_different_pools_never_share_a_name_and_every_name_is_allowed() -> None:
    odd = [
        PoolKey("z", "n1.standard", True),
        PoolKey("z", "n1_standard", True),
        PoolKey("z", "N1-standard", True),
        PoolKey("z", "n1-standard", True),
        PoolKey("z" * 40, "t" * 40, True),
        PoolKey("z" * 40, "t" * 40, False),
    ]
    assert len({ec2_resources.group_name(ORCHESTRATOR, pool) for pool in odd}) == len(odd)
    found = {group_name(ORCHESTRATOR, pool) for pool in odd}
    assert len(found) == len(odd)
    for name in found:
        assert len(name) <= 61
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_every_error_word_is_one_of_ours() -> None:
    words = [*gce.ERRORS.values(), *ec2_errors.ERRORS.values()]
    assert all(issubclass(error, CloudError) for error in words)
