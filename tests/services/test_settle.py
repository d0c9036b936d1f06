"""Settling: a job's sums and status, its end, and the scouts that gate the rest of it."""

from dataclasses import replace

import pytest

from shared import wiring
from shared.models.job import Command, JobRef, JobStatus
from shared.models.task import TaskStatus, WaitingFor
from shared.services.ask import ask_to_settle
from shared.services.control import order
from shared.services.settle import settle
from tests.services.farm import Farm

T = TaskStatus


def test_a_job_says_what_its_tasks_say(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    farm.run(ref)
    assert farm.agent(ref, "001").claim().status_code == 200
    farm.deliver()
    job = farm.job(ref)
    assert job.counts == {T.SUCCESS: 1, T.RUNNING: 1, T.PENDING: 2}
    assert (job.status, job.cost_micros, job.is_ended) == (JobStatus.RUNNING, 1500, False)
    assert job.started_at is not None


def test_a_job_runs_again_as_soon_as_one_of_its_tasks_does(farm: Farm) -> None:
    ref = farm.submit(2)
    first = farm.agent(ref, "000")
    assert first.claim().status_code == 200
    farm.deliver()
    assert first.finish("success").status_code == 200
    farm.push("settle", ref)
    assert farm.job(ref).status is JobStatus.PENDING
    ask_to_settle(ref, farm.ports, is_urgent=False)
    farm.published("settle")  # so that nothing more is asked for a second that is not urgent
    assert farm.agent(ref, "001").claim().status_code == 200
    farm.deliver()
    assert farm.job(ref).status is JobStatus.RUNNING


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["success", "success"], JobStatus.SUCCESS),
        (["success", "failed"], JobStatus.FAILED),
        (["success", "preempted"], JobStatus.PREEMPTED),
        (["preempted", "failed"], JobStatus.FAILED),
    ],
)
def test_a_job_ends_when_its_last_task_does(
    farm: Farm, outcomes: list[str], status: JobStatus
) -> None:
    ref = farm.submit(2)
    farm.published()
    farm.run(ref, "000", outcome=outcomes[0])
    farm.push("settle", ref)
    assert not farm.job(ref).is_ended
    farm.run(ref, "001", outcome=outcomes[1])
    farm.published()
    farm.push("settle", ref)
    job = farm.job(ref)
    assert (job.status, job.is_ended, job.waiting_for) == (status, True, None)
    assert farm.ports.admission.active_job_ids(farm.account_id) == []
    today = wiring.now().date().isoformat()
    assert farm.published("meter") == [("meter", {"account_id": farm.account_id, "date": today})]
    assert farm.findings(ref) == []


def test_a_tick_is_asked_for_when_some_have_ended_and_nothing_waits_any_more(farm: Farm) -> None:
    def asked() -> int:
        farm.published("scale")
        mine = [each for topic, each in farm.inbox.pending if topic == "scale"]
        return mine.count({"orchestrator_id": farm.account_id})

    farm.limit(2)
    ref = farm.submit(4)
    farm.run(ref, "000")
    before = asked()
    farm.push("settle", ref)
    assert asked() == before  # others wait for the machine
    farm.limit(4)
    farm.push("admit")
    agents = [farm.agent(ref, task_id) for task_id in ("001", "002", "003")]
    for agent in agents:
        assert agent.claim().status_code == 200
    farm.push("settle", ref)
    before, now = asked(), wiring.now()
    for agent in agents[:2]:
        assert agent.finish("success").status_code == 200
        settle(ref, replace(farm.ports, now=lambda: now))
    assert asked() == before + 1  # one for both: the second came at the same moment
    assert not farm.job(ref).is_ended


# Scouts


def scouting(farm: Farm) -> JobRef:
    """Return a job of five tasks of which two are scouts."""
    ref = farm.submit(5, scouts=[1, 3])
    farm.deliver()
    return ref


def test_the_other_tasks_start_when_all_scouts_have_succeeded(farm: Farm) -> None:
    ref = scouting(farm)
    assert farm.placed(ref) == ["001-1", "003-1"]
    farm.run(ref, "001")
    farm.deliver()
    assert farm.placed(ref) == ["003-1"]
    farm.run(ref, "003")
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "002-1", "004-1"]
    assert farm.job(ref).scouts_pending is False
    assert farm.findings(ref) == []


def test_a_scout_that_fails_keeps_the_others_back_until_it_succeeds(farm: Farm) -> None:
    ref = scouting(farm)
    farm.run(ref, "001")
    farm.run(ref, "003", outcome="failed")
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.HOLDING, WaitingFor.SCOUT)
    assert farm.placed(ref) == []
    assert farm.findings(ref) == []
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["003-2"]
    farm.run(ref, "003", 2)
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "002-1", "004-1"]


def test_a_person_may_let_the_others_go_before_the_scouts_have_succeeded(farm: Farm) -> None:
    ref = scouting(farm)
    order(ref, Command.UNHOLD, farm.ports)
    farm.deliver()
    assert len(farm.placed(ref)) == 5
    assert farm.findings(ref) == []


def test_a_job_that_somebody_holds_stays_held_when_its_scouts_succeed(farm: Farm) -> None:
    ref = scouting(farm)
    agents = [farm.agent(ref, task_id) for task_id in ("001", "003")]
    for agent in agents:
        assert agent.claim().status_code == 200
    order(ref, Command.HOLD, farm.ports)
    farm.deliver()
    for agent in agents:
        assert agent.finish().status_code == 200
    farm.deliver()
    assert farm.job(ref).status is JobStatus.HOLDING
    assert [farm.task(ref, each).status for each in ("000", "002", "004")] == [T.HOLDING] * 3
    assert farm.findings(ref) == []
    order(ref, Command.UNHOLD, farm.ports)
    farm.deliver()
    pending = [farm.task(ref, each).status for each in ("000", "002", "004")]
    assert pending == [T.PENDING] * 3


def test_a_killed_job_is_not_let_go_by_its_scouts(farm: Farm) -> None:
    ref = scouting(farm)
    farm.run(ref, "001")
    last = farm.agent(ref, "003")
    last.claim()
    order(ref, Command.KILL, farm.ports)
    assert last.finish().status_code == 200
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.is_ended) == (JobStatus.KILLED, True)
    assert farm.findings(ref) == []
