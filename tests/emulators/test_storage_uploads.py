"""Uploads in several requests to the storage stand-in: resumable, and multipart by signed URLs."""

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, PreconditionFailed
from google.cloud.storage.blob import ResumableUpload
from google.cloud.storage.exceptions import InvalidResponse

from tests.emulators.test_storage_server import DEADLINE_S, StandIn, running
from tests.md5 import md5_of

MIB = 1 << 20
KIB_256 = 256 << 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("storage") / "data") as stand_in:
        yield stand_in


@pytest.fixture
def session(server: StandIn, request: pytest.FixtureRequest) -> str:
    """The address of a resumable upload to an object named after the test."""
    url: str = server.bucket.blob(request.node.name).create_resumable_upload_session()
    return url


def body_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def send(session: str, body: Any = b"", **headers: str) -> requests.Response:
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return requests.put(session, data=body, headers=sent, timeout=DEADLINE_S)


def kept(reply: requests.Response) -> tuple[int, str | None]:
    return reply.status_code, reply.headers.get("Range")


# Resumable, JSON API


def test_a_large_file_arrives_in_chunks(server: StandIn) -> None:
    body = body_of(3 * MIB + 17)
    blob = server.bucket.blob("chunked", chunk_size=MIB)
    blob.upload_from_file(io.BytesIO(body), content_type="image/x-exr")
    assert server.read("chunked") == body
    found = server.bucket.get_blob("chunked")
    assert (found.md5_hash, found.content_type) == (md5_of(body), "image/x-exr")


@pytest.mark.parametrize("size", [0, KIB_256, KIB_256 + 1])
def test_a_stream_of_unknown_length_arrives(server: StandIn, size: int) -> None:
    with server.bucket.blob("streamed").open("wb", chunk_size=KIB_256) as file:
        file.write(body_of(size))
    assert server.read("streamed") == body_of(size)


def test_nothing_is_visible_before_the_last_byte(server: StandIn, session: str) -> None:
    send(session, body_of(KIB_256), Content_Range=f"bytes 0-{KIB_256 - 1}/*")
    assert "test_nothing_is_visible_before_the_last_byte" not in {
        blob.name for blob in server.client.list_blobs("files")
    }


def test_the_kept_bytes_can_be_asked_for(session: str) -> None:
    assert kept(send(session, Content_Range="bytes */*")) == (308, None)
    send(session, body_of(KIB_256), Content_Range=f"bytes 0-{KIB_256 - 1}/*")
    assert kept(send(session, Content_Range="bytes */*")) == (308, f"bytes=0-{KIB_256 - 1}")


def test_an_unfinished_upload_keeps_whole_quanta(session: str) -> None:
    reply = send(session, body_of(KIB_256 + 100), Content_Range=f"bytes 0-{KIB_256 + 99}/{MIB}")
    assert kept(reply) == (308, f"bytes=0-{KIB_256 - 1}")


def test_bytes_sent_twice_count_once_and_gaps_are_not_filled(
    server: StandIn, session: str, request: pytest.FixtureRequest
) -> None:
    body = body_of(2 * KIB_256 + 5)
    send(session, body[:KIB_256], Content_Range=f"bytes 0-{KIB_256 - 1}/{len(body)}")
    gap = send(session, body[-5:], Content_Range=f"bytes {2 * KIB_256}-{len(body) - 1}/{len(body)}")
    assert kept(gap) == (308, f"bytes=0-{KIB_256 - 1}")
    assert send(session, body, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}").ok
    assert server.read(request.node.name) == body


def test_a_finished_upload_answers_with_its_object_again(session: str) -> None:
    first = send(session, b"pixels")
    again = send(session, b"pixels")
    asked = send(session, Content_Range="bytes */6")
    assert first.status_code == again.status_code == asked.status_code == 200
    assert first.json() == again.json() == asked.json()


def test_a_lost_connection_keeps_what_has_come(
    server: StandIn, session: str, request: pytest.FixtureRequest
) -> None:
    body = body_of(3 * MIB)

    def broken() -> Iterator[bytes]:
        yield body[: 2 * MIB]
        raise InterruptedError

    with pytest.raises(requests.ConnectionError):
        send(session, broken())
    reply = send(session, Content_Range="bytes */*")
    assert reply.status_code == 308
    start = int(reply.headers.get("Range", "bytes=0--1").partition("-")[2]) + 1
    whole = f"bytes {start}-{len(body) - 1}/{len(body)}"
    assert send(session, body[start:], Content_Range=whole).ok
    assert server.read(request.node.name) == body


