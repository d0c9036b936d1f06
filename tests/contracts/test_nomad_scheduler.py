"""What only the driver of Nomad has to get right."""

import json
import tracemalloc
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from shared.core.recovery import usable_mib
from shared.models.farm import Stage
from shared.models.job import AttemptRef
from shared.orchestrators.nomad import NomadScheduler, job_of
from shared.ports import SubmittedAttempt
from tests.builders import a_machine
from tests.contracts.stand_ins import SHAPE, nobody


def memory_of(machine_gib: float) -> dict[str, int]:
    """Return what an attempt on a machine asks for."""
    machine = a_machine(machine_gib)
    attempt = SubmittedAttempt(
        ref=AttemptRef("acme", "00001", "0", 1),
        shape=SHAPE,
        zones=("z-a",),
        cores=4,
        memory_mib=usable_mib(machine),
        priority=5,
        environment={},
    )
    (group,) = job_of(attempt, "o1")["TaskGroups"]
    found: dict[str, int] = group["Tasks"][0]["Resources"]
    return found


@pytest.mark.parametrize(
    ("machine_gib", "registered_mib"), [(1, 940), (4, 3_736), (8, 7_690), (16, 15_580)]
)
def test_an_attempt_fits_what_its_machine_registers_and_may_use_what_it_is_given(
    machine_gib: int, registered_mib: int
) -> None:
    asked = memory_of(machine_gib)
    assert 0.89 * machine_gib * 1024 <= asked["MemoryMB"] + 1
    assert asked["MemoryMB"] < registered_mib
    assert asked["MemoryMaxMB"] == machine_gib * 1024 * 15 // 16


def test_attempts_that_ended_are_not_all_held_with_everything_that_happened_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, filler = 200, "x" * 20_000

    def page(_: object, __: str, url: str, **___: object) -> SimpleNamespace:
        index = int(parse_qs(urlsplit(url).query).get("next_token", ["0"])[0])
        item = a_job(index, filler) if "/v1/jobs" in url else an_alloc(index, filler)
        more = {"X-Nomad-Nexttoken": str(index + 1)} if index + 1 < count else {}
        return SimpleNamespace(status=200, headers=more, data=json.dumps([item]).encode())

    monkeypatch.setattr(urllib3.PoolManager, "request", page)
    scheduler = NomadScheduler(nobody(), token="", orchestrator_id="o1")
    tracemalloc.start()
    try:
        found = scheduler.placements()
        assert tracemalloc.get_traced_memory()[1] < 2 * count * len(filler) / 4
    finally:
        tracemalloc.stop()
    assert {each.stage for each in found} == {Stage.ENDED}
    assert len(found) == count


def test_another_orchestrators_attempt_that_runs_on_the_same_cluster_is_not_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(_: object, __: str, url: str, **___: object) -> SimpleNamespace:
        found = a_job(1, "") if "/v1/jobs" in url else an_alloc(1, "") | {"ClientStatus": "running"}
        return SimpleNamespace(status=200, headers={}, data=json.dumps([found]).encode())

    monkeypatch.setattr(urllib3.PoolManager, "request", answer)
    mine, other = (NomadScheduler(nobody(), token="", orchestrator_id=o) for o in ("o1", "o2"))
    assert [each.stage for each in mine.placements()] == [Stage.STARTED]
    assert other.placements() == []


def a_job(index: int, filler: str) -> dict[str, Any]:
    meta = {"orchestrator": "o1", "instance_type": "n1-standard-4", "preemptible": "true"}
    return {
        "ID": f"acme-00001-{index}-1",
        "Meta": meta,
        "Status": "dead",
        "SubmitTime": 1_795_000_000_000_000_000,
        "JobSummary": filler,
    }


def an_alloc(index: int, filler: str) -> dict[str, Any]:
    times = {"StartedAt": "2026-11-20T10:00:00Z", "FinishedAt": "2026-11-20T10:05:00Z"}
    return {
        "JobID": f"acme-00001-{index}-1",
        "CreateIndex": index,
        "TaskGroup": "baton.n1-standard-4.preemptible",
        "ClientStatus": "complete",
        "NodeName": "i-1",
        "ModifyTime": 1_795_000_000_000_000_000,
        "TaskStates": {"agent": {**times, "Events": [{"Type": "Started", "Message": filler}]}},
    }
