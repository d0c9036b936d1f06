"""Upload daemons: what clients leave to them is handed out once, watched, checked on arrival, and never lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from shared import wiring
from shared.models.account import Role, User
from shared.models.job import JobRef, JobStatus, SyncState, UploadState
from shared.models.task import WaitingFor
from shared.services import submit as submit_service
from shared.services import sync as sync_service
from shared.services import upload_daemon
from shared.services.attempts import spec_name
from shared.services.sync import sync
from shared.services.upload_daemon import MOST_TRIES, files_name
from tests.functions.conftest import Studio, object_names, submission
from tests.md5 import md5_of

SCENE = "/vol/otter/scene.ma"
WOOD = "R:/Tex/wood.tx"
CONTENTS = {SCENE: b"scene", WOOD: b"wood, quite a lot of it"}
NEXT = "/uploads/client/next"


def asked(path: str, content: bytes, md5: str | None = None) -> dict[str, Any]:
    return {"destination": path, "md5": md5, "st_size": len(content), "st_mode": 0o100644}


def submit(studio: Studio, location: str = "", **changed: Any) -> str:
    """Submit a job whose files a daemon shall send; returns its id."""
    files = [asked(path, content) for path, content in CONTENTS.items()]
    body: dict[str, Any] = {"local_upload": False, "location": location, "upload_files": files}
    reply = studio.post("/jobs/", submission(**(body | changed)))
    assert reply.status_code == 201, reply.text
    return str(reply.json["jobid"])


def take(studio: Studio, location: str | None = None) -> Any:
    """Return what a daemon gets to do; None when nothing waits."""
    reply = studio.put(NEXT, {"location": location})
    if reply.status_code == 204:
        assert reply.data == b""
        return None
    assert reply.status_code == 201, reply.text
    return reply.json["data"]


def send(studio: Studio, contents: dict[str, bytes] = CONTENTS) -> dict[str, Any]:
    """Send the files as the uploader does, and return what it tells afterwards."""
    for path, content in contents.items():
        studio.upload(content, path)
    return {path: {"source": path, "md5": md5_of(each)} for path, each in contents.items()}


def finish(studio: Studio, job_id: str, files: dict[str, Any]) -> Any:
    body = {"upload_id": job_id, "status": "server_pending", "upload_files": files}
    return studio.post(f"/uploads/{job_id}/finish", body)


def update(studio: Studio, job_id: str, sent: int, total: int) -> Any:
    body = {"upload_id": job_id, "transfer_size": total, "bytes_transfered": sent}
    return studio.post(f"/uploads/{job_id}/update", body)


def fail(studio: Studio, job_id: str, text: str) -> Any:
    headers = studio.headers | {"Content-Type": "application/json"}
    return studio.web.post(f"/uploads/{job_id}/fail", headers=headers, data=text)


def job_of(studio: Studio, job_id: str) -> Any:
    return wiring.job_store().job(JobRef(studio.account_id, job_id))


def run_out(studio: Studio, job_id: str) -> None:
    """Let the lease or the pause of an upload be over."""
    queued = wiring.upload_store().find(JobRef(studio.account_id, job_id))
    assert queued is not None
    assert wiring.upload_store().change(queued, holder=queued.holder, available_at=wiring.now())


def give_up(studio: Studio, job_id: str, reason: str) -> None:
    """Let one daemon after the other fail at an upload until nobody gets it any more."""
    for _ in range(MOST_TRIES):
        assert take(studio)["id"] == job_id
        fail(studio, job_id, reason)
        if is_queued(studio, job_id):
            run_out(studio, job_id)


def is_queued(studio: Studio, job_id: str) -> bool:
    return wiring.upload_store().find(JobRef(studio.account_id, job_id)) is not None


# Submission


def test_a_job_whose_files_a_daemon_sends_waits_for_it_and_says_where(studio: Studio) -> None:
    job = job_of(studio, submit(studio, "lisbon"))
    assert (job.status, job.waiting_for) == (JobStatus.UPLOAD_PENDING, WaitingFor.UPLOAD)
    assert "lisbon" in job.waiting_note
    total_bytes = sum(map(len, CONTENTS.values()))
    assert (job.upload.file_count, job.upload.total_bytes) == (2, total_bytes)
    job = job_of(studio, submit(studio, job_title="elsewhere"))
    assert "without a location" in job.waiting_note


@pytest.mark.parametrize("files", [[], None])
def test_a_job_without_files_starts_though_a_daemon_was_named(
    studio: Studio, files: list[Any] | None
) -> None:
    job_id = submit(studio, upload_files=files)
    assert job_of(studio, job_id).status is JobStatus.PENDING
    assert take(studio) is None


def test_a_job_whose_files_are_all_stored_waits_for_no_daemon(studio: Studio) -> None:
    job_id = submit(studio, upload_files=[studio.upload(b"scene", SCENE)])
    assert job_of(studio, job_id).status is JobStatus.SYNC_PENDING
    assert take(studio) is None


def test_files_without_md5_that_no_daemon_sends_are_refused(studio: Studio) -> None:
    body = submission(local_upload=True, upload_files=[asked(SCENE, b"scene")])
    reply = studio.post("/jobs/", body)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["local_upload"])


def test_a_submission_that_is_repeated_is_one_upload(studio: Studio) -> None:
    assert submit(studio) == submit(studio)
    assert take(studio) is not None
    assert take(studio) is None


def test_a_repeated_submission_leaves_a_finished_upload_alone(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    finish(studio, job_id, send(studio))
    spec = wiring.blobs().read(spec_name(job_of(studio, job_id)))
    assert submit(studio) == job_id
    assert wiring.blobs().read(spec_name(job_of(studio, job_id))) == spec
    assert job_of(studio, job_id).upload.state is UploadState.DONE
    assert take(studio) is None
    assert not is_queued(studio, job_id)


# The way of an upload


def test_an_upload_goes_from_its_daemon_to_the_agents(studio: Studio) -> None:
    job_id = submit(studio)
    found = take(studio)
    assert found == {
        "id": job_id,
        "project": "otter",
        "upload_files": {SCENE: None, WOOD: None},
    }
    assert job_of(studio, job_id).status is JobStatus.UPLOADING
    assert update(studio, job_id, 0, 28).status_code == 200
    assert update(studio, job_id, 5, 28).status_code == 200
    job = job_of(studio, job_id)
    assert (job.upload.sent_bytes, job.upload.total_bytes) == (5, 28)
    assert finish(studio, job_id, send(studio)).status_code == 200
    job = job_of(studio, job_id)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_PENDING, WaitingFor.SYNC)
    spec = orjson.loads(wiring.blobs().read(spec_name(job)))
    assert [(each["path"], each["md5"], each["size"]) for each in spec["inputs"]] == [
        (SCENE, md5_of(b"scene"), 5),
        ("/Tex/wood.tx", md5_of(CONTENTS[WOOD]), 23),
    ]
    assert spec["environment"]["PATH"]
    sync(job.ref, wiring.ports())
    assert job_of(studio, job_id).sync.state is SyncState.DONE
    assert not is_queued(studio, job_id)


def test_a_known_md5_is_told_for_the_daemon_to_check(studio: Studio) -> None:
    md5 = md5_of(b"scene")
    job_id = submit(studio, upload_files=[asked(SCENE, b"scene", md5)])
    assert take(studio)["upload_files"] == {SCENE: md5}
    other = {SCENE: {"source": SCENE, "md5": studio.upload(b"other", SCENE)["md5"]}}
    reply = finish(studio, job_id, other)
    assert reply.status_code == 422
    assert "changed" in reply.json["error"]["fields"][f"upload_files.{SCENE}"]
    studio.upload(b"scene", SCENE)
    assert finish(studio, job_id, {SCENE: {"source": SCENE, "md5": md5}}).status_code == 200


def test_a_windows_path_is_handed_out_as_the_artist_has_it(studio: Studio) -> None:
    paths = ["R:/Tex/wood.tx", "r:\\Tex\\Größe.tx", "//srv/share/a.abc"]
    submit(studio, upload_files=[asked(path, b"x") for path in paths])
    assert list(take(studio)["upload_files"]) == paths


def test_progress_never_goes_back_within_one_try(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    update(studio, job_id, 20, 28)
    update(studio, job_id, 10, 28)
    assert job_of(studio, job_id).upload.sent_bytes == 20
    run_out(studio, job_id)
    take(studio)
    assert job_of(studio, job_id).upload.sent_bytes == 0


@pytest.mark.parametrize("body", [{}, {"transfer_size": None, "bytes_transfered": None}])
def test_an_update_may_say_nothing_of_bytes(studio: Studio, body: dict[str, Any]) -> None:
    job_id = submit(studio)
    take(studio)
    assert studio.post(f"/uploads/{job_id}/update", body).status_code == 200
    assert job_of(studio, job_id).upload.total_bytes == 28


# Once, and to whom


def test_of_several_daemons_one_gets_an_upload(studio: Studio) -> None:
    first, second = submit(studio, job_title="1"), submit(studio, job_title="2")
    assert [take(studio)["id"], take(studio)["id"]] == [first, second]
    assert take(studio) is None


def test_many_daemons_that_ask_at_once_get_each_their_own(studio: Studio) -> None:
    job_ids = {submit(studio, job_title=str(n)) for n in range(10)}
    app = studio.web.application

    def ask(_: int) -> str | None:
        reply: Any = app.test_client().put(NEXT, headers=studio.headers, data=b'{"location": null}')
        return None if reply.status_code == 204 else reply.json["data"]["id"]

    with ThreadPoolExecutor(8) as pool:
        found = [each for each in pool.map(ask, range(24)) if each is not None]
    assert sorted(found) == sorted(job_ids)


@pytest.mark.parametrize(
    ("job", "daemon", "is_handed_out"),
    [
        ("", None, True),
        ("", "", True),
        ("lisbon", "lisbon", True),
        ("lisbon", None, False),
        ("lisbon", "Lisbon", False),
        ("", "lisbon", False),
    ],
)
def test_a_daemon_serves_exactly_its_own_location(
    studio: Studio, job: str, daemon: str | None, is_handed_out: bool
) -> None:
    submit(studio, job)
    assert (take(studio, daemon) is not None) is is_handed_out


def test_a_user_of_some_projects_gets_no_uploads_of_others(studio: Studio) -> None:
    job_id = submit(studio)
    user = User(user_id="kai", email="kai@otter.example", role=Role.USER, projects=("reef",))
    wiring.account_store().save_user(studio.account_id, user)
    owner, studio.user_id = dict(studio.headers), "kai"
    studio.sign_in(Role.USER)
    assert take(studio) is None
    assert update(studio, job_id, 1, 2).status_code == 404
    assert finish(studio, job_id, {}).status_code == 404
    assert fail(studio, job_id, "x").status_code == 404
    studio.headers = owner
    assert take(studio) is not None


# Silence


def test_the_upload_of_a_silent_daemon_goes_to_the_next(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    run_out(studio, job_id)
    assert take(studio)["id"] == job_id
    assert take(studio) is None
    assert job_of(studio, job_id).upload.tries == 2


def test_a_report_keeps_the_lease(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    run_out(studio, job_id)
    update(studio, job_id, 1, 28)
    assert take(studio) is None
    assert job_of(studio, job_id).status is JobStatus.UPLOADING


def test_a_report_of_another_daemon_keeps_no_lease_and_shows_nothing(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    studio.headers["User-Agent"] = "client ciocore/6.3.0 (host pid)"
    run_out(studio, job_id)
    assert update(studio, job_id, 20, 28).status_code == 200
    assert job_of(studio, job_id).upload.sent_bytes == 0
    assert fail(studio, job_id, "I never had it").status_code == 200
    assert job_of(studio, job_id).upload.state is UploadState.SENDING
    assert take(studio)["id"] == job_id


def test_the_job_says_when_its_daemon_fell_silent(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    ref = job_of(studio, job_id).ref
    sync(ref, wiring.ports())
    assert job_of(studio, job_id).status is JobStatus.UPLOADING
    run_out(studio, job_id)
    sync(ref, wiring.ports())
    job = job_of(studio, job_id)
    assert job.status is JobStatus.UPLOAD_PENDING
    assert "silent" in job.waiting_note


def test_an_upload_that_fell_out_of_the_queue_is_put_back(studio: Studio) -> None:
    job_id = submit(studio)
    ref = job_of(studio, job_id).ref
    wiring.upload_store().remove(ref)
    assert take(studio) is None
    sync(ref, wiring.ports())
    assert take(studio)["id"] == job_id


def test_an_upload_that_nobody_can_send_any_more_keeps_no_other_waiting(studio: Studio) -> None:
    hopeless, good = submit(studio), submit(studio, job_title="good")
    wiring.blobs().delete(files_name(job_of(studio, hopeless).ref))
    assert take(studio)["id"] == good
    job = job_of(studio, hopeless)
    assert (job.upload.state, is_queued(studio, hopeless)) == (UploadState.FAILED, False)
    assert "not in the store" in job.waiting_note


# Finish


def test_finishing_twice_is_finishing_once(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    files = send(studio)
    assert [finish(studio, job_id, files).status_code for _ in range(2)] == [200, 200]
    before = job_of(studio, job_id)
    assert update(studio, job_id, 1, 28).status_code == 200
    assert fail(studio, job_id, "too late").status_code == 200
    assert job_of(studio, job_id) == before


def test_a_daemon_whose_lease_ran_out_may_still_finish(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    run_out(studio, job_id)
    studio.headers["User-Agent"] = "another"
    take(studio)
    studio.headers["User-Agent"] = "the first one"
    assert finish(studio, job_id, send(studio)).status_code == 200
    assert job_of(studio, job_id).upload.state is UploadState.DONE


def test_files_that_did_not_arrive_are_named_and_the_upload_waits_for_another_try(
    studio: Studio,
) -> None:
    job_id = submit(studio)
    take(studio)
    files = send(studio, {SCENE: b"scene"})
    said = {"source": WOOD, "md5": md5_of(CONTENTS[WOOD])}
    for _ in range(3):  # the clients repeat what was refused
        reply = finish(studio, job_id, files | {WOOD: said})
        assert reply.status_code == 422
        assert list(reply.json["error"]["fields"]) == [f"upload_files.{WOOD}"]
    job = job_of(studio, job_id)
    assert (job.status, job.upload.tries) == (JobStatus.UPLOAD_PENDING, 1)
    assert WOOD in job.waiting_note
    assert take(studio) is None  # not while the refused call may come again
    run_out(studio, job_id)
    assert take(studio)["id"] == job_id
    assert finish(studio, job_id, send(studio)).status_code == 200


def test_files_that_were_not_reported_are_missing(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    reply = finish(studio, job_id, {})
    fields = reply.json["error"]["fields"]
    assert (reply.status_code, len(fields)) == (422, 2)


def test_after_some_tries_in_vain_a_person_must_look(studio: Studio) -> None:
    job_id = submit(studio)
    for _ in range(MOST_TRIES):
        assert take(studio) is not None
        assert finish(studio, job_id, {}).status_code == 422
        if is_queued(studio, job_id):
            run_out(studio, job_id)
    assert take(studio) is None
    job = job_of(studio, job_id)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_FAILED, WaitingFor.UPLOAD)
    assert SCENE in job.waiting_note


# More files than one call looks for


TEXTURES = {f"/tex/{n}": f"texture {n}".encode() for n in range(5)}


@pytest.fixture(name="few_together")
def few_together_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call looks for two files, and so does a message."""
    monkeypatch.setattr(submit_service, "MAX_LOOKED_FOR", 2)
    monkeypatch.setattr(upload_daemon, "MAX_LOOKED_FOR", 2)
    monkeypatch.setattr(sync_service, "FILES_TOGETHER", 2)