def test_a_cancelled_upload_is_gone(server: StandIn, session: str) -> None:
    files = len(server.content_files())
    assert requests.delete(session, timeout=DEADLINE_S).status_code == 499
    assert send(session, b"pixels").status_code == 404
    assert len(server.content_files()) == files - 1


def test_a_resumable_upload_is_checked_at_its_end(server: StandIn, session: str) -> None:
    files = len(server.content_files())
    reply = send(session, b"pixels", X_Goog_Hash="crc32c=AAAAAA==")
    assert reply.status_code == 400
    assert len(server.content_files()) == files - 1
    blob = server.bucket.blob("corrupt", chunk_size=KIB_256)
    blob.md5_hash = md5_of(b"something else")
    with pytest.raises(BadRequest):
        blob.upload_from_file(io.BytesIO(body_of(KIB_256 + 1)), checksum=None)
    assert not server.holds("corrupt")


def test_a_precondition_that_fails_already_is_refused_at_the_start(server: StandIn) -> None:
    server.put("there already", b"pixels")
    with pytest.raises(PreconditionFailed):
        server.bucket.blob("there already").create_resumable_upload_session(if_generation_match=0)


def test_a_precondition_holds_at_the_end_of_an_upload(server: StandIn) -> None:
    blob = server.bucket.blob("raced", chunk_size=KIB_256)
    file = blob.open("wb", if_generation_match=0)
    file.write(body_of(KIB_256))
    server.put("raced", b"first")
    with pytest.raises(InvalidResponse, match="412"):
        file.close()
    assert server.read("raced") == b"first"


def test_a_piece_longer_than_announced_is_refused(session: str) -> None:
    assert send(session, b"pixels", Content_Range="bytes 0-2/3").status_code == 400
    assert send(session, b"pixels", Content_Range="all of it").status_code == 400


# Resumable, by a signed URL


def test_the_real_client_resumes_through_a_signed_url(server: StandIn) -> None:
    body = body_of(2 * KIB_256 + 9)
    start = {"x-goog-resumable": "start"}
    url = server.signed("POST", "a b/signed", content_type="image/x-exr", headers=dict(start))
    upload = ResumableUpload(url, KIB_256, checksum=None, headers=start)
    with requests.Session() as transport:
        upload.initiate(transport, io.BytesIO(body), {}, "image/x-exr")
        while not upload.finished:
            upload._headers.pop("x-goog-resumable", None)
            upload.transmit_next_chunk(transport)
    assert server.read("a b/signed") == body
    assert server.bucket.get_blob("a b/signed").content_type == "image/x-exr"


def started(server: StandIn, name: str, **headers: str) -> requests.Response:
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    sent["x-goog-resumable"] = "start"
    url = server.signed("POST", name, headers=dict(sent))
    return requests.post(url, headers=sent, timeout=DEADLINE_S)


def test_a_signed_start_answers_201_and_the_session_needs_no_signature(server: StandIn) -> None:
    reply = started(server, "signed")
    assert reply.status_code == 201
    done = send(reply.headers["Location"], b"pixels")
    assert (done.status_code, done.headers["ETag"].strip('"')) == (200, done.headers["ETag"][1:-1])
    assert server.read("signed") == b"pixels"


def test_signed_limits_hold_for_the_whole_upload(server: StandIn) -> None:
    limited = started(server, "limited", x_goog_content_length_range="0,5")
    reply = send(limited.headers["Location"], b"pixels")
    assert (reply.status_code, "EntityTooLarge" in reply.text) == (400, True)
    conditional = started(server, "taken", x_goog_if_generation_match="0")
    server.put("taken", b"pixels")
    reply = send(conditional.headers["Location"], b"other")
    assert (reply.status_code, "PreconditionFailed" in reply.text) == (412, True)


def test_a_session_is_good_for_its_object_alone(server: StandIn) -> None:
    location = started(server, "mine").headers["Location"]
    assert send(location.replace("/mine?", "/yours?"), b"pixels").status_code == 404


# Multipart, by signed URLs


class Multipart:
    """A multipart upload whose every request is signed for itself."""

    def __init__(self, server: StandIn, name: str) -> None:
        self._server, self._name = server, name
        reply = self._call("POST", {"uploads": ""})
        assert reply.status_code == 200
        self.id = re.findall("<UploadId>(.*)</UploadId>", reply.text)[0]

    def put(self, number: int, body: Any, **headers: str) -> requests.Response:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        query = {"partNumber": str(number), "uploadId": self.id}
        return self._call("PUT", query, body, sent)

    def list(self) -> requests.Response:
        return self._call("GET", {"uploadId": self.id})

    def abort(self) -> requests.Response:
        return self._call("DELETE", {"uploadId": self.id})

    def complete(self, *parts: tuple[int, str]) -> requests.Response:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in parts
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        return self._call("POST", {"uploadId": self.id}, body)

    def _call(
        self, method: str, query: dict[str, str], body: Any = b"", headers: Any = None
    ) -> requests.Response:
        signed = dict(headers or {})
        url = self._server.signed(method, self._name, query_parameters=query, headers=signed)
        return requests.request(method, url, data=body, headers=headers, timeout=DEADLINE_S)


