"""POST /jobs/: what becomes a job, and what is refused without a trace."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from shared import wiring
from shared.models.account import Project, Role, User
from shared.models.job import Command, Job, JobRef, JobStatus, SyncState
from shared.models.task import WaitingFor
from shared.services import submit
from shared.services.expand import expand
from shared.services.sync import sync
from tests.functions.conftest import Studio, object_names, submission
from tests.golden_files import check_golden
from tests.md5 import md5_of


def the_job(studio: Studio, job_id: str) -> Job:
    return wiring.job_store().job(JobRef(studio.account_id, job_id))


def read_object(studio: Studio, job_id: str, name: str) -> bytes:
    return wiring.blobs().read(f"accounts/{studio.account_id}/jobs/{job_id}/{name}")


def submitted(studio: Studio, **changed: Any) -> str:
    reply = studio.post("/jobs/", submission(**changed))
    assert reply.status_code == 201, reply.text
    return str(reply.json["jobid"])


@pytest.mark.golden
def test_a_submission_is_answered_as_the_clients_demand(studio: Studio) -> None:
    reply = studio.post("/jobs/", submission())
    assert reply.status_code == 201
    check_golden("submitted", reply.json)


def test_job_ids_ascend_and_have_at_least_five_digits(studio: Studio) -> None:
    first, second = submitted(studio), submitted(studio, job_title="another")
    assert int(second) > int(first)
    assert len(first) >= 5


@pytest.mark.golden
@pytest.mark.parametrize(
    "plugin",
    ["maya", "clarisse", "clarisse-daemon", "katana", "blender", "houdini", "houdini-sim", "nuke"],
)
def test_what_each_plugin_sends_becomes_a_job(studio: Studio, plugin: str) -> None:
    job_id = submitted(studio, name=plugin)
    job = the_job(studio, job_id)
    is_awaited = job.status is JobStatus.UPLOAD_PENDING
    stored = {
        "status": job.status,
        "location": job.location,
        "title": job.title,
        "output_path": job.output_path,
        "scout_task_ids": list(job.scout_task_ids),
        "preempted_retries": job.preempted_retries,
        "notify_emails": list(job.notify_emails),
        "metadata": dict(job.metadata),
        "price_micros_per_minute": job.price_micros_per_minute,
        "spec": json.loads(read_object(studio, job_id, "upload.json" if is_awaited else "spec.json")),
        "tasks": [json.loads(line) for line in read_object(studio, job_id, "tasks.jsonl").splitlines()[:-1]],
    }  # fmt: skip
    check_golden(f"jobs/{plugin}", stored)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, (0, 0, 2)),
        ({"preempted": {"max_retries": 3}}, (3, 0, 2)),
        ({"preempted": {"max_retries": 3, "standard_after": 2}}, (3, 2, 2)),
        ({"out_of_memory": {"max_retries": 0}}, (0, 0, 0)),
        ({"preempted": {}, "out_of_memory": {}, "lost": {"max_retries": 1}}, (0, 0, 2)),
    ],
)
def test_a_job_says_what_is_done_about_each_cause(
    studio: Studio, policy: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    job = the_job(studio, submitted(studio, autoretry_policy=policy))
    assert (job.preempted_retries, job.standard_after, job.out_of_memory_retries) == expected


def test_a_job_keeps_what_its_tasks_may_go_to_and_at_what_price(studio: Studio) -> None:
    job = the_job(studio, submitted(studio, instance_type="cpu-8-32", preemptible=True))
    known = {each.name: each for each in wiring.catalog_store().instance_types()}
    assert job.price_micros_per_minute == known["cpu-8-32"].preemptible_micros_per_minute
    assert job.standard_micros_per_minute == known["cpu-8-32"].price_micros_per_minute
    assert "cpu-8-64" in [each.instance_type for each in job.larger]
    for each in job.larger:
        machine = known[each.instance_type]
        assert 32 < machine.memory_gib <= 128
        assert machine.gpu is None
        assert (each.price_micros_per_minute, each.preemptible_micros_per_minute) == (
            machine.price_micros_per_minute,
            machine.preemptible_micros_per_minute,
        )
    sizes = [each.memory_mib for each in job.larger]
    assert sizes == sorted(sizes)


def test_a_job_without_inputs_waits_for_its_turn_only(studio: Studio) -> None:
    job = the_job(studio, submitted(studio))
    assert (job.status, job.sync.state) == (JobStatus.PENDING, SyncState.DONE)
    assert job.waiting_for is WaitingFor.ADMISSION


def test_a_job_keeps_which_licences_its_packages_take(studio: Studio) -> None:
    packages = ["maya-2025-linux", "arnold-maya-5-4-linux"]
    job = the_job(studio, submitted(studio, software_package_ids=packages))
    assert job.licences == ("arnold", "maya")
    blender = submitted(studio, software_package_ids=["blender-4-5-linux"])
    assert the_job(studio, blender).licences == ()


def test_a_job_with_inputs_syncs_first(studio: Studio) -> None:
    files = [
        studio.upload(b"scene"),
        studio.upload(b"#!/bin/sh", path="C:/tools/run.sh"),
        studio.upload(b"scene", path="/vol/otter/copy.ma"),
    ]
    job_id = submitted(studio, upload_files=files)
    job = the_job(studio, job_id)
    assert (job.status, job.sync.state) == (JobStatus.SYNC_PENDING, SyncState.PENDING)
    assert (job.sync.total_count, job.input_bytes) == (2, 14)
    inputs = json.loads(read_object(studio, job_id, "spec.json"))["inputs"]
    assert inputs == [
        {"path": "/vol/otter/scene.ma", "md5": md5_of(b"scene"), "size": 5, "executable": False},
        {"path": "/tools/run.sh", "md5": md5_of(b"#!/bin/sh"), "size": 9, "executable": True},
        {"path": "/vol/otter/copy.ma", "md5": md5_of(b"scene"), "size": 5, "executable": False},
    ]


def test_of_very_many_files_the_first_are_looked_for_and_the_sync_names_the_others(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MAX_LOOKED_FOR", 2)
    stored = [studio.upload(f"{n}".encode(), path=f"/tex/{n}") for n in range(2)]
    lost = [
        stored[0] | {"md5": md5_of(f"lost {n}".encode()), "destination": f"/tex/lost{n}"}
        for n in range(3)
    ]
    refused = studio.post("/jobs/", submission(upload_files=[stored[0], *lost]))
    assert list(refused.json["error"]["fields"]) == ["upload_files.1.md5"]
    job = the_job(studio, submitted(studio, upload_files=[*stored, *lost]))
    assert (job.status, job.sync.total_count) == (JobStatus.SYNC_PENDING, 5)
    sync(job.ref, wiring.ports())
    job = the_job(studio, job.job_id)
    assert (job.status, "/tex/lost0" in job.waiting_note) == (JobStatus.SYNC_FAILED, True)
    assert "3 such files" in job.waiting_note


def test_the_submission_is_kept_without_its_tasks(studio: Studio) -> None:
    body = submission()
    job = the_job(studio, submitted(studio))
    payload = read_object(studio, job.job_id, "tasks.jsonl")
    kept = json.loads(payload[job.blocks[-1].end :])
    assert kept == {key: value for key, value in body.items() if key != "tasks_data"}


def test_each_block_of_the_payload_holds_its_pages_tasks(studio: Studio) -> None:
    tasks = [{"command": f"render {n} é", "frames": str(n)} for n in range(2_345)]
    job = the_job(studio, submitted(studio, tasks_data=tasks, scout_frames="7"))
    assert [(b.first_page) for b in job.blocks] == [0, 10, 20]
    payload = read_object(studio, job.job_id, "tasks.jsonl")
    assert payload[: job.blocks[-1].end].count(b"\n") == len(tasks)
    for block in job.blocks:
        name = f"accounts/{studio.account_id}/jobs/{job.job_id}/tasks.jsonl"
        lines = wiring.blobs().read(name, block.start, block.end).splitlines()
        first = block.first_page * 100
        assert len(lines) == min(1000, 2_345 - first)
        assert json.loads(lines[0])["command"] == f"render {first} é"
    assert job.scout_task_ids == ("007",)


def test_where_every_task_is_a_scout_none_waits(studio: Studio) -> None:
    job = the_job(studio, submitted(studio, scout_frames="101-112"))
    assert (job.scout_task_ids, job.scouts_pending) == ((), False)


def test_of_eight_equal_submissions_at_once_comes_one_job(studio: Studio) -> None:
    body = json.dumps(submission())

    def post(_: int) -> Any:
        # a client of its own for each thread, as each artist's machine has one
        web = studio.web.application.test_client()
        return web.post("/jobs/", headers=studio.headers, data=body)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(post, range(8)))
    assert {reply.status_code for reply in replies} == {201}
    (job_id,) = {reply.json["jobid"] for reply in replies}
    root = f"accounts/{studio.account_id}/jobs/{job_id}"
    assert studio.stored() == ([job_id], [f"{root}/spec.json", f"{root}/tasks.jsonl"])


def test_the_same_body_again_is_the_same_job(studio: Studio) -> None:
    assert submitted(studio) == submitted(studio)
    assert len(studio.stored()[0]) == 1


def test_another_body_or_another_person_is_another_job(studio: Studio) -> None:
    first = submitted(studio)
    assert submitted(studio, job_title="take 2") != first
    noa = User(user_id="noa", email="noa@otter.example", role=Role.OWNER)
    wiring.account_store().save_user(studio.account_id, noa)
    studio.user_id = "noa"
    studio.sign_in()
    assert submitted(studio) != first


@pytest.mark.parametrize("step", ["_write", "_set_in_motion"])
def test_a_submission_that_was_cut_off_is_finished_by_its_repeat(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(submit, step, lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            studio.post("/jobs/", submission())
    job_id = submitted(studio)
    job_ids, names = studio.stored()
    assert job_ids == [job_id]
    assert len(names) == 2


def test_without_local_upload_a_job_is_taken_when_all_its_files_are_there(studio: Studio) -> None:
    file = studio.upload(b"scene")
    submitted(studio, upload_files=[file], local_upload=False)


@pytest.fixture
def kai(studio: Studio) -> Studio:
    """The same studio, called by a plain user who is limited to the project `seal`."""
    accounts = wiring.account_store()
    accounts.save_project(studio.account_id, Project(name="seal"))
    limited = User(user_id="kai", email="kai@x.example", role=Role.USER, projects=("seal",))
    accounts.save_user(studio.account_id, limited)
    made = replace(studio, user_id="kai")
    made.sign_in(Role.USER)
    return made


def test_a_plain_user_submits_to_their_own_projects_only(kai: Studio) -> None:
    wiring.account_store().save_project(kai.account_id, Project(name="old", is_active=False))
    for name in ("otter", "old", "nowhere"):
        refused = kai.post("/jobs/", submission(project=name))
        assert refused.json["error"]["fields"] == {"project": f"unknown: {name}"}
    submitted(kai, project="seal")


def listed(studio: Studio, query: str = "") -> list[str]:
    return [each["jid"] for each in studio.get(f"/api/v1/jobs{query}").json["data"]]


def test_a_plain_user_is_told_of_the_jobs_of_their_own_projects_only(
    studio: Studio, kai: Studio
) -> None:
    others, own = submitted(studio), submitted(studio, project="seal")
    assert listed(studio) == [others, own]
    assert listed(kai) == [own]
    assert listed(kai, f"?filter=jid_gt_-0001,jid_lt_{own}") == []


def test_jobs_of_other_projects_are_not_there_for_a_plain_user(studio: Studio, kai: Studio) -> None:
    others, own = submitted(studio), submitted(studio, project="seal")
    expand(JobRef(studio.account_id, others), 0, 10, wiring.ports())
    before = wiring.job_store().page(JobRef(studio.account_id, others), 0)

    def answers(job_id: str) -> list[tuple[int, str]]:
        told = {"download_id": f"{job_id}-000-1", "status": "downloaded"}
        replies = [
            kai.put("/jobs_multi", {"action": "kill", "jobids": [job_id]}),
            kai.put("/tasks_multi", {"action": "kill", "jobid": job_id, "taskids": ["0"]}),
            kai.post(f"/jobs/{job_id}/downloads", {"tids": None}),
            kai.post("/downloads/status", told),
        ]
        return [(each.status_code, each.text.replace(job_id, "JOB")) for each in replies]

    assert [status for status, _ in answers(others)] == [404] * 4
    assert answers(others) == answers("99999")
    mixed = kai.put("/jobs_multi", {"action": "hold", "jobids": [others, own]})
    assert (mixed.status_code, f"job {others}" in mixed.text) == (409, True)
    assert the_job(studio, others).command is None
    assert wiring.job_store().page(JobRef(studio.account_id, others), 0) == before
    assert the_job(studio, own).command is Command.HOLD


def test_a_plain_user_who_was_taken_out_of_the_account_sees_nothing(studio: Studio) -> None:
    studio.user_id = "gone"
    studio.sign_in(Role.USER)
    assert studio.get("/api/v1/jobs").status_code == 401
    assert studio.post("/jobs/", submission()).status_code == 401


def test_what_a_plugin_left_null_is_as_if_it_were_not_there(studio: Studio) -> None:
    body = submission()
    needed = ("project", "instance_type", "tasks_data", "output_path")
    nulls = {name: None for name in body if name not in needed}
    reply = studio.post("/jobs/", body | nulls)
    job = the_job(studio, reply.json["jobid"])
    assert (job.owner, job.priority, job.is_preemptible, job.metadata) == ("ines", 5, False, {})
    bare = studio.post("/jobs/", {name: body[name] for name in needed})
    assert bare.status_code == 201, bare.text


def test_an_artist_who_left_a_line_for_mail_empty_gets_none(studio: Studio) -> None:
    mails = {"emails": ["", "ines@otter.example", None]}
    assert the_job(studio, submitted(studio, notify=mails)).notify_emails == ("ines@otter.example",)


def test_a_program_that_a_command_begins_with_can_be_run_on_the_node(studio: Studio) -> None:
    files = [
        studio.upload(f"file {n}".encode(), path=path)
        for n, path in enumerate(["/tools/run it", "/tools/run", "/tools/scene.ma"])
    ]
    tasks = [
        {"command": '  "/tools/run it" -r /tools/scene.ma', "frames": "1"},
        {"command": "/tools/run 2", "frames": "2"},
    ]
    job_id = submitted(studio, upload_files=files, tasks_data=tasks)
    inputs = json.loads(read_object(studio, job_id, "spec.json"))["inputs"]
    assert [each["executable"] for each in inputs] == [True, True, False]


def test_a_token_opens_its_own_account_only(new_studio: Callable[[], Studio]) -> None:
    mine, theirs = new_studio(), new_studio()
    wiring.account_store().save_project(theirs.account_id, Project(name="theirs"))
    assert mine.post("/jobs/", submission(project="theirs")).status_code == 422
    job_id = submitted(theirs)
    assert mine.post(f"/jobs/{job_id}/downloads", {"tids": None}).status_code == 404
    killed = mine.put("/jobs_multi", {"action": "kill", "jobids": [job_id]})
    assert killed.status_code == 404
    assert mine.get("/api/v1/jobs").json["data"] == []
    assert theirs.stored()[0] == [job_id]


def test_jobs_are_listed_between_two_ids(studio: Studio) -> None:
    ids = [submitted(studio, job_title=f"take {n}") for n in range(3)]
    listed = studio.get(f"/api/v1/jobs?filter=jid_gt_{ids[0]}%2Cjid_lt_{ids[2]}").json["data"]
    assert [each["jid"] for each in listed] == [ids[1]]
    assert [each["jid"] for each in studio.get("/api/v1/jobs").json["data"]] == ids
    assert studio.get("/api/v1/jobs?filter=jid_gt_-0001,jid_lt_00001").json["data"] == []
    assert studio.get("/api/v1/jobs?filter=cost_gt_1").status_code == 422


def test_a_job_is_killed_by_one_call(studio: Studio) -> None:
    job_id = submitted(studio)
    reply = studio.put("/jobs_multi", {"action": "kill", "jobids": [job_id.lstrip("0")]})
    assert (reply.status_code, reply.json["body"]) == (200, "success")
    assert the_job(studio, job_id).status is JobStatus.KILLED


def test_a_command_that_nobody_may_give_is_refused(studio: Studio) -> None:
    for action in ("release", "explode", ""):
        reply = studio.put("/jobs_multi", {"action": action, "jobids": ["1"]})
        assert list(reply.json["error"]["fields"]) == ["action"]


def test_objects_of_a_job_are_under_its_account(studio: Studio) -> None:
    job_id = submitted(studio)
    root = f"accounts/{studio.account_id}/jobs/{job_id}"
    assert object_names(root) == [f"{root}/{n}" for n in ("spec.json", "tasks.jsonl")]
