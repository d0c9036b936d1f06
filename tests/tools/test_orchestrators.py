"""Orchestrators, their zones and pools, and why a pool is as large as it is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import wiring
from shared.models.account import Provider
from shared.models.farm import (
    Breaker,
    Decision,
    InstanceStatus,
    PoolKey,
    ProblemCode,
    Strike,
)
from tests.services.farm import Farm
from tests.tools.commands import refused, run, told

ROOT = Path(__file__).parents[2]
POOL = PoolKey("us-central1-a", "cpu-4-16", True)
EAST: dict[str, Any] = {
    "orchestrator_id": "nomad-east",
    "scheduler": "nomad",
    "scheduler_address": "http://127.0.0.1:4646",
    "fleet": "gce",
    "project": "render",
    "region": "us-east1",
    "zones": {"us-east1-b": True, "us-east1-c": False},
}


def described(folder: Path, **changed: Any) -> Path:
    path = folder / "orchestrator.yaml"
    path.write_text(yaml.safe_dump(EAST | changed))
    return path


def learn(orchestrator_id: str, pool: PoolKey = POOL) -> Breaker:
    """Have an orchestrator learn of a stock-out, and of a machine that failed."""
    store, now = wiring.orchestrator_store(), wiring.now()
    opened = Breaker(pool=pool, until=now + timedelta(minutes=5), cause=ProblemCode.STOCK_OUT)
    failed = Strike(
        pool=pool, cause=ProblemCode.DEAD_BOOTS, instance="baton-1", created_at=now, at=now
    )
    store.change_orchestrator(
        orchestrator_id, lambda known: replace(known, breakers=(opened,), strikes=(failed,))
    )
    return opened


def decide(farm: Farm, *reasons: str, grow: tuple[str, ...] = ("baton-1",)) -> None:
    """Have decisions taken for the pool, a minute apart, the last one now."""
    for ago, reason in reversed(list(enumerate(reversed(reasons)))):
        wiring.orchestrator_store().save_decisions(
            farm.account_id,
            [Decision(pool=POOL, grow=grow, reason=reason, facts={"waiting": 3})],
            {POOL: {"booting": 2, "idle": 1}},
            wiring.now() - timedelta(minutes=ago),
        )


def test_an_orchestrator_is_created_once(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    said = refused("orchestrator", "create", described(tmp_path, zones={"us-east1-d": True}))
    assert "exists already" in said
    assert told("orchestrator", "show", "nomad-east")["zones"] == EAST["zones"]
    listed = told("orchestrator", "list")["orchestrators"]
    assert [each["orchestrator_id"] for each in listed] == ["nomad-east", farm.account_id]


def test_a_zone_goes_off_and_on_and_the_next_tick_is_at_once(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    (changed,) = told("orchestrator", "off", "nomad-east", "--zone", "us-east1-b", "--yes")[
        "orchestrators"
    ]
    assert changed["zones"] == {"us-east1-b": False, "us-east1-c": False}
    assert wiring.orchestrator_store().orchestrator("nomad-east").enabled_zones == []
    told("orchestrator", "on", "nomad-east", "--zone", "us-east1-b", "--zone", "us-east1-c")
    zones = wiring.orchestrator_store().orchestrator("nomad-east").enabled_zones
    assert zones == ["us-east1-b", "us-east1-c"]
    farm.inbox.take("nobody", "scale")
    ticks = [each for topic, each in farm.inbox.pending if topic == "scale"]
    assert ticks[-2:] == [{"orchestrator_id": "nomad-east"}] * 2


def test_an_orchestrator_goes_off_whole_and_its_zones_stay_as_they_are(
    farm: Farm, tmp_path: Path
) -> None:
    told("orchestrator", "create", described(tmp_path))
    told("orchestrator", "off", "nomad-east", "--yes")
    found = told("orchestrator", "show", "nomad-east")
    assert (found["is_enabled"], found["zones"]) == (False, EAST["zones"])
    told("orchestrator", "on", "nomad-east")
    assert told("orchestrator", "show", "nomad-east")["is_enabled"] is True


def test_a_region_has_a_switch_of_its_own(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    told("orchestrator", "create", described(tmp_path, orchestrator_id="nomad-east-2"))
    told("orchestrator", "off", "nomad-east-2", "--yes")
    told("orchestrator", "off", "us-east1", "--region", "--yes")
    told("orchestrator", "create", described(tmp_path, orchestrator_id="nomad-east-3"))
    store = wiring.orchestrator_store()
    assert sorted(each.orchestrator_id for each in store.orchestrators() if each.enabled_zones) == [
        farm.account_id
    ]
    told("orchestrator", "edit", "nomad-east-3", "--set", "region=us-east4")
    assert store.orchestrator("nomad-east-3").enabled_zones == ["us-east1-b"]
    told("orchestrator", "edit", "nomad-east-3", "--set", "region=us-east1")
    told("orchestrator", "on", "us-east1", "--region")
    switches = {
        each["orchestrator_id"]: (each["is_enabled"], each["is_region_enabled"])
        for each in told("orchestrator", "list")["orchestrators"]
    }
    assert switches == {
        "nomad-east": (True, True),
        "nomad-east-2": (False, True),  # it was off by itself
        "nomad-east-3": (True, True),
        farm.account_id: (True, True),
    }
    said = refused("orchestrator", "off", "mars-1", "--region", "--yes")
    assert said == "Error: there is no orchestrator in region mars-1\n"


def test_what_operators_switched_survives_that_its_file_is_stored_again(
    farm: Farm, tmp_path: Path
) -> None:
    told("orchestrator", "create", described(tmp_path))
    told("orchestrator", "off", "nomad-east", "--yes")
    told("orchestrator", "off", "nomad-east", "--zone", "us-east1-b", "--yes")
    zones = EAST["zones"] | {"us-east1-d": True}
    told("orchestrator", "save", described(tmp_path, zones=zones))
    stored = wiring.orchestrator_store().orchestrator("nomad-east")
    assert stored.is_enabled is False
    assert stored.zones == {"us-east1-b": False, "us-east1-c": False, "us-east1-d": True}
    told("orchestrator", "save", described(tmp_path, is_enabled=True, zones={"us-east1-d": False}))
    stored = wiring.orchestrator_store().orchestrator("nomad-east")
    assert (stored.is_enabled, stored.zones) == (True, {"us-east1-d": True})


def test_whose_machines_it_has_is_shown_and_kept_where_the_file_says_it(
    farm: Farm, tmp_path: Path
) -> None:
    told("orchestrator", "create", described(tmp_path))
    assert told("orchestrator", "show", "nomad-east")["provider"] == "gcp"
    words = ("--set", "scheduler=kubernetes", "--set", "fleet=managed", "--set", "provider=aws")
    told("orchestrator", "edit", "nomad-east", *words)
    told("orchestrator", "edit", "nomad-east", "--set", "boot_s=90")
    assert told("orchestrator", "show", "nomad-east")["provider"] == "aws"
    assert wiring.orchestrator_store().orchestrator("nomad-east").provider is Provider.AWS


def test_what_was_learnt_of_breakers_survives_every_change(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    learnt = learn("nomad-east")
    told("orchestrator", "save", described(tmp_path, boot_s=90))
    told("orchestrator", "edit", "nomad-east", "--set", "max_instances=7")
    told("orchestrator", "off", "nomad-east", "--yes")
    stored = wiring.orchestrator_store().orchestrator("nomad-east")
    assert (stored.boot_s, stored.max_instances, stored.breakers) == (90, 7, (learnt,))
    shown = told("orchestrator", "show", "nomad-east")
    (breaker,), (strike,) = shown["breakers"], shown["strikes"]
    assert [breaker[name] for name in ("pool", "state", "cause")] == [
        POOL.pool_id,
        "open",
        "stock_out",
    ]
    assert (strike["instance"], strike["cause"]) == ("baton-1", "dead_boots")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("max_instances=many", "max_instances"),
        ("idle_s=-1", "idle_s"),
        ("spare_percent=101", "spare_percent"),
        ("max_per_type={cpu-2-8: -1}", "max_per_type"),
        ("min_sizes={anywhere: 1}", "min_sizes"),
        ("price_percents={us-east1-b: 0}", "price_percents"),
        ("operating_system=windows", "operating_system"),
        ("pool_switches={'us-east1-b:cpu-4-16:p': true}", "pool_switches"),
        ("is_region_enabled=true", "is_region_enabled"),
        ("boots=1", "boots"),
        ("zones={}", "zones"),
        ("instance_types=[cpu-1000]", "instance_types"),
        ("orchestrator_id=other", "orchestrator_id"),
        ("zones={", "zones"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_by_the_field(
    farm: Farm, tmp_path: Path, change: str, field: str
) -> None:
    told("orchestrator", "create", described(tmp_path))
    before = told("orchestrator", "show", "nomad-east")
    assert f"Error: {field}" in refused("orchestrator", "edit", "nomad-east", "--set", change)
    assert told("orchestrator", "show", "nomad-east") == before


def test_quotas_minimum_sizes_and_spares_are_kept_as_they_are_said(
    farm: Farm, tmp_path: Path
) -> None:
    told("orchestrator", "create", described(tmp_path))
    told(
        *("orchestrator", "edit", "nomad-east", "--set", "idle_s=0", "--set", "spare_percent=0"),
        *("--set", "max_per_type={cpu-2-8: 40}", "--set", f"min_sizes={{'{POOL.pool_id}': 2}}"),
    )
    stored = farm.ports.orchestrators.orchestrator("nomad-east")
    assert (stored.idle_s, stored.spare_percent) == (0, 0)
    assert stored.max_per_type == {"cpu-2-8": 40}
    assert stored.min_sizes == {POOL.pool_id: 2}


def test_switching_off_asks_first(farm: Farm) -> None:
    assert run("orchestrator", "off", farm.account_id, says="n\n").exit_code == 1
    assert told("orchestrator", "show", farm.account_id)["is_enabled"] is True


def test_pools_are_listed_with_the_last_decision_and_its_reason(farm: Farm) -> None:
    decide(farm, "too few", "still too few")
    (listed,) = told("pool", "list")["pools"]
    assert listed["orchestrator_id"] == farm.account_id
    assert (listed["size"], listed["booting"], listed["idle"], listed["busy"]) == (3, 2, 1, 0)
    assert (listed["decision"], listed["reason"]) == ("grow 1", "still too few")
    assert told("pool", "list", "--orchestrator", farm.account_id)["pools"] == [listed]
    assert told("pool", "show", POOL.pool_id) == listed


def test_a_pool_says_whether_its_breaker_is_open_and_its_switch_stands_above_it(
    farm: Farm,
) -> None:
    farm.save_orchestrator(zones={POOL.zone: True})
    decide(farm, "too few")
    opened = learn(farm.account_id)
    shown = told("pool", "show", POOL.pool_id)
    assert (shown["breaker"], shown["breaker_cause"], shown["switch"]) == (
        "open",
        "stock_out",
        "auto",
    )
    assert shown["breaker_until_at"].startswith(f"{opened.until:%Y-%m-%dT%H:%M:%S}")
    for position, said in (("on", True), ("off", False)):
        words = ("pool", "switch", POOL.pool_id, position, "--orchestrator", farm.account_id)
        assert told(*words)["pool_switches"] == {POOL.pool_id: said}
        assert told("pool", "show", POOL.pool_id)["switch"] == position
    assert wiring.orchestrator_store().orchestrator(farm.account_id).breakers == (opened,)
    told("pool", "switch", POOL.pool_id, "auto", "--orchestrator", farm.account_id)
    assert told("orchestrator", "show", farm.account_id)["pool_switches"] == {}
    farm.inbox.take("nobody", "scale")
    ticks = [each for topic, each in farm.inbox.pending if topic == "scale"]
    assert ticks[-1] == {"orchestrator_id": farm.account_id}


def test_a_pool_that_has_no_machines_yet_can_be_switched(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    pool_id = "us-east1-c:cpu-4-16:s"
    assert told("pool", "switch", pool_id, "off") == {
        "orchestrator_id": "nomad-east",
        "pool_switches": {pool_id: False},
    }
    told("orchestrator", "save", described(tmp_path, boot_s=90))
    stored = wiring.orchestrator_store().orchestrator("nomad-east")
    assert stored.pool_switches == {pool_id: False}
    told("orchestrator", "create", described(tmp_path, orchestrator_id="nomad-east-2"))
    assert "several orchestrators" in refused("pool", "switch", pool_id, "on")
    assert "there is no pool" in refused("pool", "switch", "mars-a:cpu-4-16:s", "off")


def test_a_later_tick_without_a_decision_leaves_the_last_one_in_sight(farm: Farm) -> None:
    decide(farm, "too few")
    counts = dict.fromkeys(map(str, InstanceStatus), 0) | {"busy": 5}
    wiring.orchestrator_store().save_decisions(farm.account_id, [], {POOL: counts}, wiring.now())
    (listed,) = told("pool", "list")["pools"]
    assert (listed["size"], listed["busy"], listed["reason"]) == (5, 5, "too few")


def test_every_decision_for_a_pool_is_explained_newest_first(farm: Farm) -> None:
    decide(farm, "first", "second", "third")
    other = POOL._replace(is_preemptible=False)
    wiring.orchestrator_store().save_decisions(
        farm.account_id, [Decision(pool=other, reason="another pool")], {}, wiring.now()
    )
    found = told("autoscale", "explain", POOL.pool_id, "--limit", "2")["decisions"]
    assert [each["reason"] for each in found] == ["third", "second"]
    assert (found[0]["does"], found[0]["facts"]) == ("grow 1", {"waiting": 3})


def test_a_pool_of_two_orchestrators_has_to_be_told_apart(farm: Farm, tmp_path: Path) -> None:
    told("orchestrator", "create", described(tmp_path))
    decide(farm, "too few")
    wiring.orchestrator_store().save_decisions("nomad-east", [], {POOL: {}}, wiring.now())
    assert "several orchestrators" in refused("autoscale", "explain", POOL.pool_id)
    words = ("autoscale", "explain", POOL.pool_id, "--orchestrator", "nomad-east")
    assert told(*words)["decisions"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("orchestrator", "show", "mars"), "there is no orchestrator mars"),
        (("orchestrator", "on", "mars"), "there is no orchestrator mars"),
        (("orchestrator", "edit", "mars", "--set", "boot_s=1"), "there is no orchestrator mars"),
        (("pool", "list", "--orchestrator", "mars"), "there is no orchestrator mars"),
        (("pool", "show", POOL.pool_id), f"there is no pool {POOL.pool_id}"),
        (("pool", "show", "mars"), "pool: must be ZONE:INSTANCE_TYPE:p or ZONE:INSTANCE_TYPE:s"),
        (("autoscale", "explain", "a:b:x"), "pool: must be ZONE:INSTANCE_TYPE:p or "),
    ],
    ids=lambda words: "-".join(words)[:30] if isinstance(words, tuple) else "",
)
def test_what_does_not_exist_is_told_in_a_sentence(
    farm: Farm, words: tuple[str, ...], sentence: str
) -> None:
    assert refused(*words).startswith(f"Error: {sentence}")


def test_a_zone_that_does_not_exist_is_told_in_a_sentence(farm: Farm) -> None:
    said = refused("orchestrator", "on", farm.account_id, "--zone", "mars-a")
    assert said == f"Error: orchestrator {farm.account_id} has no zone mars-a\n"


def test_the_catalogue_is_compared_loaded_and_shown(farm: Farm, tmp_path: Path) -> None:
    told("catalog", "load", ROOT / "catalog")
    packages = yaml.safe_load((ROOT / "catalog" / "packages.yaml").read_text())
    types = yaml.safe_load((ROOT / "catalog" / "instance_types.yaml").read_text())
    gone = types.pop()
    types[0]["price_micros_per_minute"] += 1
    (tmp_path / "packages.yaml").write_text(yaml.safe_dump(packages))
    (tmp_path / "instance_types.yaml").write_text(yaml.safe_dump(types))
    price = types[0]["price_micros_per_minute"]
    expected = {
        "added": [],
        "removed": [f"instance_types.{gone['name']}"],
        "changed": [
            {
                "entry": f"instance_types.{types[0]['name']}",
                "field": "price_micros_per_minute",
                "before": price - 1,
                "after": price,
            }
        ],
    }
    assert told("catalog", "diff", tmp_path) == expected
    assert told("catalog", "diff", ROOT / "catalog")["changed"] == []
    loaded = told("catalog", "load", tmp_path)
    assert {name: loaded[name] for name in expected} == expected
    shown = told("catalog", "show")
    assert {each["name"] for each in shown["instance_types"]} == {each["name"] for each in types}
    assert len(shown["packages"]) == len(packages)
    assert told("catalog", "show", "--instance-type", types[0]["name"])["cores"] >= 1
    package_id = packages[0]["package_id"]
    assert told("catalog", "show", "--package", package_id)["package_id"] == package_id
    assert refused("catalog", "show", "--package", "mars") == "Error: there is no package mars\n"


def test_a_folder_that_holds_no_catalogue_is_refused_by_the_file(
    farm: Farm, tmp_path: Path
) -> None:
    assert "instance_types.yaml" in refused("catalog", "diff", tmp_path)
    (tmp_path / "instance_types.yaml").write_text("[")
    assert "instance_types.yaml: is no YAML" in refused("catalog", "load", tmp_path)
