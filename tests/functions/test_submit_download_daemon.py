"""Download daemons: what is handed out, to whom, once; and the clients from before there were pages."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from shared import wiring
from shared.models.account import Principal, Role, User
from shared.models.job import Command, JobRef, JobStatus
from shared.models.task import Outcome, TaskStatus
from shared.services import downloads
from shared.services.control import order
from shared.services.download_daemon import next_downloads
from shared.services.settle import settle
from tests.functions.conftest import Studio
from tests.functions.frames import finish, render, start, status_of, submit
from tests.md5 import md5_of


def offered(studio: Studio, query: str = "?count=50") -> list[dict[str, Any]]:
    """Ask as a daemon does. Old daemons take nothing but 201."""
    reply = studio.get(f"/downloads/next{query}")
    assert reply.status_code == 201, reply.text
    found: list[dict[str, Any]] = reply.json["data"]
    return found


def offered_later(studio: Studio, **later: float) -> list[str]:
    """Ask so much later, without a location."""
    ports = replace(wiring.ports(), now=lambda: wiring.now() + timedelta(**later))
    asking = Principal(account_id=studio.account_id, user_id="ines", role=Role.OWNER)
    return ids(next_downloads(asking, "", 50, ports, wiring.download_store()))


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [f"{int(each['job_id'])}/{each['task_id']}" for each in found]


def report(studio: Studio, download: dict[str, Any], status: str) -> None:
    body = {"download_id": download["download_id"], "status": status}
    body |= {"bytes_downloaded": 0, "bytes_to_download": download["size"]}
    assert studio.post("/downloads/status", body).status_code == 200


def job_status(studio: Studio, job_id: str) -> JobStatus:
    return settle(JobRef(studio.account_id, job_id), wiring.ports()).status


# What is handed out


def test_nothing_to_fetch_is_an_empty_list(studio: Studio) -> None:
    submit(studio)
    assert offered(studio) == []


def test_frames_are_handed_out_with_all_that_daemons_read(studio: Studio) -> None:
    job_id = submit(studio, output_path="R:\\otter\\images")
    render(studio, job_id, 1)
    (download,) = offered(studio)
    where = {"output_dir": "R:/otter/images", "job_id": job_id, "task_id": "001"}
    (file,) = download.pop("files")
    content = requests.get(file.pop("url"), timeout=30).content
    assert download == {"download_id": f"{job_id}-001-1", "size": len(content), **where}
    assert file == {
        "relative_path": "beauty/a.0001.0.exr",
        "md5": md5_of(content),
        "size": len(content),
        **where,
    }


def test_the_oldest_jobs_come_first_and_no_more_than_asked_for(studio: Studio) -> None:
    first, second = submit(studio, 3), submit(studio, 3)
    render(studio, second, 0, 1)
    render(studio, first, 0, 2)
    assert ids(offered(studio, "?count=3")) == ["1/000", "1/002", "2/000"]
    assert ids(offered(studio, "?count=3")) == ["2/001"]


def test_frames_of_all_pages_of_a_job_are_handed_out(studio: Studio) -> None:
    job_id = submit(studio, 130)
    render(studio, job_id, 7, 99, 100, 129)
    assert ids(offered(studio)) == ["1/007", "1/099", "1/100", "1/129"]


def test_an_answer_ends_with_the_task_that_fills_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.services.download_daemon.MAX_FILES_A_PAGE", 4)
    monkeypatch.setattr(downloads, "MAX_FILES_A_PAGE", 4)
    job_id = submit(studio, 130)
    render(studio, job_id, 0, 1, 2, 110, files=3)
    assert [len(offered(studio)) for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize("ending", [Outcome.FAILED, Outcome.KILLED])
def test_good_frames_of_a_job_that_came_to_nothing_are_handed_out(
    studio: Studio, ending: Outcome
) -> None:
    job_id = submit(studio, 2)
    render(studio, job_id, 0)
    if ending is Outcome.KILLED:
        order(JobRef(studio.account_id, job_id), Command.KILL, wiring.ports())
    else:
        finish(start(studio, job_id, 1), ending)
    assert job_status(studio, job_id) in (JobStatus.FAILED, JobStatus.KILLED)
    assert ids(offered(studio)) == ["1/000"]


# To whom


def test_a_daemon_is_handed_the_jobs_of_exactly_its_location(studio: Studio) -> None:
    for location in ("", "lisbon", "lisbon-2"):
        job_id = submit(studio, 1, location=location, job_title=f"at {location}")
        render(studio, job_id, 0)
    assert ids(offered(studio, "?count=5&location=porto")) == []
    assert ids(offered(studio, "?count=5&location=lisbon")) == ["2/000"]
    assert ids(offered(studio, "?count=5")) == ["1/000"]
    assert ids(offered(studio, "?location=lisbon-2")) == ["3/000"]
    assert offered(studio, "?location=") == []


def test_a_daemon_of_another_account_is_handed_nothing(
    studio: Studio, new_studio: Callable[[], Studio]
) -> None:
    stranger = new_studio()
    job_id = submit(studio, 1)
    render(studio, job_id, 0)
    assert offered(stranger) == []
    assert stranger.get(f"/downloads/{job_id}").status_code == 404
    body = {"download_id": f"{job_id}-000-1", "status": "downloaded"}
    assert stranger.post("/downloads/status", body).status_code == 404
    assert status_of(studio, job_id, "000") is TaskStatus.SUCCESS


def test_somebody_limited_to_other_projects_is_handed_nothing(studio: Studio) -> None:
    job_id = submit(studio, 1)
    render(studio, job_id, 0)
    user = User(user_id="kai", email="kai@otter.example", role=Role.USER, projects=("seal",))
    wiring.account_store().save_user(studio.account_id, user)
    studio.user_id = "kai"
    studio.sign_in(Role.USER)
    assert offered(studio) == []
    assert studio.get(f"/downloads/{job_id}").status_code == 404


# Once


def test_what_is_handed_out_is_nobody_elses_until_its_daemon_has_been_silent_too_long(
    studio: Studio,
) -> None:
    job_id = submit(studio, 2)
    render(studio, job_id, 0, 1)
    assert len(offered(studio)) == 2
    assert offered(studio) == []
    assert offered_later(studio, minutes=9) == []
    assert offered_later(studio, minutes=11) == ["1/000", "1/001"]


def test_of_daemons_that_ask_at_once_each_is_handed_frames_of_its_own(studio: Studio) -> None:
    job_id = submit(studio, 12)
    render(studio, job_id, *range(12))
    asking = Principal(account_id=studio.account_id, user_id="ines", role=Role.OWNER)

    def ask(_: int) -> list[str]:
        return ids(next_downloads(asking, "", 3, wiring.ports(), wiring.download_store()))

    with ThreadPoolExecutor(4) as pool:
        handed = [each for some in pool.map(ask, range(4)) for each in some]
    assert sorted(handed) == [f"1/{n:03}" for n in range(12)]


def test_a_daemon_that_says_it_is_downloading_keeps_its_frames(studio: Studio) -> None:
    job_id = submit(studio, 1)
    render(studio, job_id, 0)
    (download,) = offered(studio)
    report(studio, download, "downloading")
    assert offered(studio) == []
    assert status_of(studio, job_id, "000") is TaskStatus.SUCCESS


def test_frames_given_back_are_offered_at_once_and_after_that_ever_later(studio: Studio) -> None:
    job_id = submit(studio, 1)
    render(studio, job_id, 0)
    (download,) = offered(studio)
    report(studio, download, "pending")
    assert ids(offered(studio)) == ["1/000"]
    report(studio, download, "pending")
    assert offered(studio) == []
    assert offered_later(studio, seconds=31) == ["1/000"]
    assert status_of(studio, job_id, "000") is TaskStatus.SUCCESS


def test_a_job_is_downloaded_when_all_its_frames_are(studio: Studio) -> None:
    job_id = submit(studio, 2)
    render(studio, job_id, 0, 1)
    first, second = offered(studio)
    report(studio, first, "downloaded")
    assert job_status(studio, job_id) is JobStatus.SUCCESS
    for _ in range(2):
        report(studio, second, "downloaded")
    assert job_status(studio, job_id) is JobStatus.DOWNLOADED
    assert offered_later(studio, hours=24) == []


def test_a_task_without_a_file_is_downloaded_as_soon_as_a_daemon_asks(studio: Studio) -> None:
    job_id = submit(studio, 2)
    render(studio, job_id, 0, files=0)
    render(studio, job_id, 1)
    assert ids(offered(studio)) == ["1/001"]
    assert status_of(studio, job_id, "000") is TaskStatus.DOWNLOADED


def test_frames_that_are_rendered_anew_are_offered_anew(studio: Studio) -> None:
    job_id = submit(studio, 1)
    render(studio, job_id, 0)
    (old,) = offered(studio)
    reply = studio.put("/tasks_multi", {"action": "retry_all", "jobid": job_id, "taskids": ["000"]})
    assert reply.status_code == 200, reply.text
    finish(start(studio, job_id, 0, number=2), Outcome.SUCCESS, ["a.exr"])
    job_status(studio, job_id)
    (new,) = offered(studio)
    assert new["download_id"] == f"{job_id}-000-2"
    report(studio, old, "downloaded")
    assert status_of(studio, job_id, "000") is TaskStatus.SUCCESS


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("?count=many", "count"),
        ("?count=-1", "count"),
        (f"?count={'9' * 5000}", "count"),
        (f"?location={'x' * 201}", "location"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(
    studio: Studio, query: str, name: str
) -> None:
    reply = studio.get(f"/downloads/next{query}")
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, [name])


def test_who_asks_for_nothing_gets_nothing_and_takes_nothing(studio: Studio) -> None:
    render(studio, submit(studio, 1), 0)
    assert offered(studio, "?count=0") == []
    assert len(offered(studio)) == 1


# Clients before version 8


def test_an_old_client_gets_the_whole_job_under_the_id_as_typed(studio: Studio) -> None:
    job_id = submit(studio, 130)
    render(studio, job_id, 0, 99, 129)
    for typed in (job_id, str(int(job_id))):
        reply = studio.get(f"/downloads/{typed}")
        assert (reply.status_code, list(reply.json)) == (201, ["downloads"])
        assert ids(reply.json["downloads"]) == ["1/000", "1/099", "1/129"]
    (file,) = reply.json["downloads"][0]["files"]
    assert set(file) >= {"url", "relative_path", "md5", "size", "job_id", "task_id"}


def test_an_old_client_gets_one_task_at_a_time(studio: Studio) -> None:
    job_id = submit(studio, 3)
    render(studio, job_id, 0, 1)
    for tid, told in (("001", ["1/001"]), ("1", ["1/001"]), ("002", []), ("5000", [])):
        reply = studio.get(f"/downloads/{job_id}?tid={tid}")
        assert (reply.status_code, ids(reply.json["downloads"])) == (201, told)
    assert studio.get(f"/downloads/{job_id}?tid=x").status_code == 422


def test_a_job_too_large_for_one_answer_is_refused_rather_than_cut(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_FILES_AT_ONCE", 3)
    job_id = submit(studio, 2)
    render(studio, job_id, 0, 1, files=2)
    assert studio.get(f"/downloads/{job_id}").status_code == 413
    assert studio.get(f"/downloads/{job_id}?tid=000").status_code == 201


@pytest.mark.parametrize("unknown", ["99999", "x", "9" * 2000])
def test_an_unknown_job_is_not_found(studio: Studio, unknown: str) -> None:
    assert studio.get(f"/downloads/{unknown}").status_code == 404


def test_a_failure_is_taken_note_of_whatever_it_says(studio: Studio) -> None:
    reply = studio.web.post("/downloads/7/fail", headers=studio.headers, data="could not write")
    assert reply.status_code == 200


def test_nobody_without_a_token_is_answered(studio: Studio) -> None:
    studio.headers = {}
    for path in ("/downloads/next", "/downloads/00001"):
        assert studio.get(path).status_code == 401
    assert studio.post("/downloads/1/fail", {}).status_code == 401
