"""Downloads: the frames of a job, page by page, and what the downloader reports back."""

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import requests
from google.cloud import firestore

from shared import wiring
from shared.core.lifecycle import Report
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef, JobRef, TaskRef
from shared.models.task import Outcome, Page, TaskStatus
from shared.services import downloads
from shared.services.attempts import Output, claim_attempt, finish_attempt, output_name
from shared.services.expand import expand
from shared.stores.jobs import FirestoreJobStore
from tests.functions import frames
from tests.functions.conftest import Studio, submission
from tests.md5 import md5_of

CLAIM = "claim-of-the-test-0001"


class CountingStore(FirestoreJobStore):
    """The store, which also notes the pages that were read whole."""

    def __init__(self, client: firestore.Client) -> None:
        super().__init__(client)
        self.pages_read: list[int] = []

    def page(self, ref: JobRef, number: int) -> Page:
        self.pages_read.append(number)
        return super().page(ref, number)


@pytest.fixture
def job_id(studio: Studio) -> str:
    """A job of 130 tasks, all waiting."""
    tasks = [{"command": f"render {n}", "frames": str(n)} for n in range(130)]
    body = submission(tasks_data=tasks, scout_frames="", output_path="R:\\otter\\images")
    found = str(studio.post("/jobs/", body).json["jobid"])
    expand(JobRef(studio.account_id, found), 0, 10, wiring.ports())
    return found


def render(studio: Studio, job_id: str, index: int, number: int = 1) -> None:
    """Have an agent render a task: one frame, or nothing for task 5."""
    ref = AttemptRef(studio.account_id, job_id, str(index).zfill(3), number)
    ports = wiring.ports()
    claim_attempt(ref, claim_id=CLAIM, instance="i", zone="z", ports=ports)
    content = f"frame {index}".encode()
    path = f"beauty/a.{index:04}.exr"
    outputs = (
        [] if index == 5 else [Output(relative_path=path, md5=md5_of(content), size=len(content))]
    )
    for _ in outputs:
        ports.blobs.write(output_name(ref, path), content, "application/octet-stream")
    said = Report(
        outcome=Outcome.SUCCESS,
        at=wiring.now(),
        claim=CLAIM,
        exit_code=0,
        output_count=len(outputs),
        output_bytes=sum(each.size for each in outputs),
    )
    finish_attempt(ref, said=said, outputs=outputs, ports=ports)


def page(
    studio: Studio, job_id: str, query: str = "?limit=50", tids: object = None
) -> dict[str, Any]:
    reply = studio.post(f"/jobs/{job_id}/downloads{query}", {"tids": tids})
    assert reply.status_code == 201, reply.text
    return dict(reply.json)


def task_ids(found: dict[str, Any]) -> list[str]:
    return [each["task_id"] for each in found["downloads"]]


def test_a_job_without_frames_gives_an_empty_page(studio: Studio, job_id: str) -> None:
    assert page(studio, job_id) == {"downloads": [], "next_cursor": None}


def test_a_finished_task_is_told_with_all_that_the_clients_read(
    studio: Studio, job_id: str
) -> None:
    render(studio, job_id, 7)
    (download,) = page(studio, job_id)["downloads"]
    where = {"output_dir": "R:/otter/images", "job_id": job_id, "task_id": "007"}
    (file,) = download.pop("files")
    assert download == {"download_id": f"{job_id}-007-1", "size": 7, **where}
    content = requests.get(file.pop("url"), timeout=30).content
    assert content == b"frame 7"
    assert file == {
        "relative_path": "beauty/a.0007.exr",
        "md5": md5_of(content),
        "size": 7,
        **where,
    }


def test_pages_follow_each_other_until_the_cursor_is_null(studio: Studio, job_id: str) -> None:
    wanted = [1, 5, 6, 98, 99, 100, 129]
    for index in wanted:
        render(studio, job_id, index)
    seen: list[str] = []
    cursor: str | None = ""
    calls = 0
    while cursor is not None:
        found = page(studio, job_id, f"?limit=2&start_cursor={cursor}")
        seen += task_ids(found)
        cursor, calls = found["next_cursor"], calls + 1
    assert seen == ["001", "006", "098", "099", "100", "129"]  # 005 made no file
    assert calls == 4


