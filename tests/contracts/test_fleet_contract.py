"""What the services expect of a Fleet, tried on every driver. A new driver is a new line in DRIVERS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests

from shared.errors import CloudError, OutOfCapacity, OverQuota, RateLimited, Unreachable
from shared.fleets import gce
from shared.fleets.gce import GceFleet
from shared.fleets.gce_resources import group_name
from shared.models.farm import (
    FleetInstance,
    Orchestrator,
    PoolKey,
    ProblemCode,
    instance_name,
    named_at,
)
from shared.ports import Fleet
from tests.contracts.stand_ins import nobody, order_fault, stand_in, until

ORCHESTRATOR = Orchestrator(
    orchestrator_id="o1",
    scheduler="nomad",
    scheduler_address="http://127.0.0.1:1",
    fleet="gce",
    project="render",
    region="us-central1",
    zones={"us-central1-a": True, "us-central1-b": True},
)
A = PoolKey("us-central1-a", "n1-standard-4", True)
B = PoolKey("us-central1-b", "n1-standard-4", True)
STANDARD = PoolKey("us-central1-a", "n1-standard-4", False)


class Rig(Protocol):
    """A cloud, and what a test may do to it behind the fleet's back."""

    def fleet(self, orchestrator: Orchestrator = ORCHESTRATOR) -> Fleet: ...
    def unreachable(self) -> Fleet: ...
    def is_running(self, name: str) -> bool: ...
    def is_preemptible(self, name: str) -> bool: ...
    def stop(self, name: str) -> None:
        """The provider takes a machine away."""
        ...

    def run_dry(self, zone: str) -> None:
        """The provider has no more machines in this zone."""
        ...

    def fail_next(self, calls: int, status: int, reason: str = "") -> None: ...
    def fail_later(self, code: str) -> None:
        """The provider accepts the next growth, and then fails to carry it out."""
        ...


class GceRig:
    """The stand-in for Compute Engine; its instances are processes that find no scheduler."""

    def __init__(self, url: str) -> None:
        self._url = url

    def fleet(self, orchestrator: Orchestrator = ORCHESTRATOR) -> Fleet:
        return GceFleet(orchestrator, endpoint=self._url)

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

    def fail_next(self, calls: int, status: int, reason: str = "") -> None:
        order_fault(self._url, kind="calls", calls=calls, status=status, reason=reason)

    def fail_later(self, code: str) -> None:
        order_fault(
            self._url, kind="operation", operation_type="createInstances", code=code, count=1
        )


@contextmanager
def gce_rig(directory: Path) -> Iterator[Rig]:
    pace = ("--boot-s", "0", "--stop-s", "0.05", "--operation-s", "0.05", "--retry-s", "60")
    with stand_in("compute", "--data", directory, "--nomad", nobody(), *pace) as url:
        yield GceRig(url)


Driver = Callable[[Path], AbstractContextManager[Rig]]
DRIVERS = [pytest.param(gce_rig, id="gce")]


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


def started(rig: Rig, fleet: Fleet, pool: PoolKey = A) -> str:
    """Return the name of an instance that runs."""
    (name,) = some_names(1)
    fleet.grow(pool, [name])
    until(lambda: rig.is_running(name))
    return name


# Growing


def test_a_fleet_begins_with_nothing(fleet: Fleet) -> None:
    assert fleet.pools() == []
    assert fleet.instances(A) == []
    assert fleet.problems(A, NOW - timedelta(hours=1)) == []


def test_instances_start_under_the_names_given(rig: Rig, fleet: Fleet) -> None:
    wanted = some_names(2)
    fleet.grow(A, wanted)
    assert sorted(names(fleet.instances(A))) == wanted
    assert fleet.pools() == [A]
    for name in wanted:
        until(partial(rig.is_running, name))
    (one, two) = fleet.instances(A)
    for each in (one, two):
        assert each.pool == A
        assert each.created_at == NOW
        assert (each.is_retiring, each.is_stopped, each.problem) == (False, False, None)


