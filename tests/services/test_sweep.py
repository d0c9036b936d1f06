"""The sweep finishes whatever stopped half way, and is harmless at any time."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD

from shared.errors import Unplaceable
from shared.models.farm import Placement, Stage
from shared.models.job import AttemptRef, Command, JobRef, JobStatus, Sync, SyncState
from shared.models.task import Outcome, TaskStatus
from shared.ports import SubmittedAttempt
from shared.services.control import carry_out, order
from shared.services.sweep import ask_to_sweep, sweep_jobs
from shared.tally import tally
from tests.services.farm import Farm, ago

T = TaskStatus


def not_swept(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the ids of the jobs of which the log says that something could not be swept."""
    told = [json.loads(each.message) for each in caplog.records if each.levelname == "ERROR"]
    return {each["job_id"] for each in told if each["event"] == "not swept"}


def test_missing_pages_are_written(farm: Farm) -> None:
    farm.limit(1)
    ref = farm.create(1101)
    assert farm.expand(ref, first_page=0) == 204
    farm.published()
    assert farm.sweep() == 1
    assert [message["first_page"] for _, message in farm.published("expand")] == [10]
    farm.push("expand", ref, first_page=10, page_count=10)
    assert len(farm.tasks(ref)) == 1101


def test_what_was_placed_and_never_reached_the_scheduler_is_placed_again(farm: Farm) -> None:
    ref = farm.submit(3)
    farm.scheduler.forget([each.attempt_id for each in farm.placements()[:2]])
    assert farm.placed(ref) == ["002-1"]
    farm.sweep(seconds=10)
    assert farm.placed(ref) == ["002-1"], "it may be on its way"
    farm.sweep()
    assert farm.placed(ref) == ["000-1", "001-1", "002-1"]
    farm.deliver()
    assert farm.findings(ref) == []


def test_what_the_scheduler_refuses_of_one_page_stops_nothing_else(farm: Farm) -> None:
    farm.limit(101)
    ref = farm.submit(101)
    farm.deliver()
    assert farm.agent(ref, "001").claim().status_code == 200
    farm.backdate(ref, task_id="001", started=3610, alive=1230)
    strays = {f"{ref.account_id}-{ref.job_id}-{each}-1" for each in ("000", "001", "002", "100")}
    farm.scheduler.forget(sorted(strays))
    farm.fail_scheduler(method="POST")
    farm.sweep()
    placed = farm.placed(ref)
    assert len({"000-1", "002-1"}.intersection(placed)) == 1, "one of them was refused"
    assert "100-1" in placed
    assert farm.task(ref, "001").attempts[0].outcome is Outcome.LOST
    farm.sweep(minutes=2)
    assert {"000-1", "002-1"} <= set(farm.placed(ref))


class Placeless:
    """A scheduler that has no place for anything."""

    def submit(self, attempt: SubmittedAttempt) -> None:
        raise Unplaceable(f"no queue for {attempt.shape.name}")


def test_what_the_scheduler_has_no_place_for_is_taken_back_each_time(farm: Farm) -> None:
    ref = farm.submit(1)
    farm.deliver()
    placeless: Any = Placeless()
    for number in (1, 2):
        assert (farm.task(ref).attempt, farm.page(ref).placed) == (number, {"000": number})
        ports = replace(farm.ports_in(minutes=number), schedulers=lambda _: placeless)
        sweep_jobs(farm.account_id, [ref.job_id], {farm.account_id: []}.get, ports)
        farm.deliver()
    task = farm.task(ref)
    assert (task.status, task.attempt, task.unclaimed) == (T.PENDING, 3, 2)
    assert farm.findings(ref) == []


def test_a_command_that_was_carried_out_half_is_carried_out(farm: Farm) -> None:
    farm.limit(5)
    ref = farm.submit(250)
    running = farm.agent(ref, "002")
    running.claim()
    order(ref, Command.KILL, farm.ports)
    carry_out(ref, 1, 1, farm.ports)
    farm.published()
    farm.sweep()
    farm.deliver()
    assert {task.status for task in farm.tasks(ref)} == {T.KILLED}
    job = farm.job(ref)
    assert (job.status, job.is_ended) == (JobStatus.KILLED, True)
    assert farm.placed(ref) == []
    assert farm.ledger() == [("002-1", "killed", 1)]
    assert farm.findings(ref) == []


