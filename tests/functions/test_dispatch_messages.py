"""What Pub/Sub pushes to the function `dispatch`: who may, what is dropped, what comes again, what a repeat does."""

import base64
import json
from collections.abc import Callable

import pytest

from shared import wiring
from shared.models.job import Command, JobRef, JobStatus, Sync, SyncState
from shared.models.task import TaskStatus, WaitingFor
from shared.services.control import order
from tests.services.farm import Farm, farm_fixture, new_farm_fixture
from tests.services.rig import PROJECT, Rig, rig_fixture

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture"]

T = TaskStatus
TOPICS = ("expand", "sync", "admit", "place", "settle", "command")
# What each topic's message holds besides the account and the job.
REST: dict[str, dict[str, object]] = {
    "expand": {"first_page": 0, "page_count": 10},
    "sync": {},
    "admit": {},
    "place": {"page": 0, "attempts": {"000": 1}},
    "settle": {},
    "command": {"first_page": 0, "page_count": 10},
}


def dropped(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return topic and reason's name of every message that was logged as dropped."""
    found = [json.loads(record.message) for record in caplog.records if record.name == "baton"]
    return [(each["topic"], each["code"]) for each in found if each["event"] == "message dropped"]


# Who may push


@pytest.mark.parametrize("topic", TOPICS)
def test_only_those_with_the_shared_token_may_push(farm: Farm, topic: str) -> None:
    ref = farm.create()
    before = farm.state()
    web = farm.apps["dispatch"].test_client()
    data = json.dumps({"account_id": farm.account_id, "job_id": ref.job_id} | REST[topic])
    body = {"message": {"data": base64.b64encode(data.encode()).decode()}}
    path = f"/projects/{PROJECT}/topics/{topic}"
    for query in ("", "?token=", "?token=wrong", f"?token={wiring.push_token()}x"):
        assert web.post(path + query, json=body).status_code == 403
    headers = {"X-Baton-Token": wiring.push_token(), "Authorization": wiring.push_token()}
    assert web.post(path, json=body, headers=headers).status_code == 403
    assert farm.state() == before


# What can never succeed

MALFORMED = [
    ("expand", {"page_count": 1}),
    ("expand", {"first_page": "0", "page_count": 1}),
    ("expand", {"first_page": -1, "page_count": 1}),
    ("expand", {"first_page": 0, "page_count": True}),
    ("sync", {"job_id": ""}),
    ("sync", {"job_id": 1}),
    ("admit", {"account_id": None}),
    ("admit", {"account_id": ["a"]}),
    ("place", {"page": 0}),
    ("place", {"page": 0, "attempts": ["000"]}),
    ("place", {"page": 0, "attempts": {"000": "1"}}),
    ("place", {"page": None, "attempts": {"000": 1}}),
    ("settle", {"job_id": None}),
    ("command", {"first_page": 0}),
]


@pytest.mark.parametrize(("topic", "wrong"), MALFORMED, ids=str)
def test_a_malformed_message_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture, topic: str, wrong: dict[str, object]
) -> None:
    data = {"account_id": farm.account_id, "job_id": "00001"} | wrong
    assert farm.push_data(topic, json.dumps(data).encode()) == 204
    assert dropped(caplog) == [(topic, "InvalidRequest")]


@pytest.mark.parametrize("data", [b"", b"no json", b"[]", b"null", b"\xff"])
def test_data_that_is_no_json_object_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    for topic in TOPICS:
        assert farm.push_data(topic, data) == 204
    assert [code for _, code in dropped(caplog)] == ["InvalidRequest"] * len(TOPICS)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"message": 1}', b'{"message": {"data": "?"}}']
)
def test_an_envelope_that_is_none_is_logged_and_acknowledged(
    rig: Rig, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    web = rig.apps["dispatch"].test_client()
    path = f"/projects/{PROJECT}/topics/settle?token={wiring.push_token()}"
    assert web.post(path, data=body).status_code == 204
    assert [code for _, code in dropped(caplog)] == ["InvalidRequest"]


def test_a_topic_without_a_handler_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    assert farm.push_data("explode", b"{}") == 204
    assert dropped(caplog) == [("explode", "NotFound")]


@pytest.mark.parametrize("topic", [each for each in TOPICS if each != "admit"])
def test_a_job_that_does_not_exist_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture, topic: str
) -> None:
    assert farm.push(topic, JobRef(farm.account_id, "00099"), **REST[topic]) == 204
    assert dropped(caplog) == [(topic, "NotFound")]
    assert farm.published() == []


def test_an_account_that_does_not_exist_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    assert farm.push_data("admit", json.dumps({"account_id": "nobody"}).encode()) == 204
    assert dropped(caplog) == [("admit", "NotFound")]


def test_an_account_that_does_not_exist_leaves_nothing_behind(farm: Farm) -> None:
    farm.push_data("admit", json.dumps({"account_id": "nobody"}).encode())
    assert "nobody" not in farm.ports.admission.accounts()


def test_ids_that_no_document_can_have_are_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {"account_id": farm.account_id, "job_id": "00001"}
    for topic in TOPICS:
        for name in ids:
            data = ids | REST[topic] | {name: "a/b"}
            assert farm.push_data(topic, json.dumps(data).encode()) == 204
    assert {code for _, code in dropped(caplog)} <= {"InvalidRequest", "NotFound"}


# What may succeed later


def test_a_place_that_the_scheduler_refuses_comes_again(farm: Farm) -> None:
    ref = farm.submit()
    farm.scheduler.forget([each.attempt_id for each in farm.placements()])
    farm.fail_scheduler(method="POST")
    assert farm.push("place", ref, **REST["place"]) == 503
    assert farm.placed(ref) == []
    assert farm.push("place", ref, **REST["place"]) == 204
    assert farm.placed(ref) == ["000-1"]


