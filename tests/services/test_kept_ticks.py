"""Ticks are kept in object storage for 14 days, and can be planned again."""

import json
import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from shared import wiring
from shared.core.replay import PlanInputs, PlannedTick
from shared.errors import Conflict, NotFound
from shared.ports import Blobs
from shared.services.kept_ticks import forget_ticks, keep_tick, kept_ticks
from shared.services.replay import replay
from tests.core.farm import A, B, S, an_instance, an_orchestrator, wants
from tests.services.farm import Farm

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def blobs(farm: Farm) -> Blobs:
    """The farm's storage, with no tick in it."""
    found = farm.ports.blobs
    for name in found.names("ticks/"):
        found.delete(name)
    return found


def a_tick(at: datetime = NOON, orchestrator_id: str = "o1", waiting: int = 3) -> PlannedTick:
    orchestrator = an_orchestrator(orchestrator_id=orchestrator_id)
    inputs = PlanInputs(orchestrator=orchestrator, now=at, backlog=(wants(waiting),))
    return PlannedTick(inputs=inputs, decisions=inputs.plan(lambda: "new"), plan_ms=0.1)


def test_a_day_is_read_as_it_was_kept_by_orchestrator_and_time(blobs: Blobs) -> None:
    late, early = a_tick(NOON), a_tick(NOON - timedelta(hours=11, microseconds=1))
    other = a_tick(NOON, "another")
    for each in (late, early, other, a_tick(NOON + timedelta(days=1)), a_tick(NOON, "o12")):
        keep_tick(each, blobs)
    assert list(kept_ticks(DAY, "o1", blobs)) == [early, late]
    assert [each.inputs.orchestrator.orchestrator_id for each in kept_ticks(DAY, "", blobs)] == [
        *("another", "o1", "o1", "o12")
    ]
    assert next(blobs.names("ticks/")) == "ticks/2026-11-20/another/120000.000000.json.gz"


def test_a_round_that_saw_nothing_is_not_kept(blobs: Blobs) -> None:
    inputs = PlanInputs(orchestrator=an_orchestrator(), now=NOON)
    keep_tick(PlannedTick(inputs=inputs, decisions=(), plan_ms=0.1), blobs)
    assert list(blobs.names("ticks/")) == []
    idle = replace(inputs, instances=(an_instance("i1", S.BUSY),))
    keep_tick(PlannedTick(inputs=idle, decisions=(), plan_ms=0.1), blobs)
    assert len(list(blobs.names("ticks/"))) == 1


def test_trouble_with_keeping_is_logged_and_stops_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BATON_BUCKET", "no-such-bucket")
    wiring.blobs.cache_clear()
    wiring._gcs.cache_clear()
    try:
        with caplog.at_level(logging.ERROR, "baton"):
            keep_tick(a_tick(), wiring.blobs())
    finally:
        wiring.blobs.cache_clear()
        wiring._gcs.cache_clear()
    line = json.loads(caplog.messages[-1])
    assert (line["event"], line["orchestrator_id"]) == ("tick not kept", "o1")
    assert line["reason"].startswith("NotFound: gcs: write ticks/2026-11-20/o1/")


def test_what_is_older_than_14_days_is_forgotten_whosever_it_is(blobs: Blobs) -> None:
    ages = (400, 15, 15, 14, 13, 0)
    for number, age in enumerate(ages):
        keep_tick(a_tick(NOON - timedelta(days=age), f"o{number}"), blobs)
    blobs.write("accounts/otter/old", b"x", "text/plain")
    assert forget_ticks(NOON, blobs) == 3
    days = [name.split("/")[1] for name in blobs.names("ticks/")]
    assert days == ["2026-11-06", "2026-11-07", "2026-11-20"]
    assert forget_ticks(NOON, blobs) == 0
    assert blobs.read("accounts/otter/old") == b"x"


def test_decisions_are_deleted_when_they_say_that_they_expire() -> None:
    overrides = json.loads((ROOT / "firestore.indexes.json").read_text())["fieldOverrides"]
    with_ttl = [each["collectionGroup"] for each in overrides if each.get("ttl")]
    assert "decisions" in with_ttl


def test_a_day_is_replayed_tick_by_tick_and_summed_by_pool(blobs: Blobs) -> None:
    for minute, waiting in enumerate((3, 1, 4)):
        keep_tick(a_tick(NOON + timedelta(minutes=minute), waiting=waiting), blobs)
    same = replay(DAY, {}, "o1", blobs)
    assert (same.ticks, same.differences) == ({"o1": 3}, [])
    other = replay(DAY, {"zones": {"z-a": True}, "max_grow_per_tick": 2}, "", blobs)
    sums = other.pools["o1", A]
    assert sums.tick_count == 3
    assert sums.now["grow"] == 2 + 1 + 2
    assert sum(each.then["grow"] for each in other.pools.values()) == 3 + 1 + 4
    differ = [(each.at.minute, each.compared.pool) for each in other.differences]
    assert differ == [(0, B), (2, B)]


def test_a_day_of_which_nothing_is_kept_is_not_found(blobs: Blobs) -> None:
    keep_tick(a_tick(), blobs)
    with pytest.raises(NotFound, match="no tick of 2026-11-20 of orchestrator mars is kept"):
        replay(DAY, {}, "mars", blobs)


def test_a_tick_of_another_form_stops_the_replay(blobs: Blobs) -> None:
    keep_tick(a_tick(), blobs)
    name = "ticks/2026-11-20/o1/235959.000000.json.gz"
    blobs.write(name, b"{}", "application/gzip")
    with pytest.raises(Conflict, match=name):
        replay(DAY, {}, "", blobs)