def test_a_retry_that_was_carried_out_half_is_carried_out(farm: Farm) -> None:
    ref = farm.submit(2)
    for task_id in ("000", "001"):
        farm.run(ref, task_id, outcome="failed")
    farm.deliver()
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.published()
    farm.sweep()
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]
    assert farm.findings(ref) == []


def test_a_sync_that_never_ran_is_asked_for(farm: Farm) -> None:
    pending = Sync(state=SyncState.PENDING, total_count=1)
    ref = farm.submit(inputs={"/scene.ma": b"scene"}, sync=pending)
    farm.published()
    farm.sweep()
    farm.deliver()
    assert farm.job(ref).sync.state is SyncState.DONE
    assert farm.placed(ref) == ["000-1"]


def test_a_sum_that_was_never_drawn_is_drawn(farm: Farm) -> None:
    ref = farm.submit(2)
    for task_id in ("000", "001"):
        farm.run(ref, task_id)
    farm.published()
    farm.sweep()
    assert farm.job(ref).status is JobStatus.SUCCESS
    assert farm.sweep() == 0


def test_scouts_whose_success_nobody_heard_of_let_the_others_go(farm: Farm) -> None:
    ref = farm.submit(3, scouts=[0])
    farm.run(ref)
    farm.published()
    farm.sweep()
    farm.deliver()
    assert farm.placed(ref) == ["001-1", "002-1"]


def test_a_round_of_admission_that_was_killed_is_made_up_for(farm: Farm) -> None:
    farm.limit(0)
    ref = farm.submit(2)
    farm.limit(2)
    assert farm.ports.admission.begin(farm.account_id, ago(0)) is not None  # and never finished
    farm.push("admit")
    assert farm.placed(ref) == []
    farm.sweep(seconds=61)
    assert farm.placed(ref) == ["000-1", "001-1"]


def test_what_a_kill_could_not_take_from_the_scheduler_is_taken(farm: Farm) -> None:
    ref = farm.submit(3)
    farm.deliver()
    order(ref, Command.KILL, farm.ports)
    farm.fail_scheduler(method="DELETE")
    assert farm.push("command", ref, first_page=0, page_count=10) == 503
    assert farm.placed(ref) != []
    farm.published()
    farm.sweep()
    assert farm.placed(ref) == []
    assert farm.job(ref).is_ended


def test_what_runs_and_nobody_has_heard_of_for_long_is_lost(farm: Farm) -> None:
    ref = farm.submit(2)
    for task_id in ("000", "001"):
        farm.agent(ref, task_id).claim()
    farm.scheduler.forget([each.attempt_id for each in farm.placements()])
    farm.backdate(ref, task_id="000", started=3610, alive=1230)
    farm.backdate(ref, task_id="001", started=3600, alive=60)
    farm.sweep()
    assert farm.task(ref, "001").status is T.RUNNING
    (lost,) = farm.task(ref, "000").attempts
    assert lost.outcome is Outcome.LOST
    assert farm.ledger() == [("000-1", "lost", 40)]
    farm.deliver()
    assert farm.placed(ref) == ["000-2"]
    assert farm.findings(ref) == []


def struck_off(farm: Farm, ref: JobRef, *task_ids: str) -> list[Placement]:
    """Return what the scheduler lists when the first attempts of these tasks are struck off and still shown."""
    ids = {AttemptRef(*ref, each, 1).attempt_id for each in task_ids}
    return [
        replace(each, stage=Stage.FORGOTTEN, instance="i-1") if each.attempt_id in ids else each
        for each in farm.placements()
    ]