def test_pools_do_not_see_each_other(rig: Rig, fleet: Fleet) -> None:
    for index, pool in enumerate((A, B, STANDARD)):
        fleet.grow(pool, [instance_name(NOW, f"p{index}")])
    assert sorted(fleet.pools()) == sorted([A, B, STANDARD])
    assert [len(fleet.instances(pool)) for pool in (A, B, STANDARD)] == [1, 1, 1]
    assert names(fleet.instances(STANDARD)) == [instance_name(NOW, "p2")]


def test_orchestrators_do_not_see_each_other(rig: Rig, fleet: Fleet) -> None:
    other = rig.fleet(replace(ORCHESTRATOR, orchestrator_id="o1-b"))
    other.grow(A, some_names(1))
    assert fleet.pools() == []
    assert fleet.instances(A) == []
    assert other.pools() == [A]


@pytest.mark.parametrize(("pool", "is_preemptible"), [(A, True), (STANDARD, False)])
def test_only_preemptible_pools_have_preemptible_instances(
    rig: Rig, fleet: Fleet, pool: PoolKey, is_preemptible: bool
) -> None:
    assert rig.is_preemptible(started(rig, fleet, pool)) is is_preemptible


def test_the_oldest_instance_comes_first(fleet: Fleet) -> None:
    young, old = some_names(1), some_names(1, ago_s=100)
    fleet.grow(A, young)
    fleet.grow(A, old)
    assert names(fleet.instances(A)) == [*old, *young]


def test_another_process_finds_the_same_pools(rig: Rig, fleet: Fleet) -> None:
    fleet.grow(A, some_names(1))
    assert names(rig.fleet().instances(A)) == some_names(1)
    rig.fleet().grow(A, [instance_name(NOW, "more")])
    assert len(fleet.instances(A)) == 2


# Repeats


def test_growing_by_the_same_names_twice_starts_each_once(fleet: Fleet) -> None:
    fleet.grow(A, some_names(2))
    fleet.grow(A, some_names(2))
    assert sorted(names(fleet.instances(A))) == some_names(2)


def test_growing_by_names_of_which_some_exist_starts_the_others(fleet: Fleet) -> None:
    fleet.grow(A, some_names(2))
    fleet.grow(A, some_names(4))
    assert sorted(names(fleet.instances(A))) == some_names(4)


def test_growing_by_nothing_does_nothing(fleet: Fleet) -> None:
    fleet.grow(A, [])
    fleet.retire(A, [])
    assert fleet.instances(A) == []


# Shrinking


def test_exactly_the_instances_named_are_deleted(rig: Rig, fleet: Fleet) -> None:
    wanted = some_names(3)
    fleet.grow(A, wanted)
    fleet.retire(A, [wanted[1]])
    left = until(lambda: fleet.instances(A), holds=lambda found: len(found) == 2)
    assert sorted(names(left)) == [wanted[0], wanted[2]]


def test_an_instance_on_its_way_out_is_listed_as_such_until_it_is_gone(
    rig: Rig, fleet: Fleet
) -> None:
    name = started(rig, fleet)
    fleet.retire(A, [name])
    assert all(each.is_retiring for each in fleet.instances(A))
    until(lambda: fleet.instances(A), holds=lambda found: not found)


def test_deleting_what_is_gone_or_never_was_is_quiet(fleet: Fleet) -> None:
    fleet.retire(A, ["never-was"])
    wanted = some_names(2)
    fleet.grow(A, wanted)
    fleet.retire(A, [wanted[0], "never-was"])
    fleet.retire(A, [wanted[0]])
    left = until(lambda: fleet.instances(A), holds=lambda found: len(found) == 1)
    assert names(left) == [wanted[1]]