def submit_textures(studio: Studio, **changed: Any) -> str:
    files = [asked(path, content) for path, content in TEXTURES.items()]
    return submit(studio, upload_files=files, **changed)


def said(contents: dict[str, bytes]) -> dict[str, Any]:
    return {path: {"source": path, "md5": md5_of(each)} for path, each in contents.items()}


def sync_all(studio: Studio, job_id: str) -> Any:
    """Play the messages of a job's sync; returns the job afterwards."""
    for _ in range(3):
        sync(job_of(studio, job_id).ref, wiring.ports())
    return job_of(studio, job_id)


def sizes_of(studio: Studio, job_id: str) -> dict[str, int]:
    """Return what the agents are told, by path."""
    spec = orjson.loads(wiring.blobs().read(spec_name(job_of(studio, job_id))))
    return {each["path"]: each["size"] for each in spec["inputs"]}


@pytest.mark.usefixtures("few_together")
def test_files_beyond_those_that_finish_looks_for_are_synced_with_the_sizes_of_the_store(
    studio: Studio,
) -> None:
    job_id = submit_textures(studio)
    take(studio)
    contents = TEXTURES | {"/tex/2": b"saved once more", "/tex/4": b"and another"}
    assert finish(studio, job_id, send(studio, contents)).status_code == 200
    job = sync_all(studio, job_id)
    assert (job.sync.state, job.sync.done_count) == (SyncState.DONE, 5)
    assert sizes_of(studio, job_id) == {path: len(each) for path, each in contents.items()}


