"""Signed URLs of the storage stand-in: every promise a V4 signature makes is kept, every lie refused."""

import gzip
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests
from google.cloud.storage._signing import generate_signed_url_v4

from tests.emulators.test_storage_server import (
    DEADLINE_S,
    StandIn,
    credentials_of,
    new_account,
    running,
)
from tests.md5 import md5_of

BODY = bytes(range(256)) * 1000
#: What the Conductor clients send besides: their own token, meant for another host.
FOREIGN = {
    "Authorization": "Bearer a-token-of-the-farm",
    "Content-Type": "application/octet-stream",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("storage") / "data") as stand_in:
        yield stand_in


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


def put(url: str, body: Any, **headers: str) -> requests.Response:
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return requests.put(url, data=body, headers=sent, timeout=DEADLINE_S)


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=DEADLINE_S)


def code_of(reply: requests.Response) -> tuple[int, str]:
    return reply.status_code, reply.text.partition("<Code>")[2].partition("</Code>")[0]


def test_a_body_with_a_length_is_stored(server: StandIn) -> None:
    assert put(server.signed("PUT", "sized"), BODY).status_code == 200
    assert server.read("sized") == BODY


@pytest.mark.parametrize("body", [BODY, b""], ids=["full", "empty"])
def test_a_chunked_body_with_a_foreign_token_is_stored(server: StandIn, body: bytes) -> None:
    url = server.signed("PUT", "chunked", content_md5=md5_of(body))
    reply = put(url, chunks(body), Content_MD5=md5_of(body), **FOREIGN)
    assert reply.request.headers["Transfer-Encoding"] == "chunked"
    assert reply.status_code == 200
    assert server.read("chunked") == body


def test_a_put_is_answered_with_tag_hash_and_generation(server: StandIn) -> None:
    reply = server.put("answered", b"pixels")
    blob = server.bucket.get_blob("answered")
    assert reply.headers["ETag"] == f'"{hashlib.md5(b"pixels").hexdigest()}"'
    assert reply.headers["x-goog-hash"] == f"crc32c={blob.crc32c},md5={blob.md5_hash}"
    assert reply.headers["x-goog-generation"] == str(blob.generation)


def test_a_body_that_is_not_its_md5_is_not_stored(server: StandIn) -> None:
    files = len(server.content_files())
    url = server.signed("PUT", "corrupt", content_md5=md5_of(BODY))
    reply = put(url, chunks(BODY + b"!"), Content_MD5=md5_of(BODY))
    assert code_of(reply) == (400, "BadDigest")
    assert not server.holds("corrupt")
    assert len(server.content_files()) == files


@pytest.mark.parametrize("md5", ["bm9uc2Vuc2U=", "%%%", "9e107d9d372bb6826bd81d3542a419d6"])
def test_a_malformed_md5_is_refused(server: StandIn, md5: str) -> None:
    assert code_of(server.put("corrupt", BODY, Content_MD5=md5)) == (400, "InvalidDigest")


def test_a_wrong_crc32c_is_refused(server: StandIn) -> None:
    reply = server.put("corrupt", BODY, x_goog_hash="crc32c=AAAAAA==")
    assert code_of(reply) == (400, "BadDigest")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_an_unsigned_request_is_refused(server: StandIn, method: str) -> None:
    server.put("private", b"pixels")
    url = f"{server.url}/files/private"
    reply = requests.request(method, url, headers=FOREIGN, timeout=DEADLINE_S)
    assert reply.status_code == 403
    assert method == "HEAD" or code_of(reply) == (403, "AccessDenied")
    assert server.read("private") == b"pixels"


def test_a_tampered_signature_is_refused(server: StandIn) -> None:
    url = server.signed("PUT", "frame")
    last = "0" if url[-1] != "0" else "1"
    assert code_of(put(url[:-1] + last, BODY)) == (403, "SignatureDoesNotMatch")


def test_a_signature_is_good_for_its_object_alone(server: StandIn) -> None:
    url = server.signed("PUT", "mine").replace("/mine?", "/yours?")
    assert code_of(put(url, BODY)) == (403, "SignatureDoesNotMatch")


def test_a_signature_is_good_for_its_method_alone(server: StandIn) -> None:
    url = server.signed("GET", "frame")
    assert code_of(put(url, BODY)) == (403, "SignatureDoesNotMatch")


def test_a_signature_covers_the_query(server: StandIn) -> None:
    url = server.signed("GET", "frame") + "&response-content-type=text/html"
    assert code_of(get(url)) == (403, "SignatureDoesNotMatch")


def test_a_longer_life_than_was_signed_is_refused(server: StandIn) -> None:
    url = server.signed("GET", "frame").replace("X-Goog-Expires=300", "X-Goog-Expires=9000")
    assert code_of(get(url)) == (403, "SignatureDoesNotMatch")


