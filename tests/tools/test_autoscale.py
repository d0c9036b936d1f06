"""What was decided for pools, how long that took, and what another policy would have decided."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import wiring
from shared.core.replay import PlanInputs, PlannedTick
from shared.models.farm import Decision, PoolKey, Took
from shared.services.kept_ticks import keep_tick
from tests.core.farm import A, S, an_instance, an_orchestrator, wants
from tests.services.farm import Farm
from tests.tools.commands import refused, run, told

POOL = PoolKey("us-central1-a", "cpu-4-16", True)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = "2026-11-20"


@pytest.fixture
def kept(farm: Farm) -> Farm:
    """A farm of which three minutes are kept: 3 wait, then nothing waits beside an idle one, then 1 waits."""
    blobs = wiring.blobs()
    for name in blobs.names("ticks/"):
        blobs.delete(name)
    minutes: list[Mapping[str, Any]] = [
        {"backlog": (wants(3),)},
        {"instances": (an_instance("i1", S.IDLE),)},
        {"backlog": (wants(1),)},
    ]
    for number, seen in enumerate(minutes):
        orchestrator = an_orchestrator(zones={"z-a": True}, idle_s=60)
        at = NOON + timedelta(minutes=number)
        inputs = PlanInputs(orchestrator=orchestrator, now=at, **seen)
        decisions = inputs.plan(lambda: "new")
        keep_tick(PlannedTick(inputs=inputs, decisions=decisions, plan_ms=0.1), blobs)
    return farm


def a_policy(folder: Path, **fields: object) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def test_a_decision_is_explained_with_how_long_it_took(farm: Farm) -> None:
    store, now = wiring.orchestrator_store(), wiring.now()
    before = Decision(pool=POOL, grow=("a",), reason="kept before times were")
    store.save_decisions(farm.account_id, [before], {}, now - timedelta(minutes=1))
    decision = Decision(pool=POOL, grow=("b", "c"), reason="too few")
    store.save_decisions(farm.account_id, [decision], {}, now, Took(plan_ms=12.5, tick_s=1.25))
    last, first = told("autoscale", "explain", POOL.pool_id)["decisions"]
    assert (last["plan_ms"], last["tick_s"], last["does"]) == (12.5, 1.25, "grow 2")
    assert (first["plan_ms"], first["tick_s"]) == (None, None)


def test_a_day_through_the_same_policy_comes_to_the_same(kept: Farm, tmp_path: Path) -> None:
    found = told("autoscale", "replay", DAY, "--policy", a_policy(tmp_path))
    assert (found["tick_count"], found["difference_count"], found["differences"]) == (3, 0, [])
    assert (found["started_then"], found["started_now"]) == (4, 4)
    assert (found["drained_then"], found["drained_now"]) == (1, 1)
    assert (found["wished_then"], found["wished_now"]) == (1.3, 1.3)


def test_a_day_through_another_policy_is_told_by_pool_and_tick(kept: Farm, tmp_path: Path) -> None:
    policy = a_policy(tmp_path, max_grow_per_tick=2, idle_s=3600)
    found = told("autoscale", "replay", DAY, "--policy", policy, "--orchestrator", "o1")
    (pool,) = found["pools"]
    assert (pool["orchestrator_id"], pool["pool"], pool["tick_count"]) == ("o1", A.pool_id, 3)
    assert (pool["started_then"], pool["started_now"]) == (4, 3)
    assert (pool["drained_then"], pool["drained_now"]) == (1, 0)
    assert (pool["wished_then"], pool["wished_now"]) == (1.3, 1.3)
    grows, drains = found["differences"]
    assert (grows["at"], grows["then"], grows["now"]) == (NOON.isoformat(), "grow 3", "grow 2")
    assert grows["reason_now"].endswith("(2 of 3 within the caps)")
    assert (drains["then"], drains["now"], drains["reason_now"]) == ("drain 1", "nothing", "")
    assert "idle for 60 s" in drains["reason_then"]


def test_people_are_told_some_of_the_differences_and_scripts_all(
    kept: Farm, tmp_path: Path
) -> None:
    policy = a_policy(tmp_path, max_grow_per_tick=2, idle_s=3600)
    words = ("autoscale", "replay", DAY, "--policy", policy, "--limit", "1")
    said = run(*words).stdout
    assert "difference count: 2" in said
    assert "grow 3" in said
    assert "drain 1" not in said
    assert len(told(*words)["differences"]) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("idle: 5", "idle: Unknown field."),
        ("idle_s: soon", "idle_s: Not a valid integer."),
        ("region: us-east1", "region: is no part of a policy"),
        ("- idle_s", "file: must be a mapping of fields"),
        ("{", "file: is no YAML"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_the_field(
    kept: Farm, tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    assert f"Error: {sentence}" in refused("autoscale", "replay", DAY, "--policy", path)


def test_a_day_of_which_nothing_is_kept_is_told_in_a_sentence(kept: Farm, tmp_path: Path) -> None:
    said = refused("autoscale", "replay", "2026-11-19", "--policy", a_policy(tmp_path))
    assert said == "Error: no tick of 2026-11-19 is kept\n"
    assert "--policy" in refused("autoscale", "replay", DAY, code=2)
    refused("autoscale", "replay", "yesterday", "--policy", a_policy(tmp_path), code=2)