@pytest.mark.usefixtures("few_together")
def test_what_the_sync_does_not_find_of_an_upload_is_sent_by_the_next_daemon(
    studio: Studio,
) -> None:
    job_id = submit_textures(studio)
    take(studio)
    send(studio, {path: each for path, each in TEXTURES.items() if path != "/tex/3"})
    assert finish(studio, job_id, said(TEXTURES)).status_code == 200
    job = sync_all(studio, job_id)
    assert (job.status, job.waiting_for) == (JobStatus.UPLOAD_PENDING, WaitingFor.UPLOAD)
    assert "/tex/3 is missing" in job.waiting_note
    assert take(studio)["id"] == job_id
    assert finish(studio, job_id, send(studio, TEXTURES)).status_code == 200
    assert sync_all(studio, job_id).sync.state is SyncState.DONE


@pytest.mark.usefixtures("few_together")
def test_what_no_daemon_ever_sends_is_for_a_person_to_look_at(studio: Studio) -> None:
    job_id = submit_textures(studio)
    send(studio, {path: TEXTURES[path] for path in ("/tex/0", "/tex/1")})
    for _ in range(MOST_TRIES):
        assert take(studio)["id"] == job_id
        assert finish(studio, job_id, said(TEXTURES)).status_code == 200
        job = sync_all(studio, job_id)
    assert take(studio) is None
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_FAILED, WaitingFor.UPLOAD)
    assert "/tex/2 is missing" in job.waiting_note
    studio.put("/jobs_multi", {"action": "retry_sync", "jobids": [job_id]})
    assert take(studio)["id"] == job_id


