"""POST /jobs/: what becomes a job, and what is refused without a trace."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import wiring
from shared.models.account import Project, Role, User
from shared.models.job import AttemptRef, Command, Job, JobRef, JobStatus, SyncState
from shared.models.task import WaitingFor
from shared.schemas.bounded import MAX_COMPLAINTS
from shared.services import commands, submit
from shared.services.expand import expand
from shared.stores.documents import job_fields
from tests.functions.conftest import ROOT, Studio, check_golden, md5_of, object_names, submission


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
@pytest.mark.parametrize("plugin", ["maya", "clarisse", "katana", "blender"])
def test_what_each_plugin_sends_becomes_a_job(studio: Studio, plugin: str) -> None:
    job_id = submitted(studio, name=plugin)
    job = the_job(studio, job_id)
    stored = {
        "title": job.title,
        "output_path": job.output_path,
        "scout_task_ids": list(job.scout_task_ids),
        "preempted_retries": job.preempted_retries,
        "notify_emails": list(job.notify_emails),
        "metadata": dict(job.metadata),
        "price_micros_per_minute": job.price_micros_per_minute,
        "spec": json.loads(read_object(studio, job_id, "spec.json")),
        "tasks": [json.loads(line) for line in read_object(studio, job_id, "tasks.jsonl").splitlines()[:-1]],
    }  # fmt: skip
    check_golden(f"jobs/{plugin}", stored)


def test_a_job_without_inputs_waits_for_its_turn_only(studio: Studio) -> None:
    job = the_job(studio, submitted(studio))
    assert (job.status, job.sync.state) == (JobStatus.PENDING, SyncState.DONE)
    assert job.waiting_for is WaitingFor.ADMISSION


def test_a_job_with_inputs_syncs_first(studio: Studio) -> None:
    files = [
        studio.upload(b"scene"),
        studio.upload(b"#!/bin/sh", path="C:/tools/run.sh"),
        studio.upload(b"scene", path="/vol/otter/copy.ma"),
    ]
    job_id = submitted(studio, upload_files=files)
    job = the_job(studio, job_id)
    assert (job.status, job.sync.state) == (JobStatus.SYNC_PENDING, SyncState.PENDING)
    assert job.sync.total_count == 2
    inputs = json.loads(read_object(studio, job_id, "spec.json"))["inputs"]
    assert inputs == [
        {"path": "/vol/otter/scene.ma", "md5": md5_of(b"scene"), "size": 5, "executable": False},
        {"path": "/tools/run.sh", "md5": md5_of(b"#!/bin/sh"), "size": 9, "executable": True},
        {"path": "/vol/otter/copy.ma", "md5": md5_of(b"scene"), "size": 5, "executable": False},
    ]


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


def test_the_same_body_again_is_the_same_job(studio: Studio) -> None:
    assert submitted(studio) == submitted(studio)
    assert len(studio.stored()[0]) == 1


def test_another_body_or_another_person_is_another_job(studio: Studio) -> None:
    first = submitted(studio)
    assert submitted(studio, job_title="take 2") != first
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


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"project": "nobody's"}, "project"),
    ({"project": "a/b/c"}, "project"),
    ({"project": None}, "project"),
    ({"instance_type": "cpu-1000"}, "instance_type"),
    ({"instance_type": None}, "instance_type"),
    ({"software_package_ids": ["maya-2025-linux", "wrong"]}, "software_package_ids"),
    ({"software_package_ids": "maya"}, "software_package_ids"),
    ({"tasks_data": []}, "tasks_data"),
    ({"tasks_data": None}, "tasks_data"),
    ({"tasks_data": {}}, "tasks_data"),
    ({"tasks_data": [{"command": "a", "frames": "1"}, 7]}, "tasks_data.1"),
    ({"tasks_data": [{"command": "", "frames": "1"}]}, "tasks_data.0.command"),
    ({"tasks_data": [{"command": "a" * 40_000, "frames": "1"}]}, "tasks_data.0.command"),
    ({"tasks_data": [{"command": "a"}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "a", "frames": "1-"}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "a", "frames": ""}]}, "tasks_data.0.frames"),
    ({"scout_frames": "first"}, "scout_frames"),
    ({"scout_frames": "1-10000000"}, "scout_frames"),
    ({"output_path": "/"}, "output_path"),
    ({"output_path": "X:"}, "output_path"),
    ({"output_path": "out/images"}, "output_path"),
    ({"output_path": "INVALID OUTPUT PATH"}, "output_path"),
    ({"output_path": ""}, "output_path"),
    ({"output_path": "/out/../.."}, "output_path"),
    ({"output_path": None}, "output_path"),
    ({"priority": "high"}, "priority"),
    ({"max_instances": -1}, "max_instances"),
    ({"autoretry_policy": {"preempted": {"max_retries": -1}}}, "autoretry_policy.preempted.max_retries"),
    ({"environment": {"A=B": "x"}}, "environment.A=B.key"),
    ({"environment": {"A": 1}}, "environment.A.value"),
    ({"environment": {str(n): "x" * 30_000 for n in range(9)}}, "environment"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {str(n): "x" for n in range(101)}}, "metadata"),
    ({"metadata": {str(n): "x" * 1000 for n in range(66)}}, "metadata"),
    ({"metadata": {"shot": "x" * 1025}}, "metadata.shot.value"),
    ({"metadata": {"shot": None}}, "metadata.shot.value"),
    ({"metadata": {"x" * 129: ""}}, f"metadata.{'x' * 128}.key"),
    ({"metadata": {"__shot__": ""}}, "metadata.__shot__.key"),
    ({"job_title": "x" * 1001}, "job_title"),
    ({"max_instances": 2**63}, "max_instances"),
    ({"software_package_ids": ["x" * 201]}, "software_package_ids.0"),
    ({"notify": {"emails": "ines"}}, "notify.emails"),
    ({"notify": {"emails": ["ines@otter.example"] * 101}}, "notify.emails"),
    ({"notify": {"emails": ["ines@otter.example", "x" * 255]}}, "notify.emails.1"),
    ({"upload_files": [{"destination": "rel", "md5": md5_of(b""), "st_size": 0}]}, "upload_files.0.destination"),
    ({"upload_files": [{"destination": "/a", "md5": "0" * 32, "st_size": 0}]}, "upload_files.0.md5"),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b""), "st_size": "0"}]}, "upload_files.0.st_size"),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b"never sent"), "st_size": 10}]}, "upload_files.0.md5"),
    ({"upload_files": [{"destination": "/a", "md5": None, "st_size": 10}], "local_upload": False}, "local_upload"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "name"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_is_refused_by_the_name_of_its_field_and_stores_nothing(
    studio: Studio, changed: dict[str, Any], name: str
) -> None:
    reply = studio.post("/jobs/", submission(**changed))
    assert reply.status_code == 422, reply.text
    assert name in reply.json["error"]["fields"]
    assert studio.stored() == ([], [])


def numbered(count: int) -> list[dict[str, str]]:
    return [{"command": "x", "frames": str(n)} for n in range(count)]


def test_too_many_scouts_are_refused_by_their_field_and_store_nothing(studio: Studio) -> None:
    asked = submission(tasks_data=numbered(1002), scout_frames="0-1000")
    reply = studio.post("/jobs/", asked)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["scout_frames"])
    assert studio.stored() == ([], [])


def test_the_largest_header_that_is_taken_fits_its_document_several_times(studio: Studio) -> None:
    widest = "\U0001f9a6"  # four bytes
    job_id = submitted(
        studio,
        tasks_data=numbered(20_000),
        scout_frames="19000-19999",
        job_title=widest * 1000,
        owner=widest * 200,
        location=widest * 200,
        output_path="/" + widest * 4095,
        metadata={f"{n:02}": "x" * 653 for n in range(100)},
        notify={"emails": [widest * 254] * 100},
    )
    job = the_job(studio, job_id)
    assert (len(job.scout_task_ids), len(job.metadata), len(job.blocks)) == (1000, 100, 20)
    assert len(json.dumps(job_fields(job), ensure_ascii=False, default=str).encode()) < 300_000


def test_only_the_first_faults_of_a_long_list_are_told(studio: Studio) -> None:
    unnamed = {f"{n}=": "" for n in range(100)}
    wrong = submission(notify={"emails": [""] * 100}, metadata=unnamed)
    fields = studio.post("/jobs/", wrong).json["error"]["fields"]
    assert len(fields) == 2 * MAX_COMPLAINTS


@pytest.mark.parametrize(
    "field",
    [
        "jobs.scout_task_ids", "jobs.metadata", "jobs.notify_emails", "jobs.title", "jobs.blocks",
        "pages.statuses", "pages.attempts", "pages.placed",
        "tasks.attempts", "tasks.command", "logs.lines",
    ],
)  # fmt: skip
def test_what_is_long_or_has_many_entries_is_in_no_index(field: str) -> None:
    overrides = json.loads((ROOT / "firestore.indexes.json").read_text())["fieldOverrides"]
    exempt = {f"{e['collectionGroup']}.{e['fieldPath']}" for e in overrides if not e["indexes"]}
    assert field in exempt


def test_all_that_is_wrong_is_told_at_once(studio: Studio) -> None:
    wrong = submission(output_path="/", tasks_data=[], priority="high")
    fields = studio.post("/jobs/", wrong).json["error"]["fields"]
    assert set(fields) == {"output_path", "tasks_data", "priority"}


def test_a_file_that_another_account_uploaded_is_not_in_the_store(
    new_studio: Callable[[], Studio],
) -> None:
    mine, theirs = new_studio(), new_studio()
    file = theirs.upload(b"their scene")
    reply = mine.post("/jobs/", submission(upload_files=[file]))
    assert list(reply.json["error"]["fields"]) == ["upload_files.0.md5"]


def test_a_file_with_another_size_than_the_stores_is_refused(studio: Studio) -> None:
    file = studio.upload(b"scene") | {"st_size": 6}
    fields = studio.post("/jobs/", submission(upload_files=[file])).json["error"]["fields"]
    assert list(fields) == ["upload_files.0.st_size"]


def test_two_files_that_would_be_one_on_the_node_are_refused(studio: Studio) -> None:
    files = [studio.upload(b"a", path="C:/tex/a.exr"), studio.upload(b"b", path="D:/tex/a.exr")]
    fields = studio.post("/jobs/", submission(upload_files=files)).json["error"]["fields"]
    assert list(fields) == ["upload_files.1.destination"]


def test_without_local_upload_a_job_is_taken_when_all_its_files_are_there(studio: Studio) -> None:
    file = studio.upload(b"scene")
    submitted(studio, upload_files=[file], local_upload=False)


def test_an_inactive_project_takes_no_jobs(studio: Studio) -> None:
    wiring.account_store().save_project(studio.account_id, Project(name="old", is_active=False))
    fields = studio.post("/jobs/", submission(project="old")).json["error"]["fields"]
    assert fields == {"project": "not active: old"}


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
    assert kai.post("/jobs/", submission()).json["error"]["fields"] == {
        "project": "not one of yours: otter"
    }
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


def test_no_job_of_ones_own_is_hidden_behind_many_of_others(
    studio: Studio, kai: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for take in range(2):
        submitted(studio, job_title=f"take {take}")
    own = submitted(studio, project="seal")
    read = wiring.job_store().jobs_between

    def one(account_id: str, above: str, below: str) -> list[Job]:
        return read(account_id, above, below)[:1]

    monkeypatch.setattr(wiring.job_store(), "jobs_between", one)
    monkeypatch.setattr(commands, "MAX_LISTED_JOBS", 1)
    assert listed(kai) == [own]


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
    assert studio.get("/api/v1/jobs").status_code == 403
    assert studio.post("/jobs/", submission()).status_code == 403


def test_a_body_over_32_mb_is_refused(studio: Studio) -> None:
    reply = studio.post("/jobs/", submission(job_title="x" * (33 * 1024 * 1024)))
    assert reply.status_code == 413
    assert studio.stored() == ([], [])


@pytest.mark.parametrize("body", [b"", b"no json", b"[]"])
def test_a_body_that_is_no_json_object_is_refused(studio: Studio, body: bytes) -> None:
    assert studio.web.post("/jobs/", headers=studio.headers, data=body).status_code == 422


def test_without_a_good_token_nothing_is_taken(studio: Studio) -> None:
    attempt = AttemptRef(studio.account_id, "00001", "000", 1)
    foreign = wiring.tokens().issue_attempt(attempt, wiring.now())
    for token in (None, "nonsense", foreign):
        studio.headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert studio.post("/jobs/", submission()).status_code == 401
    studio.sign_in(lifetime=timedelta(minutes=-1))
    assert studio.post("/jobs/", submission()).status_code == 401
    assert studio.stored() == ([], [])


def test_a_token_opens_its_own_account_only(new_studio: Callable[[], Studio]) -> None:
    mine, theirs = new_studio(), new_studio()
    wiring.account_store().save_project(theirs.account_id, Project(name="theirs"))
    assert mine.post("/jobs/", submission(project="theirs")).status_code == 422
    job_id = submitted(theirs)
    assert mine.post(f"/jobs/{job_id}/downloads", {"tids": None}).status_code == 404
    killed = mine.put("/jobs_multi", {"action": "kill", "jobids": [job_id]})
    assert killed.status_code == 404
    assert mine.get("/api/v1/jobs").json == {"data": []}
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