def test_a_message_that_the_scheduler_spoils_does_all_its_work_when_it_comes_again(
    farm: Farm,
) -> None:
    ref = farm.create(3)
    farm.fail_scheduler(method="POST")
    assert farm.expand(ref) == 204
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "001-1", "002-1"]


def test_a_kill_that_the_scheduler_spoils_leaves_nothing_at_the_scheduler_after_the_sweep(
    farm: Farm,
) -> None:
    ref = farm.submit(3)
    order(ref, Command.KILL, farm.ports)
    farm.fail_scheduler(method="DELETE")
    assert farm.push("command", ref, **REST["command"]) == 503
    assert farm.push("command", ref, **REST["command"]) == 204
    farm.sweep()
    assert farm.job(ref).is_ended
    assert farm.placed(ref) == []


def test_an_orchestrator_that_cannot_be_reached_is_asked_again_and_leaves_the_round_to_others(
    farm: Farm,
) -> None:
    ref = farm.create()
    farm.save_orchestrator(scheduler_address="http://127.0.0.1:1")
    assert farm.expand(ref) == 204
    assert [topic for topic, _ in farm.published() if topic == "place"] == ["place"]
    lease = wiring.firestore_client().document(f"accounts/{farm.account_id}/state/admission").get()
    assert (lease.to_dict() or {})["lease_until"] is None


# A repeat changes nothing


def placed_and_running(farm: Farm) -> JobRef:
    """Return a job with a task that ended, one that runs, one at the scheduler, and one that waits for the limit."""
    farm.limit(2)
    ref = farm.submit(4)
    farm.run(ref)
    assert farm.agent(ref, "001").claim().status_code == 200
    farm.deliver()
    return ref


def before_its_expansion(farm: Farm) -> JobRef:
    return farm.create(3, scouts=[1])


def before_its_sync(farm: Farm) -> JobRef:
    pending = Sync(state=SyncState.PENDING, total_count=1)
    return farm.submit(inputs={"/scene.ma": b"scene"}, sync=pending)


def before_its_kill(farm: Farm) -> JobRef:
    ref = placed_and_running(farm)
    order(ref, Command.KILL, farm.ports)
    return ref


def with_all_tasks_ended(farm: Farm) -> JobRef:
    ref = farm.submit(2)
    for task_id in ("000", "001"):
        farm.run(ref, task_id)
    return ref


SITUATIONS = [
    ("expand", before_its_expansion),
    ("expand", placed_and_running),
    ("sync", before_its_sync),
    ("admit", placed_and_running),
    ("place", placed_and_running),
    ("place", with_all_tasks_ended),
    ("settle", placed_and_running),
    ("settle", with_all_tasks_ended),
    ("command", before_its_kill),
    ("command", placed_and_running),
]


@pytest.mark.parametrize(("topic", "prepare"), SITUATIONS)
def test_a_message_that_comes_twice_ends_as_if_it_had_come_once(
    farm: Farm, topic: str, prepare: Callable[[Farm], JobRef]
) -> None:
    ref = prepare(farm)
    assert farm.push(topic, ref, **REST[topic]) == 204
    once = farm.state()
    farm.published()
    for _ in range(2):
        assert farm.push(topic, ref, **REST[topic]) == 204
    assert farm.state() == once
    assert farm.published("admit", "place", "command", "expand", "meter") == []


def test_a_command_that_comes_late_is_the_jobs_present_one(farm: Farm) -> None:
    """The message names no command: a hold that comes after the unhold holds nothing."""
    ref = farm.submit(2)
    order(ref, Command.HOLD, farm.ports)
    order(ref, Command.UNHOLD, farm.ports)
    for _ in range(2):
        assert farm.push("command", ref, **REST["command"]) == 204
    assert {task.status for task in farm.tasks(ref)} == {T.PENDING}
    assert farm.agent(ref).claim().status_code == 200


# Orders of jobs


def test_a_killed_job_ends_and_takes_nothing_more(farm: Farm) -> None:
    ref = farm.submit(3)
    running = farm.agent(ref)
    running.claim()
    farm.run(ref, "001")
    order(ref, Command.KILL, farm.ports)
    assert farm.job(ref).status is JobStatus.KILLED
    farm.deliver()
    assert [task.status for task in farm.tasks(ref)] == [T.KILLED, T.SUCCESS, T.KILLED]
    assert farm.placed(ref) == []
    assert farm.job(ref).is_ended
    assert farm.ports.admission.active_job_ids(farm.account_id) == []
    assert farm.ledger() == [("000-1", "killed", 1), ("001-1", "success", 1)]
    assert farm.findings(ref) == []


def test_a_held_job_goes_on_when_it_is_released(farm: Farm) -> None:
    ref = farm.submit(2)
    order(ref, Command.HOLD, farm.ports)
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.HOLDING, WaitingFor.HOLD)
    assert farm.placed(ref) == []
    assert farm.findings(ref) == []
    order(ref, Command.UNHOLD, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]
    assert farm.findings(ref) == []


def test_failed_tasks_of_an_ended_job_are_tried_again(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref)
    farm.run(ref, "001", outcome="failed")
    farm.deliver()
    assert farm.job(ref).status is JobStatus.FAILED
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert (farm.job(ref).is_ended, farm.placed(ref)[-1]) == (False, "001-2")
    farm.run(ref, "001", 2)
    farm.deliver()
    assert farm.job(ref).status is JobStatus.SUCCESS
    assert farm.findings(ref) == []