@pytest.mark.usefixtures("few_together")
def test_many_stored_files_that_a_daemon_shall_send_are_left_to_it(studio: Studio) -> None:
    files = [studio.upload(content, path) for path, content in TEXTURES.items()]
    job_id = submit(studio, upload_files=files)
    assert job_of(studio, job_id).status is JobStatus.UPLOAD_PENDING
    assert list(take(studio)["upload_files"]) == list(TEXTURES)
    assert finish(studio, job_id, said(TEXTURES)).status_code == 200
    assert sync_all(studio, job_id).sync.state is SyncState.DONE


def test_an_upload_that_no_daemon_could_ever_finish_is_refused(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_bytes = len(orjson.dumps(said(TEXTURES)))
    monkeypatch.setattr(submit_service, "MAX_FINISH_BYTES", said_bytes)
    files = [asked(path, content) for path, content in TEXTURES.items()]
    body = submission(local_upload=False, location="", upload_files=files)
    reply = studio.post("/jobs/", body)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["upload_files"])
    monkeypatch.setattr(submit_service, "MAX_FINISH_BYTES", 2 * said_bytes)
    assert studio.post("/jobs/", body).status_code == 201


def test_two_files_at_one_place_of_the_node_are_told(studio: Studio) -> None:
    files = [asked("C:/a.tx", b"one"), asked("D:/a.tx", b"two")]
    job_id = submit(studio, upload_files=files)
    take(studio)
    sent = send(studio, {"C:/a.tx": b"one", "D:/a.tx": b"two"})
    assert "on the node" in finish(studio, job_id, sent).text
    same = send(studio, {"C:/a.tx": b"one", "D:/a.tx": b"one"})
    assert finish(studio, job_id, same).status_code == 200