@pytest.mark.parametrize(("most", "calls"), [(1, 6), (2, 3), (3, 2), (1000, 1)])
def test_a_page_ends_with_the_task_that_fills_it(
    studio: Studio, job_id: str, monkeypatch: pytest.MonkeyPatch, most: int, calls: int
) -> None:
    monkeypatch.setattr(downloads, "MAX_FILES_A_PAGE", most)
    for index in (1, 5, 6, 98, 99, 100, 129):
        render(studio, job_id, index)
    seen: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        found = page(studio, job_id, f"?limit=50&start_cursor={cursor}")
        seen.append(task_ids(found))
        cursor = found["next_cursor"]
    assert list(chain(*seen)) == ["001", "006", "098", "099", "100", "129"]
    assert len(seen) == calls


def test_only_the_tasks_asked_for_are_told(studio: Studio, job_id: str) -> None:
    for index in (1, 2, 100):
        render(studio, job_id, index)
    assert task_ids(page(studio, job_id, tids=["001", "100", "099", "5000"])) == ["001", "100"]
    assert task_ids(page(studio, job_id, "", tids=["1", "1"])) == ["001"]
    assert task_ids(page(studio, job_id, tids=[])) == []


def test_pages_of_tasks_without_frames_are_passed_over(studio: Studio) -> None:
    job_id = frames.submit(studio, 501)
    frames.render(studio, job_id, 200, 500)
    asking = Principal(account_id=studio.account_id, user_id="ines", role=Role.OWNER)
    store = CountingStore(wiring.firestore_client())
    found = downloads.downloads_page(
        asking,
        job_id,
        task_ids=None,
        limit=50,
        cursor="",
        ports=replace(wiring.ports(), jobs=store),
    )
    assert task_ids(found) == ["200", "500"]
    assert store.pages_read == [0, 2, 5]


def test_job_ids_may_come_without_their_zeros(studio: Studio, job_id: str) -> None:
    render(studio, job_id, 1)
    assert task_ids(page(studio, str(int(job_id)))) == ["001"]


@pytest.mark.parametrize(
    ("query", "tids", "name"),
    [
        ("?limit=0", None, "limit"),
        ("?limit=many", None, "limit"),
        ("?limit=501", None, "limit"),
        (f"?limit={'9' * 5000}", None, "limit"),
        ("?start_cursor=-1", None, "start_cursor"),
        (f"?start_cursor={'9' * 5000}", None, "start_cursor"),
        ("", ["one"], "tids.0"),
        ("", "001", "tids"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(
    studio: Studio, job_id: str, query: str, tids: object, name: str
) -> None:
    reply = studio.post(f"/jobs/{job_id}/downloads{query}", {"tids": tids})
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, [name])


@pytest.mark.parametrize("unknown", ["99999", "x", "..%2F1", "9" * 2000])
def test_an_unknown_job_is_not_found(studio: Studio, unknown: str) -> None:
    assert studio.post(f"/jobs/{unknown}/downloads", {"tids": None}).status_code == 404


def report(studio: Studio, download_id: str, status: str = "downloaded") -> int:
    body = {
        "download_id": download_id,
        "status": status,
        "bytes_downloaded": 0,
        "bytes_to_download": 0,
    }
    return int(studio.post("/downloads/status", body).status_code)


def status_of(studio: Studio, job_id: str, task_id: str) -> TaskStatus:
    return wiring.job_store().task(TaskRef(studio.account_id, job_id, task_id)).status


def test_a_downloaded_task_says_so_and_can_be_downloaded_again(studio: Studio, job_id: str) -> None:
    render(studio, job_id, 1)
    assert report(studio, f"{job_id}-001-1", "pending") == 200
    assert status_of(studio, job_id, "001") is TaskStatus.SUCCESS
    for _ in range(2):
        assert report(studio, f"{job_id}-001-1") == 200
    assert status_of(studio, job_id, "001") is TaskStatus.DOWNLOADED
    assert task_ids(page(studio, job_id)) == ["001"]


def test_a_report_about_other_frames_than_the_tasks_own_changes_nothing(
    studio: Studio, job_id: str
) -> None:
    render(studio, job_id, 1)
    assert report(studio, f"{job_id}-001-2") == 200
    assert report(studio, f"{job_id}-002-1") == 200
    assert status_of(studio, job_id, "001") is TaskStatus.SUCCESS
    assert status_of(studio, job_id, "002") is TaskStatus.PENDING


@pytest.mark.parametrize("download_id", ["", "1", "a-b-c", "1-2-3-4", "../1-1"])
def test_a_report_with_a_foreign_id_is_refused(studio: Studio, download_id: str) -> None:
    assert report(studio, download_id) == 422
