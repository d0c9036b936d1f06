"""Frames whose list is gone from the store: they are left out, whoever asks, and the others are fetched."""

import json
from typing import Any

import pytest
import requests

from shared import wiring
from shared.models.job import AttemptRef
from shared.services.attempts import manifest_name
from tests.functions.conftest import Studio
from tests.functions.frames import render, submit


@pytest.fixture
def job_id(studio: Studio) -> str:
    """A job of three tasks with frames; the list of the second one's is gone."""
    found = submit(studio)
    render(studio, found, 0, 1, 2)
    wiring.ports().blobs.delete(manifest_name(AttemptRef(studio.account_id, found, "001", 1)))
    return found


def task_ids(found: list[dict[str, Any]]) -> list[str]:
    return [each["task_id"] for each in found]


def errors(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [json.loads(record.message) for record in caplog.records if record.name == "baton"]
    return [line for line in lines if line["severity"] == "ERROR"]


def test_a_daemon_is_handed_the_others_and_the_loss_is_logged(
    studio: Studio, job_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = studio.get("/downloads/next?count=5")
    assert (reply.status_code, task_ids(reply.json["data"])) == (201, ["000", "002"])
    (line,) = errors(caplog)
    assert line == {
        "severity": "ERROR",
        "event": "list of files gone",
        "account_id": studio.account_id,
        "job_id": job_id,
        "task_id": "001",
        "attempt": 1,
    }


def test_a_client_gets_past_them_page_by_page(studio: Studio, job_id: str) -> None:
    seen: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/jobs/{job_id}/downloads?limit=1&start_cursor={cursor}"
        reply = studio.post(path, {"tids": None})
        assert reply.status_code == 201, reply.text
        seen.append(task_ids(reply.json["downloads"]))
        cursor = reply.json["next_cursor"]
    assert seen == [["000"], [], ["002"]]


def test_the_files_that_are_told_have_the_urls_of_their_own_task(
    studio: Studio, job_id: str
) -> None:
    reply = studio.post(f"/jobs/{job_id}/downloads?limit=50", {"tids": None})
    for download in reply.json["downloads"]:
        (file,) = download["files"]
        content = f"{download['task_id']} {file['relative_path']}".encode()
        assert requests.get(file["url"], timeout=30).content == content


def test_an_old_client_gets_the_others(studio: Studio, job_id: str) -> None:
    reply = studio.get(f"/downloads/{job_id}")
    assert (reply.status_code, task_ids(reply.json["downloads"])) == (201, ["000", "002"])