# Failure


def test_a_daemons_failure_is_shown_on_the_job_in_its_own_words(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    text = f"Uploader ERROR: MD5 of {SCENE} has changed since submission\nmore"
    assert fail(studio, job_id, text).status_code == 200
    job = job_of(studio, job_id)
    assert (job.status, job.waiting_for) == (JobStatus.UPLOAD_PENDING, WaitingFor.UPLOAD)
    assert f"MD5 of {SCENE} has changed since submission more" in job.waiting_note


def test_what_one_daemon_fails_at_the_next_may_do_after_a_pause(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    # The second is the same report once more, whose first answer got lost.
    assert [fail(studio, job_id, "no route to host").status_code for _ in range(2)] == [200, 200]
    assert take(studio) is None
    run_out(studio, job_id)
    assert take(studio)["id"] == job_id
    assert finish(studio, job_id, send(studio)).status_code == 200
    job = job_of(studio, job_id)
    assert (job.status, job.upload.tries) == (JobStatus.SYNC_PENDING, 2)


def test_an_upload_at_which_every_daemon_fails_is_for_a_person_to_look_at(studio: Studio) -> None:
    job_id = submit(studio)
    give_up(studio, job_id, "the disk was full")
    job = job_of(studio, job_id)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_FAILED, WaitingFor.UPLOAD)
    assert job.waiting_note == f"the upload failed: the disk was full, after {MOST_TRIES} tries"
    assert take(studio) is None
    assert fail(studio, job_id, "the disk was full").status_code == 200


def test_of_an_old_daemons_traceback_the_last_error_is_shown(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    text = f'Traceback (most recent call last):\n  File "a.py", line 1\nException: MD5 of {WOOD} é'
    headers = studio.headers | {"Content-Type": "application/json"}
    body = text.encode("latin-1")
    studio.web.post(f"/uploads/{job_id}/fail", headers=headers, data=body)
    assert job_of(studio, job_id).waiting_note == (
        f"MD5 of {WOOD} é; waits for an upload daemon without a location (2 files)"
    )


@pytest.mark.parametrize("action", ["retry_sync", "retry"])
def test_a_retry_queues_a_failed_upload_again(studio: Studio, action: str) -> None:
    job_id = submit(studio)
    give_up(studio, job_id, "the disk was full")
    assert studio.put("/jobs_multi", {"action": action, "jobids": [job_id]}).status_code == 200
    sync(job_of(studio, job_id).ref, wiring.ports())
    assert take(studio)["id"] == job_id
    assert job_of(studio, job_id).upload.tries == 1


def test_a_failure_without_a_word_is_a_failure(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    assert fail(studio, job_id, "").status_code == 200
    assert "did not say why" in job_of(studio, job_id).waiting_note


def test_a_very_long_failure_is_cut_short(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    assert fail(studio, job_id, "é" * 500_000).status_code == 200
    assert len(job_of(studio, job_id).waiting_note) < 1100


def test_a_failed_upload_that_arrives_after_all_is_taken(studio: Studio) -> None:
    job_id = submit(studio)
    give_up(studio, job_id, "gave up")
    assert finish(studio, job_id, send(studio)).status_code == 200
    assert job_of(studio, job_id).status is JobStatus.SYNC_PENDING


# Kill


def test_the_upload_of_a_killed_job_is_withdrawn(studio: Studio) -> None:
    job_id = submit(studio)
    assert studio.put("/jobs_multi", {"action": "kill", "jobids": [job_id]}).status_code == 200
    assert take(studio) is None
    assert not is_queued(studio, job_id)
    assert job_of(studio, job_id).status is JobStatus.KILLED


def test_a_daemon_that_sends_for_a_killed_job_changes_nothing(studio: Studio) -> None:
    job_id = submit(studio)
    take(studio)
    studio.put("/jobs_multi", {"action": "kill", "jobids": [job_id]})
    before = job_of(studio, job_id)
    assert update(studio, job_id, 20, 28).status_code == 200
    assert finish(studio, job_id, send(studio)).status_code == 200
    assert fail(studio, job_id, "x").status_code == 200
    assert job_of(studio, job_id) == before


# Walls


def test_an_upload_of_another_account_is_not_there(new_studio: Callable[[], Studio]) -> None:
    mine, theirs = new_studio(), new_studio()
    job_id = submit(mine)
    take(mine)
    before = job_of(mine, job_id)
    assert take(theirs) is None
    for reply in (
        update(theirs, job_id, 20, 28),
        finish(theirs, job_id, send(theirs)),
        fail(theirs, job_id, "x"),
    ):
        unknown = update(theirs, "99999", 1, 1).json["error"]["message"]
        assert reply.status_code == 404
        assert reply.json["error"]["message"].replace(job_id, "99999") == unknown
    assert job_of(mine, job_id) == before


@pytest.mark.parametrize("upload_id", ["x", "1.5", "9" * 13, "%2e%2e", "00001-"])
def test_what_is_no_upload_is_not_there(studio: Studio, upload_id: str) -> None:
    assert update(studio, upload_id, 1, 1).status_code == 404


def test_without_a_token_nothing_is_handed_out_or_noted(studio: Studio) -> None:
    job_id = submit(studio)
    studio.headers = {}
    assert studio.put(NEXT, {"location": None}).status_code == 401
    for what in ("update", "finish", "fail"):
        assert studio.post(f"/uploads/{job_id}/{what}", {}).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (NEXT, {"location": 5}, "location"),
        (NEXT, {"location": "x" * 201}, "location"),
        ("/uploads/1/update", {"transfer_size": -1}, "transfer_size"),
        ("/uploads/1/update", {"bytes_transfered": "x"}, "bytes_transfered"),
        ("/uploads/1/finish", {}, "upload_files"),
        ("/uploads/1/finish", {"upload_files": []}, "upload_files"),
        ("/uploads/1/finish", {"upload_files": {"/a": {"md5": None}}}, "upload_files./a.md5"),
        ("/uploads/1/finish", {"upload_files": {"/a": "0" * 32}}, "upload_files./a.md5"),
    ],
)
def test_a_wrong_call_is_refused_by_the_name_of_its_field(
    studio: Studio, path: str, body: dict[str, Any], name: str
) -> None:
    reply = studio.put(path, body) if path == NEXT else studio.post(path, body)
    assert reply.status_code == 422
    assert list(reply.json["error"]["fields"]) == [name]


def test_a_failure_larger_than_any_is_refused(studio: Studio) -> None:
    assert fail(studio, submit(studio), "x" * (4 * 1024 * 1024 + 1)).status_code == 413


def test_the_list_for_the_agents_is_written_by_the_end_of_the_upload_only(studio: Studio) -> None:
    job_id = submit(studio)
    names = object_names(f"accounts/{studio.account_id}/jobs/{job_id}/")
    assert spec_name(job_of(studio, job_id)) not in names