def test_parts_in_any_order_become_one_object(server: StandIn) -> None:
    body = body_of(12 * MIB)
    upload = Multipart(server, "show/big file.exr")
    tags = {}
    for number in (3, 1, 2):
        part = body[(number - 1) * 5 * MIB : number * 5 * MIB]
        reply = upload.put(number, part, Content_MD5=md5_of(part))
        tags[number] = reply.headers["ETag"]
    assert not server.holds("show/big file.exr")
    files = len(server.content_files())
    assert upload.complete(*sorted(tags.items())).status_code == 200
    assert server.read("show/big file.exr") == body
    assert server.bucket.get_blob("show/big file.exr").md5_hash is None
    assert len(server.content_files()) == files - 2
    assert upload.list().status_code == 404


def test_tags_may_come_back_without_their_quotes(server: StandIn) -> None:
    upload = Multipart(server, "unquoted")
    tag = upload.put(1, b"pixels").headers["ETag"]
    assert tag == f'"{tag[1:-1]}"'
    assert upload.complete((1, tag[1:-1])).status_code == 200
    assert server.read("unquoted") == b"pixels"


def test_a_part_that_is_not_its_md5_is_refused(server: StandIn) -> None:
    upload = Multipart(server, "corrupt part")
    reply = upload.put(1, b"pixels", Content_MD5=md5_of(b"other"))
    assert (reply.status_code, "BadDigest" in reply.text) == (400, True)
    assert "<Part>" not in upload.list().text


def test_a_part_sent_again_replaces_the_first(server: StandIn) -> None:
    upload = Multipart(server, "sent twice")
    old = upload.put(1, b"old").headers["ETag"]
    new = upload.put(1, b"new").headers["ETag"]
    assert upload.complete((1, old)).status_code == 400
    assert upload.complete((1, new)).status_code == 200
    assert server.read("sent twice") == b"new"


def test_parts_that_make_no_object_are_refused(server: StandIn) -> None:
    upload = Multipart(server, "no object")
    one, two = (upload.put(number, b"small").headers["ETag"] for number in (1, 2))
    for parts, code in [
        ([], "InvalidPartOrder"),
        ([(2, two), (1, one)], "InvalidPartOrder"),
        ([(1, one), (3, two)], "InvalidPart"),
        ([(1, one), (2, two)], "EntityTooSmall"),
    ]:
        reply = upload.complete(*parts)
        assert (reply.status_code, f"<Code>{code}</Code>" in reply.text) == (400, True)
    assert upload.put(10_001, b"x").status_code == 400
    assert not server.holds("no object")


def test_unfinished_uploads_and_their_parts_are_listed(server: StandIn) -> None:
    upload = Multipart(server, "listed")
    tag = upload.put(7, b"pixels").headers["ETag"]
    listed = upload.list().text
    assert "<PartNumber>7</PartNumber>" in listed
    assert "<Size>6</Size>" in listed
    assert tag.strip('"') in listed
    url = server.bucket.generate_signed_url(
        version="v4",
        expiration=300,
        credentials=server.credentials,
        api_access_endpoint=server.url,
        query_parameters={"uploads": "", "prefix": "liste"},
    )
    reply = requests.get(url, timeout=DEADLINE_S)
    assert re.findall("<UploadId>(.*?)</UploadId>", reply.text) == [upload.id]


def test_an_aborted_upload_leaves_nothing(server: StandIn) -> None:
    files = len(server.content_files())
    upload = Multipart(server, "aborted")
    upload.put(1, b"pixels")
    assert upload.abort().status_code == 204
    assert upload.put(2, b"pixels").status_code == 404
    assert len(server.content_files()) == files


def test_a_precondition_on_a_multipart_upload_is_refused_as_by_the_provider(
    server: StandIn,
) -> None:
    condition = {"x-goog-if-generation-match": "0"}
    options = {"query_parameters": {"uploads": ""}, "headers": dict(condition)}
    url = server.signed("POST", "conditional", **options)
    reply = requests.post(url, headers=condition, timeout=DEADLINE_S)
    assert (reply.status_code, "NotImplemented" in reply.text) == (400, True)
