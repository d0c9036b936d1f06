"""Uploads to S3: clients send no MD5 along, so that what arrived is looked at before it counts."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import requests

from shared import wiring
from shared.models.job import JobRef, JobStatus, SyncState
from shared.services.attempts import blob_name
from shared.services.sync import sync
from tests.functions.conftest import MIB, Studio, submission
from tests.md5 import md5_of
from tests.s3_server import ENVIRONMENT, s3_server

URLS = "/api/v2/files/get_upload_urls"
COMPLETE = "/api/v2/files/multipart/complete"
SCENE = "/vol/otter/scene.ma"


@pytest.fixture
def s3(studio: Studio) -> Iterator[Studio]:
    """A studio whose files are on S3."""
    with s3_server() as (url, _), pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("BATON_BLOBS", "s3")
        patch.setenv("BATON_S3_ENDPOINT", url)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=wiring.setting("BATON_BUCKET"))
        _forget_blobs()
        yield studio
    _forget_blobs()


def _forget_blobs() -> None:
    wiring.blobs.cache_clear()
    wiring.ports.cache_clear()


def asked(studio: Studio, content: bytes) -> dict[str, Any]:
    file = {"path": SCENE, "hash": md5_of(content), "size": len(content)}
    reply = studio.post(URLS, {"upload_files": [file]})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json
    return found


def put(url: str, content: bytes) -> requests.Response:
    """Send a file as clients do that see an S3 URL."""
    assert "amazonaws" in url
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}
    answer = requests.put(url, data=content, headers=headers, timeout=30)
    answer.raise_for_status()
    return answer


def submit(studio: Studio, content: bytes) -> Any:
    file = {"md5": md5_of(content), "destination": SCENE, "st_size": len(content)}
    return studio.post("/jobs/", submission(upload_files=[file]))


@pytest.mark.parametrize("content", [b"scene", b""])
def test_a_file_goes_up_and_its_job_starts(s3: Studio, content: bytes) -> None:
    (entry,) = asked(s3, content)["singlePartURLs"]
    put(entry["preSignedURL"], content)
    assert asked(s3, content) == {"singlePartURLs": [], "multiPartURLs": []}
    reply = submit(s3, content)
    assert reply.status_code == 201
    ref = JobRef(s3.account_id, reply.json["jobid"])
    sync(ref, wiring.ports())
    assert wiring.job_store().job(ref).sync.state is SyncState.DONE


def test_other_bytes_than_announced_never_count_as_the_file(s3: Studio) -> None:
    (entry,) = asked(s3, b"scene")["singlePartURLs"]
    put(entry["preSignedURL"], b"other")
    reply = submit(s3, b"scene")
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["upload_files.0.md5"])
    (entry,) = asked(s3, b"scene")["singlePartURLs"]
    put(entry["preSignedURL"], b"scene")
    assert submit(s3, b"scene").status_code == 201


def test_bytes_that_are_replaced_after_the_submission_fail_the_sync(s3: Studio) -> None:
    (entry,) = asked(s3, b"scene")["singlePartURLs"]
    put(entry["preSignedURL"], b"scene")
    ref = JobRef(s3.account_id, submit(s3, b"scene").json["jobid"])
    put(entry["preSignedURL"], b"other")
    sync(ref, wiring.ports())
    job = wiring.job_store().job(ref)
    assert (job.status, SCENE in job.sync.reason) == (JobStatus.SYNC_FAILED, True)


def test_a_large_file_goes_up_in_parts(s3: Studio) -> None:
    content = bytes(range(256)) * 4096 * 7
    (entry,) = asked(s3, content)["multiPartURLs"]
    assert entry["partSize"] == 5 * MIB
    parts = []
    for part in entry["parts"]:
        start = (part["partNumber"] - 1) * entry["partSize"]
        answer = requests.put(
            part["url"], data=content[start : start + entry["partSize"]], timeout=30
        )
        etag = answer.headers["ETag"].strip('"')
        parts.append({"partNumber": part["partNumber"], "etag": etag})
    done = {"uploadID": entry["uploadID"], "hash": md5_of(content), "completedParts": parts}
    for _ in range(2):
        assert s3.post(COMPLETE, done).status_code == 200
    assert wiring.blobs().read(blob_name(s3.account_id, md5_of(content))) == content
    assert submit(s3, content).status_code == 201


def test_a_daemons_other_bytes_send_its_upload_back(s3: Studio) -> None:
    file = {"md5": None, "destination": SCENE, "st_size": 5, "st_mode": 0o100644}
    body = submission(upload_files=[file], local_upload=False, location="")
    reply = s3.post("/jobs/", body)
    job_id = reply.json["jobid"]
    assert s3.put("/uploads/client/next", {"location": None}).status_code == 201
    (entry,) = asked(s3, b"scene")["singlePartURLs"]
    put(entry["preSignedURL"], b"other")
    said = {"upload_files": {SCENE: {"source": SCENE, "md5": md5_of(b"scene")}}}
    assert s3.post(f"/uploads/{job_id}/finish", said).status_code == 422
    put(entry["preSignedURL"], b"scene")
    assert s3.post(f"/uploads/{job_id}/finish", said).status_code == 200


def test_what_is_no_store_is_said_at_once(
    new_studio: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_BLOBS", "tape")
    wiring.blobs.cache_clear()
    with pytest.raises(RuntimeError, match="tape"):
        wiring.blobs()
