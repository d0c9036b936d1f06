"""What only the driver of Compute Engine has to get right."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.errors import CloudError, Unreachable
from shared.fleets import gce
from shared.fleets.gce import GceFleet
from shared.models.farm import Orchestrator, PoolKey
from tests.contracts.stand_ins import nobody, recorded, stand_in
from tests.waiting import until

ORCHESTRATOR = Orchestrator(
    orchestrator_id="o1",
    scheduler="nomad",
    scheduler_address="http://127.0.0.1:1",
    fleet="gce",
    project="render",
    region="us-central1",
    zones={"us-central1-a": True},
)
POOL = PoolKey("us-central1-a", "n1-standard-4", True)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def a_group(*, size: int = 0, **actions: int) -> dict[str, Any]:
    said = {"orchestrator": "o1", **POOL._asdict()}
    return {
        "name": "baton-o1-a",
        "description": json.dumps(said),
        "targetSize": size,
        "currentActions": {"none": 0, "creating": 0, "deleting": 0, **actions},
    }


def listing(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"zones/us-central1-a": {"instanceGroupManagers": list(groups)}}


def out_of_reach(zone: str) -> dict[str, Any]:
    return {f"zones/{zone}": {"warning": {"code": "UNREACHABLE", "message": "not now"}}}


def look_into_one(fleet: GceFleet) -> None:
    """Look at the pool as a tick does, and find nothing."""
    assert fleet.instances(POOL) == []
    assert fleet.problems(POOL, LONG_AGO) == []


@pytest.mark.parametrize(
    ("group", "looks"),
    [
        (a_group(), 0),
        (a_group(size=1, creating=1), 2),
        (a_group(deleting=1), 2),
        (a_group(none=1), 2),
    ],
)
def test_a_pool_that_stays_empty_is_listed_and_costs_no_calls_of_its_own(
    group: dict[str, Any], looks: int
) -> None:
    answer: dict[str, Any] = {"items": listing(group)}
    with recorded(answer) as (url, calls):
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        assert fleet.pools() == [POOL]
        calls.clear()
        assert fleet.pools() == [POOL]
        assert len(calls) == 1
        answer.clear()
        look_into_one(fleet)
        assert len(calls) == 1 + looks


def test_a_pool_that_has_just_become_empty_is_looked_into_once_more() -> None:
    answer: dict[str, Any] = {"items": listing(a_group(size=1, creating=1))}
    with recorded(answer) as (url, calls):
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        fleet.pools()
        for looks in (2, 0):
            answer["items"] = listing(a_group())
            fleet.pools()
            calls.clear()
            answer.clear()
            look_into_one(fleet)
            assert len(calls) == looks


def test_a_pool_that_was_empty_shows_what_it_was_grown_by(tmp_path: Path) -> None:
    with stand_in("compute", "--data", tmp_path, "--nomad", nobody(), "--boot-s", "0") as url:
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        fleet.grow(POOL, ["baton-1-a"])
        fleet.retire(POOL, ["baton-1-a"])
        until(lambda: fleet.instances(POOL), holds=lambda found: not found)
        for _ in range(2):
            assert fleet.pools() == [POOL]
            look_into_one(fleet)
        fleet.grow(POOL, ["baton-2-a"])
        assert [each.name for each in fleet.instances(POOL)] == ["baton-2-a"]


def test_a_zone_that_cannot_be_listed_keeps_the_pools_it_had() -> None:
    answer: dict[str, Any] = {"items": listing(a_group(size=1, none=1))}
    with recorded(answer) as (url, _):
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        fleet.pools()
        answer["items"] = out_of_reach("us-central1-a")
        assert fleet.pools() == [POOL]
        assert fleet.pools() == [POOL]
        answer["items"] = {}
        assert fleet.pools() == []


def test_a_zone_of_which_nobody_knows_what_it_has_is_an_error_where_it_is_ours() -> None:
    answer: dict[str, Any] = {"items": out_of_reach("us-central1-a")}
    with recorded(answer) as (url, _):
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        with pytest.raises(Unreachable, match="us-central1-a"):
            fleet.pools()
        answer["items"] = out_of_reach("europe-west1-b")
        assert fleet.pools() == []


def test_an_operation_that_takes_too_long_is_an_error_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = ("--boot-s", "0", "--operation-s", "1")
    with stand_in("compute", "--data", tmp_path, "--nomad", nobody(), *pace) as url:
        fleet = GceFleet(ORCHESTRATOR, endpoint=url)
        fleet.grow(POOL, ["baton-1-a"])
        monkeypatch.setattr(gce, "WAIT_TIMEOUT_S", 0.1)
        with pytest.raises(CloudError, match="createInstances still works after") as caught:
            fleet.grow(POOL, ["baton-1-b"])
        assert type(caught.value) is CloudError
        found = until(lambda: fleet.instances(POOL), holds=lambda found: len(found) == 2)
        assert {each.name for each in found} == {"baton-1-a", "baton-1-b"}