def test_a_signature_is_good_for_its_host_alone(server: StandIn) -> None:
    reply = get(server.signed("GET", "frame"), Host="elsewhere.example")
    assert code_of(reply) == (403, "SignatureDoesNotMatch")


def test_a_refused_signature_shows_what_should_have_been_signed(server: StandIn) -> None:
    reply = put(server.signed("GET", "frame"), BODY)
    assert "<CanonicalRequest>PUT\n/files/frame\n" in reply.text
    assert "<StringToSign>GOOG4-RSA-SHA256\n" in reply.text


@pytest.mark.parametrize("email", ["signer@farm.iam.gserviceaccount.com", "nobody@farm"])
def test_another_key_is_refused_under_any_name(server: StandIn, email: str) -> None:
    forger = credentials_of(new_account(email))
    url = server.signed("GET", "frame", credentials=forger)
    assert code_of(get(url)) == (403, "SignatureDoesNotMatch")


def test_a_signed_header_with_another_value_is_refused(server: StandIn) -> None:
    url = server.signed("PUT", "frame", content_md5=md5_of(BODY))
    reply = put(url, b"other", Content_MD5=md5_of(b"other"))
    assert code_of(reply) == (403, "SignatureDoesNotMatch")


def test_a_signed_header_that_is_not_sent_is_refused(server: StandIn) -> None:
    url = server.signed("PUT", "frame", content_md5=md5_of(BODY))
    reply = put(url, BODY)
    assert code_of(reply) == (400, "MalformedSecurityHeader")
    assert "<ParameterName>content-md5</ParameterName>" in reply.text


def test_a_provider_header_that_is_not_signed_is_refused(server: StandIn) -> None:
    reply = put(server.signed("PUT", "frame"), BODY, x_goog_if_generation_match="0")
    assert code_of(reply) == (400, "MalformedSecurityHeader")


@pytest.mark.parametrize(
    ("age", "life_s", "answer"),
    [
        (timedelta(minutes=10), 599, (400, "ExpiredToken")),
        (timedelta(minutes=10), 700, (404, "NoSuchKey")),
        (timedelta(minutes=-10), 60, (404, "NoSuchKey")),
        (timedelta(minutes=-20), 9000, (403, "AccessDenied")),
    ],
)
def test_a_url_lives_as_long_as_it_says(
    server: StandIn, age: timedelta, life_s: int, answer: tuple[int, str]
) -> None:
    url = generate_signed_url_v4(
        server.credentials,
        "/files/never-written",
        life_s,
        api_access_endpoint=server.url,
        _request_timestamp=(datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%SZ"),
    )
    assert code_of(get(url)) == answer


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("X-Goog-Algorithm=GOOG4-RSA-SHA256", "X-Goog-Algorithm=MD5"),
        ("X-Goog-Expires=300", "X-Goog-Expires=604801"),
        ("X-Goog-Expires=300", "X-Goog-Expires=-1"),
        ("X-Goog-SignedHeaders=host", "X-Goog-SignedHeaders="),
        ("goog4_request", "aws4_request"),
        ("X-Goog-Date=2", "X-Goog-Date=x"),
    ],
)
def test_malformed_claims_are_refused(server: StandIn, part: str, instead: str) -> None:
    url = server.signed("GET", "frame")
    assert part in url
    assert code_of(get(url.replace(part, instead))) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "name", ["a b+c/d&e=f?g#h.exr", "Ünï/ço∂é/😀.png", "100%/~x!*'();:@$,[].exr", "//a//b/"]
)
def test_any_name_can_be_signed(server: StandIn, name: str) -> None:
    assert put(server.signed("PUT", name), name.encode()).status_code == 200
    assert get(server.signed("GET", name)).content == name.encode()
    assert server.read(name) == name.encode()


def test_a_signature_does_not_depend_on_how_the_path_is_escaped(server: StandIn) -> None:
    server.put("it's (one).exr", b"pixels")
    url = server.signed("GET", "it's (one).exr")
    assert get(url.replace(quote("it's (one).exr"), "it's%20(one).exr")).content == b"pixels"


def test_ranges_suffixes_and_heads_are_answered(server: StandIn) -> None:
    server.put("ranged", BODY)
    url, size = server.signed("GET", "ranged"), len(BODY)
    for wanted, found, span in [
        ("bytes=0-99", BODY[:100], f"bytes 0-99/{size}"),
        ("bytes=1000-", BODY[1000:], f"bytes 1000-{size - 1}/{size}"),
        ("bytes=-100", BODY[-100:], f"bytes {size - 100}-{size - 1}/{size}"),
        (f"bytes=-{2 * size}", BODY, f"bytes 0-{size - 1}/{size}"),
        (f"bytes={size - 1}-{2 * size}", BODY[-1:], f"bytes {size - 1}-{size - 1}/{size}"),
    ]:
        reply = get(url, Range=wanted)
        assert (reply.status_code, reply.headers["Content-Range"]) == (206, span)
        assert reply.content == found
    head = requests.head(server.signed("HEAD", "ranged"), timeout=DEADLINE_S)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(size))


