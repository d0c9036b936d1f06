"""PUT /jobs_multi and PUT /tasks_multi: who is told what."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import wiring
from shared.core.outstanding import MOST_ORDERS
from shared.models.farm import Orchestrator
from shared.models.job import Command, Fence, Job, JobRef
from shared.models.task import TaskStatus
from shared.services.control import carry_out
from shared.services.expand import expand
from shared.services.settle import settle
from tests.functions.conftest import Studio, submission

ORDERS = [
    "hold", "unhold", "kill", "retry", "retry_all", "retry_failed", "retry_preempted",
    "retry_sync", "reviewed", "edit",
]  # fmt: skip
OF_WHOLE_JOBS = ("retry_sync", "reviewed", "edit")


def submitted(studio: Studio, **changed: Any) -> str:
    reply = studio.post("/jobs/", submission(**changed))
    assert reply.status_code == 201, reply.text
    job_id = str(reply.json["jobid"])
    expand(JobRef(studio.account_id, job_id), 0, 10, wiring.ports())
    return job_id


def the_job(studio: Studio, job_id: str) -> Job:
    return wiring.job_store().job(JobRef(studio.account_id, job_id))


def jobs_multi(studio: Studio, action: str, *job_ids: str, **more: Any) -> Any:
    changes = {"changes": {"priority": 7}} if action == "edit" and not more else {}
    body = {"action": action, "jobids": list(job_ids)} | changes | more
    return studio.put("/jobs_multi", body)


def tasks_multi(studio: Studio, action: str, job_id: str, *task_ids: str) -> Any:
    return studio.put(
        "/tasks_multi", {"action": action, "jobid": job_id, "taskids": list(task_ids)}
    )


def edited(studio: Studio, *job_ids: str, **changes: Any) -> Any:
    return jobs_multi(studio, "edit", *job_ids, changes=changes)


def kill_all_of(studio: Studio, job_id: str) -> None:
    """Kill a job, and let nothing of it be left."""
    ref = JobRef(studio.account_id, job_id)
    assert jobs_multi(studio, "kill", job_id).status_code == 200
    for number in range(the_job(studio, job_id).page_count):
        carry_out(ref, number, 1, wiring.ports())
    settle(ref, wiring.ports())
    assert the_job(studio, job_id).is_ended


@pytest.mark.parametrize("action", ORDERS)
def test_every_order_has_an_answer_in_words(studio: Studio, action: str) -> None:
    job_id = submitted(studio)
    reply = jobs_multi(studio, action, job_id)
    if action in ("reviewed", "retry_sync"):
        assert (reply.status_code, reply.json["error"]["code"]) == (409, "InvalidTransition")
    else:
        assert (reply.status_code, reply.json["body"]) == (200, "success")
        assert reply.json["message"] == f"{action}: 1 jobs"
        assert jobs_multi(studio, action, job_id).status_code == 200


@pytest.mark.parametrize("action", ORDERS)
def test_an_unknown_job_is_named(studio: Studio, action: str) -> None:
    reply = jobs_multi(studio, action, "99999")
    assert (reply.status_code, "99999" in reply.json["error"]["message"]) == (404, True)
    several = jobs_multi(studio, action, "99998", "99999")
    assert (several.status_code, "99998, 99999" in several.text) == (404, True)


def test_the_jobs_that_cannot_follow_are_named_and_the_others_follow(studio: Studio) -> None:
    done, held = submitted(studio), submitted(studio, job_title="another")
    kill_all_of(studio, done)
    reply = jobs_multi(studio, "hold", done, "99999", held)
    assert (reply.status_code, reply.json["error"]["code"]) == (409, "PartlyRefused")
    assert reply.json["error"]["fields"] == {
        f"jobids.{done}": f"job {done} is killed: hold does not apply",
        "jobids.99999": "there is no job 99999",
    }
    assert the_job(studio, held).fence is Fence.HELD


def test_what_comes_faster_than_the_tasks_can_follow_must_wait_but_a_kill_need_not(
    studio: Studio,
) -> None:
    job_id = submitted(studio)
    replies = [jobs_multi(studio, action, job_id) for action in ["retry", "retry_all"] * 9]
    assert [reply.status_code for reply in replies[:-1]] == [200] * MOST_ORDERS + [409]
    assert replies[-2].json["error"]["code"] == "Conflict"
    assert "on their way to its tasks" in replies[-2].json["error"]["message"]
    assert replies[-1].status_code == 200  # the last that was taken, said again
    assert the_job(studio, job_id).fence is Fence.OPEN
    assert jobs_multi(studio, "kill", job_id).status_code == 200
    assert the_job(studio, job_id).fence is Fence.KILLED


def test_a_job_of_any_length_of_its_number_is_found(studio: Studio) -> None:
    job_id = submitted(studio)
    assert jobs_multi(studio, "hold", str(int(job_id)), job_id).json["message"] == "hold: 2 jobs"


def test_what_has_ended_is_marked_as_reviewed(studio: Studio) -> None:
    job_id = submitted(studio)
    kill_all_of(studio, job_id)
    for _ in range(2):
        assert jobs_multi(studio, "reviewed", job_id).status_code == 200
    job = the_job(studio, job_id)
    assert (job.reviewed_by, job.reviewed_at is not None) == ("ines", True)


def test_a_job_is_edited_in_all_that_may_be_otherwise(studio: Studio) -> None:
    job_id = submitted(studio)
    reply = edited(
        studio, job_id, priority=900, instance_type="cpu-8-32", preemptible=False, max_instances=3
    )
    assert reply.status_code == 200, reply.text
    job = the_job(studio, job_id)
    (machine,) = [e for e in wiring.catalog_store().instance_types() if e.name == "cpu-8-32"]
    assert (job.priority, job.max_instances, job.is_preemptible) == (900, 3, False)
    assert (job.instance_type, job.cores) == ("cpu-8-32", 8)
    assert job.price_micros_per_minute == machine.price_micros_per_minute


def test_what_is_done_about_each_cause_may_be_otherwise(studio: Studio) -> None:
    job_id = submitted(studio, autoretry_policy={"preempted": {"max_retries": 1}})
    reply = edited(studio, job_id, standard_after=7)
    assert list(reply.json["error"]["fields"]) == ["changes.standard_after"]
    changes = {"preempted_retries": 4, "standard_after": 2, "out_of_memory_retries": 0}
    assert edited(studio, job_id, **changes).status_code == 200
    job = the_job(studio, job_id)
    assert (job.preempted_retries, job.standard_after, job.out_of_memory_retries) == (4, 2, 0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, "changes"),
        ({"priority": -1}, "changes.priority"),
        ({"priority": 1001}, "changes.priority"),
        ({"priority": None}, "changes.priority"),
        ({"max_instances": -1}, "changes.max_instances"),
        ({"preemptible": "perhaps"}, "changes.preemptible"),
        ({"instance_type": ""}, "changes.instance_type"),
        ({"instance_type": "cpu-1000"}, "changes.instance_type"),
        ({"instance_type": "m6i.large"}, "changes.instance_type"),
        ({"project": "seal"}, "changes.project"),
        ({"preempted_retries": -1}, "changes.preempted_retries"),
        ({"standard_after": 1001}, "changes.standard_after"),
        ({"preempted_retries": 1, "standard_after": 7}, "changes.standard_after"),
        ({"out_of_memory_retries": 11}, "changes.out_of_memory_retries"),
    ],
)
def test_an_edit_is_checked_like_a_submission(
    studio: Studio, changes: dict[str, Any], field: str
) -> None:
    job_id = submitted(studio)
    before = the_job(studio, job_id)
    reply = jobs_multi(studio, "edit", job_id, changes=changes)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, [field]), reply.text
    assert the_job(studio, job_id) == before


def test_changes_come_with_the_order_to_make_them_only(studio: Studio) -> None:
    job_id = submitted(studio)
    for reply in (
        studio.put("/jobs_multi", {"action": "edit", "jobids": [job_id]}),
        jobs_multi(studio, "hold", job_id, changes={"priority": 1}),
    ):
        assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["changes"])


def submitted_at_home(studio: Studio, *instance_types: str) -> str:
    """Return a job that runs at an orchestrator with these types only."""
    home = Orchestrator(
        orchestrator_id=f"home-{studio.account_id}",
        scheduler="nomad",
        scheduler_address="http://127.0.0.1:1",
        fleet="gce",
        project="render",
        region="r",
        zones={"r-a": False},  # no other test's job shall go there
        instance_types=instance_types,
    )
    wiring.orchestrator_store().save_orchestrator(home)
    job_id = submitted(studio)
    wiring.job_store().change_job(
        JobRef(studio.account_id, job_id),
        lambda job: replace(job, orchestrator_id=home.orchestrator_id),
    )
    return job_id


def test_a_job_does_not_move_to_a_machine_that_its_orchestrator_has_not(studio: Studio) -> None:
    job_id = submitted_at_home(studio, "cpu-16-64")
    fields = edited(studio, job_id, instance_type="cpu-8-32").json["error"]["fields"]
    assert list(fields) == ["changes.instance_type"]
    assert "has no cpu-8-32" in fields["changes.instance_type"]


def test_after_an_edit_tasks_go_to_larger_machines_that_the_jobs_orchestrator_has(
    studio: Studio,
) -> None:
    job_id = submitted_at_home(studio, "cpu-16-64", "cpu-8-32", "cpu-16-128", "cpu-8-64")
    for name, larger in (("cpu-8-32", ["cpu-8-64", "cpu-16-128"]), ("cpu-16-64", ["cpu-16-128"])):
        assert edited(studio, job_id, instance_type=name).status_code == 200
        assert [each.instance_type for each in the_job(studio, job_id).larger] == larger


def test_a_machine_that_is_offered_no_more_can_be_kept_but_not_changed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(studio)
    catalog = wiring.catalog_store()
    left = [each for each in catalog.instance_types() if each.name != "cpu-16-64"]
    monkeypatch.setattr(catalog, "instance_types", lambda: left)
    assert edited(studio, job_id, priority=7).status_code == 200
    reply = edited(studio, job_id, preemptible=False)
    assert "offered no more: cpu-16-64" in reply.text


@pytest.mark.parametrize("action", [each for each in ORDERS if each not in OF_WHOLE_JOBS])
def test_every_order_for_tasks_has_an_answer_in_words(studio: Studio, action: str) -> None:
    job_id = submitted(studio, scout_frames="")
    for _ in range(2):
        reply = tasks_multi(studio, action, job_id, "0", "002")
        assert (reply.status_code, reply.json["body"]) == (200, "success"), reply.text


@pytest.mark.parametrize("action", OF_WHOLE_JOBS)
def test_what_is_about_whole_jobs_is_refused_for_tasks(studio: Studio, action: str) -> None:
    reply = tasks_multi(studio, action, submitted(studio), "000")
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["action"])


def test_the_tasks_that_cannot_follow_are_named_and_the_others_follow(studio: Studio) -> None:
    job_id = submitted(studio, scout_frames="")
    reply = tasks_multi(studio, "hold", job_id, "000", "777")
    assert (reply.status_code, reply.json["error"]["code"]) == (409, "PartlyRefused")
    assert reply.json["error"]["fields"] == {"taskids.777": f"job {job_id} has no task 777"}
    page = wiring.job_store().page(JobRef(studio.account_id, job_id), 0)
    assert page.statuses["000"] is TaskStatus.HOLDING


def test_tasks_of_no_job_and_no_tasks_of_a_job_are_not_found(studio: Studio) -> None:
    assert tasks_multi(studio, "kill", "99999", "000").status_code == 404
    reply = tasks_multi(studio, "kill", submitted(studio), "777")
    assert (reply.status_code, "777" in reply.text) == (404, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"jobids": ["1"]}, "action"),
        ({"action": "kill"}, "jobids"),
        ({"action": "kill", "jobids": []}, "jobids"),
        ({"action": "kill", "jobids": "00001"}, "jobids"),
        ({"action": "kill", "jobids": ["1"] * 501}, "jobids"),
        ({"action": "kill", "jobids": ["../1"]}, "jobids.0"),
        ({"action": "kill", "jobids": ["1" * 13]}, "jobids.0"),
        ({"action": "kill", "jobids": [1]}, "jobids.0"),
        ({"action": "release", "jobids": ["1"]}, "action"),
        ({"action": ["kill"], "jobids": ["1"]}, "action"),
    ],
)
def test_a_malformed_command_is_refused_by_the_name_of_its_field(
    studio: Studio, body: dict[str, Any], field: str
) -> None:
    reply = studio.put("/jobs_multi", body)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, [field])


def test_a_command_is_at_most_a_mebibyte(studio: Studio) -> None:
    body = {"action": "kill", "jobids": ["1"], "more": "x" * 1024 * 1024}
    for path in ("/jobs_multi", "/tasks_multi"):
        assert studio.put(path, body).status_code == 413


def test_every_command_is_there_for_people_or_the_servers_own() -> None:
    assert {*ORDERS, "release"} == {each.value for each in Command}


def test_an_expired_token_orders_nothing(new_studio: Callable[[], Studio]) -> None:
    studio = new_studio()
    job_id = submitted(studio)
    studio.sign_in(lifetime=timedelta(minutes=-1))
    assert jobs_multi(studio, "kill", job_id).status_code == 401
    assert the_job(studio, job_id).fence is Fence.OPEN
