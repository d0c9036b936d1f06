"""choose(): which orchestrator a job runs on, and what it waits for when there is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.core.placement import GIB, WEIGHTS, Choice, choose, home_for
from shared.models.account import Provider
from shared.models.farm import Breaker, Orchestrator, PoolKey, Shape
from shared.models.job import Job
from shared.models.task import WaitingFor
from tests.builders import a_job

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SHAPE = Shape("n1-standard-4", True)


def an_orchestrator(id_: str, **fields: Any) -> Orchestrator:
    known = Orchestrator(
        orchestrator_id=id_,
        scheduler="nomad",
        scheduler_address="http://127.0.0.1:1",
        fleet="gce",
        project="p",
        region=id_,
        zones={f"{id_}-a": True, f"{id_}-b": True},
    )
    return replace(known, **fields)


def out_of_stock(*zones: str, reason: str = "stock_out", for_s: int = 60) -> tuple[Breaker, ...]:
    until = NOW + timedelta(seconds=for_s)
    return tuple(Breaker(pool=PoolKey(zone, *SHAPE), until=until, cause=reason) for zone in zones)


def chosen(
    *orchestrators: Orchestrator,
    prices: dict[PoolKey, int] | None = None,
    holds_data: dict[str, int] | None = None,
    data_bytes: int = 0,
) -> Choice:
    return choose(
        orchestrators,
        SHAPE,
        holds_data=holds_data or {},
        data_bytes=data_bytes,
        prices=prices or {},
        now=NOW,
    )


EAST, WEST = an_orchestrator("east"), an_orchestrator("west")


def test_equals_are_told_apart_by_name_so_that_the_choice_is_the_same_each_time() -> None:
    assert chosen(WEST, EAST).orchestrator_id == chosen(EAST, WEST).orchestrator_id == "east"


def test_the_cheaper_one_wins() -> None:
    prices = {PoolKey(f"east-{zone}", *SHAPE): 200 for zone in "ab"}
    assert chosen(EAST, WEST, prices=prices).orchestrator_id == "west"


def test_the_price_is_that_of_the_cheapest_zone_in_stock() -> None:
    prices = {
        PoolKey("east-a", *SHAPE): 9,
        PoolKey("east-b", *SHAPE): 999,
        PoolKey("west-a", *SHAPE): 500,
        PoolKey("west-b", *SHAPE): 500,
    }
    east = replace(EAST, breakers=out_of_stock("east-a"))
    choice = chosen(east, replace(WEST, breakers=out_of_stock("west-b")), prices=prices)
    assert choice.scores["east"]["price"] == 999 * WEIGHTS.expected_minutes
    assert choice.orchestrator_id == "west"


def test_the_one_that_has_the_data_wins_unless_it_is_much_dearer() -> None:
    holds = {"west": 50 * GIB}
    choice = chosen(EAST, WEST, holds_data=holds, data_bytes=50 * GIB)
    assert choice.orchestrator_id == "west"
    assert choice.scores["east"]["data"] == 50 * WEIGHTS.transfer_micros_per_gib
    dear = {PoolKey(f"west-{zone}", *SHAPE): 1_000_000 for zone in "ab"}
    dearer = chosen(EAST, WEST, holds_data=holds, data_bytes=50 * GIB, prices=dear)
    assert dearer.orchestrator_id == "east"


def test_more_data_than_the_job_needs_is_no_advantage() -> None:
    choice = chosen(EAST, WEST, holds_data={"east": 1, "west": 9 * GIB}, data_bytes=1)
    assert choice.scores["east"]["data"] == choice.scores["west"]["data"] == 0


def test_the_one_with_more_zones_in_stock_wins() -> None:
    assert chosen(replace(EAST, breakers=out_of_stock("east-a")), WEST).orchestrator_id == "west"


def test_a_pool_that_is_half_open_takes_a_job_but_one_that_is_well_takes_it_first() -> None:
    east = replace(EAST, breakers=out_of_stock("east-a", "east-b", for_s=0))
    assert chosen(east).orchestrator_id == "east"
    assert chosen(east, WEST).orchestrator_id == "west"
    closed = tuple(replace(each, closed_at=NOW) for each in east.breakers)
    assert chosen(replace(east, breakers=closed), WEST).orchestrator_id == "east"


def test_an_operator_overrules_what_a_breaker_says_of_a_pool() -> None:
    pools = [PoolKey(f"east-{zone}", *SHAPE).pool_id for zone in "ab"]
    east = replace(EAST, breakers=out_of_stock("east-a", "east-b"))
    assert chosen(replace(east, pool_switches={pools[0]: True})).orchestrator_id == "east"
    off = chosen(replace(EAST, pool_switches=dict.fromkeys(pools, False)))
    assert off.waiting_for is WaitingFor.ZONE_OFF


# A job's home


def home(job: Job, *orchestrators: Orchestrator, store_region: str = "") -> Choice:
    return home_for(job, orchestrators, store_region=store_region, now=NOW)


def wanting(**fields: Any) -> Job:
    shape = {"instance_type": SHAPE.instance_type, "is_preemptible": SHAPE.is_preemptible}
    return a_job(**shape | {"price_micros_per_minute": 1000} | fields)


def test_a_job_goes_only_where_machines_of_its_provider_and_operating_system_are() -> None:
    amazon = replace(EAST, fleet="ec2")
    batch = replace(EAST, fleet="managed", scheduler="batch")
    assert home(wanting(), amazon, batch).waiting_for is WaitingFor.ZONE_OFF
    for there in (amazon, batch):
        assert home(wanting(provider=Provider.AWS), WEST, there).orchestrator_id == "east"
    assert home(wanting(operating_system="windows"), EAST).orchestrator_id is None


def test_a_job_goes_where_its_minutes_cost_least() -> None:
    east = replace(EAST, price_percents={"east-a": 120, "east-b": 95})
    choice = home(wanting(), east, replace(WEST, price_percents={"west-a": 90}))
    assert choice.orchestrator_id == "west"
    assert choice.scores["east"]["price"] == 950 * WEIGHTS.expected_minutes
    assert choice.weights == WEIGHTS


def test_a_job_with_much_data_stays_in_the_region_of_the_store() -> None:
    heavy = wanting(input_bytes=500 * GIB)
    assert home(heavy, EAST, WEST, store_region="west").orchestrator_id == "west"
    choice = home(heavy, EAST, WEST)
    assert choice.orchestrator_id == "east"  # nobody said where the store is
    assert choice.scores["west"]["data"] == 0


@pytest.mark.parametrize(
    ("fields", "waiting_for"),
    [
        ({"is_enabled": False}, WaitingFor.ZONE_OFF),
        ({"zones": {"east-a": False}}, WaitingFor.ZONE_OFF),
        ({"zones": {}}, WaitingFor.ZONE_OFF),
        ({"instance_types": ("n1-standard-8",)}, WaitingFor.ZONE_OFF),
        ({"breakers": out_of_stock("east-a", "east-b")}, WaitingFor.STOCK_OUT),
        ({"breakers": out_of_stock("east-a", "east-b", reason="quota")}, WaitingFor.QUOTA),
    ],
)
def test_one_that_cannot_run_it_is_passed_over_and_alone_gives_the_reason(
    fields: dict[str, object], waiting_for: WaitingFor
) -> None:
    unfit = an_orchestrator("east", **fields)
    assert chosen(unfit, WEST).orchestrator_id == "west"
    alone = chosen(unfit)
    assert alone.orchestrator_id is None
    assert alone.waiting_for is waiting_for
    assert alone.note


def test_with_no_orchestrator_at_all_a_job_waits() -> None:
    assert chosen().waiting_for is WaitingFor.ZONE_OFF