@pytest.mark.parametrize("wanted", ["bytes=256000-", "bytes=-0", "bytes=999999-9999999"])
def test_a_range_beyond_the_end_is_refused(server: StandIn, wanted: str) -> None:
    server.put("ranged", BODY)
    reply = get(server.signed("GET", "ranged"), Range=wanted)
    assert code_of(reply) == (416, "InvalidRange")
    assert reply.headers["Content-Range"] == f"bytes */{len(BODY)}"


def test_what_has_not_changed_is_not_sent_again(server: StandIn) -> None:
    tag = server.put("cached", b"pixels").headers["ETag"]
    reply = get(server.signed("GET", "cached"), **{"If-None-Match": tag})
    assert (reply.status_code, reply.content) == (304, b"")


def test_an_object_is_deleted_by_a_signed_url(server: StandIn) -> None:
    server.put("doomed", BODY)
    url = server.signed("DELETE", "doomed")
    assert requests.delete(url, timeout=DEADLINE_S).status_code == 204
    assert code_of(requests.delete(url, timeout=DEADLINE_S)) == (404, "NoSuchKey")


def test_headers_of_a_put_come_back_with_the_bytes(server: StandIn) -> None:
    packed = gzip.compress(b"log line\n")
    headers = {
        "Content_Type": "application/json",
        "Content_Encoding": "gzip",
        "Cache_Control": "no-store",
        "x_goog_meta_shot": "sh010",
    }
    server.put("log.gz", packed, **headers)
    assert server.bucket.get_blob("log.gz").size == len(packed)
    reply = get(server.signed("GET", "log.gz"))
    assert reply.content == b"log line\n"  # it came as it was stored; requests unpacked it
    assert reply.headers["Content-Length"] == str(len(packed))
    for name, value in headers.items():
        assert reply.headers[name.replace("_", "-")] == value


def test_a_signed_url_may_name_the_file_for_a_browser(server: StandIn) -> None:
    server.put("blob/1234", b"pixels")
    disposition = 'attachment; filename="beauty.0001.exr"'
    options = {"response_type": "image/x-exr", "response_disposition": disposition}
    reply = get(server.signed("GET", "blob/1234", **options))
    assert reply.headers["Content-Type"] == "image/x-exr"
    assert reply.headers["Content-Disposition"] == disposition


def test_only_the_first_of_many_writers_creates_an_object(server: StandIn) -> None:
    def create(number: int) -> int:
        body = b"%d" % number * 100_000
        return server.put("contested", body, x_goog_if_generation_match="0").status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(create, range(16)))
    assert sorted(statuses) == [200] + [412] * 15
    assert server.read("contested") == b"%d" % statuses.index(200) * 100_000


def test_a_generation_is_replaced_only_by_who_knows_it(server: StandIn) -> None:
    first = server.put("versioned", b"1").headers["x-goog-generation"]
    second = server.put("versioned", b"2", x_goog_if_generation_match=first)
    assert second.status_code == 200
    stale = server.put("versioned", b"3", x_goog_if_generation_match=first)
    assert code_of(stale) == (412, "PreconditionFailed")
    assert server.read("versioned") == b"2"


@pytest.mark.parametrize(
    ("size", "answer"),
    [(9, (400, "EntityTooSmall")), (10, (200, "")), (20, (200, "")), (21, (400, "EntityTooLarge"))],
)
def test_a_body_outside_the_signed_length_is_refused(
    server: StandIn, size: int, answer: tuple[int, str]
) -> None:
    limit = {"x-goog-content-length-range": "10,20"}
    url = server.signed("PUT", f"limited/{size}", headers=dict(limit))
    reply = requests.put(url, data=chunks(bytes(size)), headers=limit, timeout=DEADLINE_S)
    assert code_of(reply) == answer
    assert server.holds(f"limited/{size}") == (answer[0] == 200)


def test_a_put_to_no_bucket_is_refused(server: StandIn) -> None:
    url = (
        server.client.bucket("nowhere")
        .blob("x")
        .generate_signed_url(
            version="v4",
            method="PUT",
            expiration=timedelta(minutes=5),
            credentials=server.credentials,
            api_access_endpoint=server.url,
        )
    )
    assert code_of(put(url, BODY)) == (404, "NoSuchBucket")