def test_what_was_struck_off_at_the_scheduler_before_its_claim_is_placed_anew(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.deliver()
    listed = struck_off(farm, ref, "000")
    farm.scheduler.forget([AttemptRef(*ref, "000", 1).attempt_id])
    farm.sweep(listed, seconds=10)
    assert farm.task(ref).attempt == 1, "it may be on its way"
    farm.sweep(listed)
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-1"]
    assert farm.agent(ref).claim().status_code == 409
    assert farm.ledger() == []
    assert farm.findings(ref) == []


def test_what_was_struck_off_while_it_ran_is_lost_once_its_agent_is_silent(farm: Farm) -> None:
    ref = farm.submit(2)
    for task_id in ("000", "001"):
        farm.agent(ref, task_id).claim()
    listed = struck_off(farm, ref, "000", "001")
    farm.backdate(ref, task_id="000", started=600, alive=100)
    farm.sweep(listed)
    assert farm.task(ref).attempts[0].outcome is Outcome.LOST
    assert farm.task(ref, "001").status is T.RUNNING
    farm.deliver()
    assert farm.task(ref).attempt == 2
    assert farm.findings(ref) == []


def test_what_has_ended_and_is_still_shown_is_left_alone(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref)
    farm.deliver()
    listed = struck_off(farm, ref, "000")
    before = farm.state()
    farm.sweep(listed)
    assert farm.state() == before


def test_a_young_job_is_left_alone(farm: Farm) -> None:
    ref = farm.create(2)
    farm.sweep(seconds=10)
    assert farm.published() == []
    farm.sweep(seconds=40)
    assert [topic for topic, _ in farm.published("expand")] == ["expand"]
    assert farm.job(ref).counts == {}


def test_a_farm_in_good_order_is_left_as_it_is(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(3)
    farm.run(ref)
    farm.agent(ref, "001").claim()
    farm.deliver()
    before = farm.state()
    for _ in range(2):
        farm.sweep()
    assert farm.state() == before
    assert farm.published() == []


def test_every_job_is_swept_by_some_message_in_whatever_order_and_however_often(
    farm: Farm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.services.sweep.JOBS_TOGETHER", 2)
    refs = [farm.submit() for _ in range(5)]
    for ref in refs:
        farm.run(ref)
    farm.published()
    spoiled = refs.pop(2)
    farm.document(spoiled).update({"status": "no such status"})
    gone = spoiled._replace(job_id="00000")
    farm.ports.admission.activate(gone)
    ports = farm.ports_in(minutes=1)
    assert ask_to_sweep(ports) == 6
    assert [message for _, message in farm.published("admit")] == [{"account_id": farm.account_id}]
    parts = [message for _, message in farm.published("sweep")]
    assert [len(part["job_ids"]) for part in parts] == [2, 2, 2]
    with caplog.at_level(logging.ERROR, logger="baton"):
        for part in (*parts, *reversed(parts)):
            farm.sweep_part(part, [], ports)
    assert {farm.job(ref).status for ref in refs} == {JobStatus.SUCCESS}
    assert not_swept(caplog) == {gone.job_id, spoiled.job_id}
    assert farm.findings(*refs) == []


def test_every_page_is_swept_by_some_message_in_whatever_order_and_however_often(
    farm: Farm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.services.sweep.PAGES_TOGETHER", 1)
    farm.limit(301)
    ref = farm.submit(301)
    farm.deliver()
    lost = [f"{page}00" for page in range(4)]
    farm.scheduler.forget([AttemptRef(*ref, each, 1).attempt_id for each in lost])
    farm.document(ref, "pages", "1").update({"attempts": DELETE_FIELD})
    ports, listed = farm.ports_in(minutes=1), farm.placements()
    with caplog.at_level(logging.ERROR, logger="baton"):
        farm.sweep_part({"job_ids": [ref.job_id]}, listed, ports)
        parts = [message for _, message in farm.published("sweep")]
        assert [part["pages"] for part in parts] == [[1], [2], [3]]
        assert set(lost) - {each[:3] for each in farm.placed(ref)} == {"100", "200", "300"}
        for part in (*reversed(parts), *parts):
            farm.sweep_part(part, listed, ports)
    assert set(lost) - {each[:3] for each in farm.placed(ref)} == {"100"}
    assert not_swept(caplog) == {ref.job_id}


def test_a_job_in_good_order_takes_a_sweep_five_reads_and_no_write(farm: Farm) -> None:
    refs = [farm.submit() for _ in range(3)]
    farm.deliver()
    listed = farm.placements()
    farm.sweep()
    for count in (1, 3):
        tally.start()
        part = {"job_ids": [ref.job_id for ref in refs[:count]]}
        farm.sweep_part(part, listed, farm.ports_in(minutes=1))
        assert (tally.read_count, tally.write_count) == (5 * count, 0)
    assert farm.published() == []