def test_an_instance_the_provider_took_away_is_stopped_and_can_be_deleted(
    rig: Rig, fleet: Fleet
) -> None:
    name = started(rig, fleet)
    rig.stop(name)
    (found,) = until(
        lambda: fleet.instances(A), holds=lambda found: [e.is_stopped for e in found] == [True]
    )
    assert found.name == name
    assert not found.is_retiring
    fleet.retire(A, [name])
    until(lambda: fleet.instances(A), holds=lambda found: not found)


# Many


def test_more_instances_than_fit_a_page_or_a_call_are_started_listed_and_deleted(
    rig: Rig, fleet: Fleet
) -> None:
    rig.run_dry(A.zone)  # so that none of them becomes a process
    wanted = some_names(1203)
    fleet.grow(A, wanted)
    found = fleet.instances(A)
    assert sorted(names(found)) == wanted
    fleet.retire(A, wanted)
    until(lambda: fleet.instances(A), holds=lambda found: not found)


# What the provider cannot do


def test_an_instance_that_could_not_be_started_says_so_and_so_does_the_pool(
    rig: Rig, fleet: Fleet
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    rig.run_dry(A.zone)
    try:
        fleet.grow(A, some_names(1))
    except OutOfCapacity:
        return  # told at once
    until(
        lambda: fleet.instances(A),
        holds=lambda found: [each.problem for each in found] == [ProblemCode.STOCK_OUT],
    )
    problems = fleet.problems(A, since)
    assert {each.code for each in problems} == {ProblemCode.STOCK_OUT}
    assert {each.pool for each in problems} == {A}
    assert all(each.message and each.at >= since for each in problems)
    assert problems == sorted(problems, key=lambda each: each.at)
    assert fleet.problems(A, datetime.now(UTC) + timedelta(minutes=1)) == []


def test_a_zone_that_is_dry_leaves_the_others_alone(rig: Rig, fleet: Fleet) -> None:
    rig.run_dry(A.zone)
    fleet.grow(B, [instance_name(NOW, "b")])
    until(lambda: rig.is_running(instance_name(NOW, "b")))
    assert fleet.problems(B, NOW - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", OutOfCapacity),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", OutOfCapacity),
        ("QUOTA_EXCEEDED", OverQuota),
        ("INTERNAL_ERROR", CloudError),
    ],
)
def test_growth_that_fails_after_it_was_accepted_is_an_error(
    rig: Rig, fleet: Fleet, code: str, error: type[CloudError]
) -> None:
    rig.fail_later(code)
    with pytest.raises(CloudError) as caught:
        fleet.grow(A, some_names(1))
    assert type(caught.value) is error
    assert fleet.instances(A) == []


CALLS: list[Callable[[Fleet], Any]] = [
    lambda fleet: fleet.grow(A, some_names(1)),
    lambda fleet: fleet.pools(),
    lambda fleet: fleet.instances(A),
    lambda fleet: fleet.retire(A, some_names(1)),
    lambda fleet: fleet.problems(A, NOW),
]


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (500, "", CloudError),
        (503, "", Unreachable),
        (403, "rateLimitExceeded", RateLimited),
        (403, "quotaExceeded", OverQuota),
        (403, "forbidden", CloudError),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_fails_is_told_and_the_call_can_be_repeated(
    rig: Rig,
    fleet: Fleet,
    call: Callable[[Fleet], Any],
    status: int,
    reason: str,
    error: type[CloudError],
) -> None:
    rig.fail_next(1, status, reason)
    with pytest.raises(CloudError) as caught:
        call(fleet)
    assert type(caught.value) is error
    call(fleet)


@pytest.mark.parametrize("call", CALLS)
def test_a_provider_that_does_not_answer_is_unreachable(
    rig: Rig, call: Callable[[Fleet], Any]
) -> None:
    with pytest.raises(Unreachable):
        call(rig.unreachable())


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
    found = {group_name(ORCHESTRATOR, pool) for pool in odd}
    assert len(found) == len(odd)
    for name in found:
        assert len(name) <= 61
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_every_error_word_is_one_of_ours() -> None:
    assert all(issubclass(error, CloudError) for error in gce.ERRORS.values())
