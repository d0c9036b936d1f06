"""Buckets and objects of the storage stand-in, through the real google-cloud-storage client."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest
import requests
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    MethodNotImplemented,
    NotFound,
    PreconditionFailed,
)
from google.cloud.storage import Bucket

from tests.emulators.test_storage_server import DEADLINE_S, StandIn, running
from tests.md5 import md5_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("storage") / "data") as stand_in:
        yield stand_in


@pytest.fixture
def bucket(server: StandIn, request: pytest.FixtureRequest) -> Bucket:
    """A bucket of this test's own."""
    name = f"b{abs(hash(request.node.name))}"
    return server.client.create_bucket(name)


def stored(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.blob(name).upload_from_string(name.encode())


def names(bucket: Bucket, **query: object) -> list[str]:
    return [blob.name for blob in bucket.list_blobs(**query)]


def test_a_bucket_is_created_listed_changed_and_deleted(server: StandIn) -> None:
    bucket = server.client.bucket("short-lived")
    assert not bucket.exists()
    bucket.create(location="us-central1")
    with pytest.raises(Conflict):
        bucket.create()
    assert "short-lived" in [each.name for each in server.client.list_buckets()]
    bucket.labels = {"show": "dragon"}
    bucket.patch()
    found = server.client.get_bucket("short-lived")
    assert (found.location, found.labels) == ("us-central1", {"show": "dragon"})
    stored(bucket, "frame")
    with pytest.raises(Conflict, match="not empty"):
        bucket.delete()
    bucket.delete(force=True)
    with pytest.raises(NotFound):
        server.client.get_bucket("short-lived")


@pytest.mark.parametrize("name", ["Ab", "x", "-abc", "a" * 64, "a/b"])
def test_a_bucket_name_that_no_bucket_may_have_is_refused(server: StandIn, name: str) -> None:
    reply = requests.post(f"{server.url}/storage/v1/b", json={"name": name}, timeout=DEADLINE_S)
    assert reply.status_code == 400


def test_an_object_tells_its_size_hashes_type_and_times(bucket: Bucket) -> None:
    bucket.blob("frame.exr").upload_from_string(b"pixels", content_type="image/x-exr")
    blob = bucket.get_blob("frame.exr")
    assert (blob.size, blob.content_type, blob.metageneration) == (6, "image/x-exr", 1)
    assert blob.md5_hash == md5_of(b"pixels")
    assert blob.crc32c == base64.b64encode(google_crc32c.value(b"pixels").to_bytes(4)).decode()
    assert blob.time_created == blob.updated
    assert blob.time_created.timestamp() == pytest.approx(blob.generation / 1e6, abs=0.001)


def test_bytes_are_read_whole_or_in_part(bucket: Bucket) -> None:
    bucket.blob("frame").upload_from_string(bytes(range(256)))
    assert bucket.blob("frame").download_as_bytes() == bytes(range(256))
    assert bucket.blob("frame").download_as_bytes(start=10, end=19) == bytes(range(10, 20))
    assert bucket.blob("frame").download_as_bytes(start=250) == bytes(range(250, 256))


@pytest.mark.parametrize("size", [0, 1, 1024, (1 << 20) - 300, 1 << 20, (2 << 20) + 1])
def test_bytes_that_look_like_a_boundary_arrive_as_they_are(bucket: Bucket, size: int) -> None:
    body = (b"\r\n--=====\r\n--" * (size // 13 + 1))[:size]
    bucket.blob("tricky").upload_from_string(body, checksum="md5")
    assert bucket.blob("tricky").download_as_bytes() == body


def test_a_missing_object_is_not_found(bucket: Bucket) -> None:
    assert bucket.get_blob("none") is None
    with pytest.raises(NotFound):
        bucket.blob("none").download_as_bytes()
    with pytest.raises(NotFound):
        bucket.blob("none").delete()


@pytest.mark.parametrize("upload", ["md5", "crc32c"])
def test_a_digest_that_is_wrong_keeps_the_object_out(bucket: Bucket, upload: str) -> None:
    blob = bucket.blob("corrupt")
    blob.md5_hash = md5_of(b"something else") if upload == "md5" else None
    blob.crc32c = "AAAAAA==" if upload == "crc32c" else None
    with pytest.raises(BadRequest, match="doesn't match calculated"):
        blob.upload_from_string(b"pixels", checksum=None)
    assert not bucket.blob("corrupt").exists()


def test_metadata_is_merged_by_a_patch_and_counted(bucket: Bucket) -> None:
    blob = bucket.blob("frame")
    blob.metadata = {"shot": "sh010", "take": "1"}
    blob.upload_from_string(b"pixels")
    generation = blob.generation
    blob.metadata = {"take": "2", "shot": None}
    blob.cache_control = "no-store"
    blob.patch()
    found = bucket.get_blob("frame")
    assert (found.metadata, found.cache_control) == ({"take": "2"}, "no-store")
    assert (found.generation, found.metageneration) == (generation, 2)


def test_preconditions_guard_every_change(bucket: Bucket) -> None:
    blob = bucket.blob("frame")
    blob.upload_from_string(b"1", if_generation_match=0)
    generation = blob.generation
    with pytest.raises(PreconditionFailed):
        bucket.blob("frame").upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("frame").delete(if_generation_match=generation + 1)
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=7)
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(blob, bucket, "copy", if_source_generation_match=1)
    with pytest.raises(PreconditionFailed):
        bucket.blob("joined").compose([blob], if_source_generation_match=[1])
    assert blob.download_as_bytes(if_generation_match=generation) == b"1"
    assert names(bucket) == ["frame"]
    bucket.blob("frame").delete(if_generation_match=generation)
    assert names(bucket) == []


def test_an_unchanged_object_is_not_read_again(bucket: Bucket, server: StandIn) -> None:
    stored(bucket, "frame")
    generation = bucket.get_blob("frame").generation
    url = f"{server.url}/storage/v1/b/{bucket.name}/o/frame?ifGenerationNotMatch={generation}"
    assert requests.get(url, timeout=DEADLINE_S).status_code == 304


def test_an_older_generation_is_gone(bucket: Bucket) -> None:
    stored(bucket, "frame")
    older = bucket.get_blob("frame").generation
    stored(bucket, "frame")
    assert bucket.get_blob("frame", generation=older) is None
    assert bucket.get_blob("frame").generation > older


def test_of_many_writers_with_one_precondition_exactly_one_wins(bucket: Bucket) -> None:
    ready = threading.Barrier(8)

    def create(number: int) -> bool:
        ready.wait()
        try:
            bucket.blob("contested").upload_from_string(b"%d" % number, if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert won.count(True) == 1
    assert bucket.blob("contested").download_as_bytes() == b"%d" % won.index(True)


def test_a_reader_never_sees_half_of_a_replacement(bucket: Bucket) -> None:
    blob = bucket.blob("frame")
    blob.upload_from_string(b"0" * 300_000)
    seen = set()

    def replace() -> None:
        for number in range(1, 9):
            bucket.blob("frame").upload_from_string(b"%d" % number * 300_000)

    writer = threading.Thread(target=replace)
    writer.start()
    while writer.is_alive():
        body = bucket.blob("frame").download_as_bytes()
        seen.add((len(body), len(set(body))))
    writer.join()
    assert seen == {(300_000, 1)}


def test_names_are_listed_in_order_and_in_pages(bucket: Bucket) -> None:
    stored(bucket, "b", "a/2", "a/1", "é", "B", "a0")
    assert names(bucket) == ["B", "a/1", "a/2", "a0", "b", "é"]
    assert names(bucket, page_size=2) == names(bucket)
    assert names(bucket, prefix="a/") == ["a/1", "a/2"]
    assert names(bucket, start_offset="a/2", end_offset="b") == ["a/2", "a0"]
    assert names(bucket, max_results=3) == ["B", "a/1", "a/2"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_a_delimiter_folds_names_in_pages_of_any_size(bucket: Bucket, page_size: int) -> None:
    stored(bucket, "show/a/1", "show/a/2", "show/b", "show/c/1", "show/d", "shows")
    listing = bucket.list_blobs(prefix="show/", delimiter="/", page_size=page_size)
    assert [blob.name for blob in listing] == ["show/b", "show/d"]
    assert listing.prefixes == {"show/a/", "show/c/"}


def test_a_page_holds_no_more_than_was_asked_for(bucket: Bucket) -> None:
    stored(bucket, "a/1", "b", "c/1", "d")
    pages = [len(list(page)) for page in bucket.list_blobs(delimiter="/", page_size=2).pages]
    assert pages == [1, 1]  # and one prefix on each


def test_listing_what_is_not_built_says_so(bucket: Bucket) -> None:
    with pytest.raises(MethodNotImplemented, match="matchGlob"):
        names(bucket, match_glob="*.exr")


def test_copies_share_bytes_but_not_their_fate(bucket: Bucket, server: StandIn) -> None:
    stored(bucket, "frame")
    before = sum(file.stat().st_nlink == 1 for file in server.content_files())
    copy = bucket.copy_blob(bucket.blob("frame"), server.bucket, "copied")
    assert sum(file.stat().st_nlink == 1 for file in server.content_files()) == before - 1
    bucket.blob("frame").delete()
    assert copy.download_as_bytes() == b"frame"
    assert copy.md5_hash == md5_of(b"frame")


def test_a_rewrite_may_change_the_metadata(bucket: Bucket) -> None:
    stored(bucket, "frame")
    target = bucket.blob("rewritten")
    target.content_type = "image/png"
    token, done, total = target.rewrite(bucket.blob("frame"))
    assert (token, done, total) == (None, 5, 5)
    assert bucket.get_blob("rewritten").content_type == "image/png"
    assert bucket.blob("rewritten").download_as_bytes() == b"frame"


def test_an_object_is_rewritten_onto_itself_and_renamed(bucket: Bucket) -> None:
    stored(bucket, "frame")
    bucket.blob("frame").update_storage_class("NEARLINE")
    assert bucket.get_blob("frame").storage_class == "NEARLINE"
    bucket.rename_blob(bucket.blob("frame"), "renamed")
    assert names(bucket) == ["renamed"]
    assert bucket.blob("renamed").download_as_bytes() == b"frame"


def test_composed_objects_are_the_parts_in_order_without_md5(bucket: Bucket) -> None:
    stored(bucket, *(f"part{number:02}" for number in range(32)))
    parts = [bucket.blob(f"part{number:02}") for number in range(32)]
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose(parts)
    assert whole.download_as_bytes() == b"".join(b"part%02d" % number for number in range(32))
    assert (whole.md5_hash, whole.component_count) == (None, 32)
    assert whole.content_type == "text/plain"
    whole.compose([whole, parts[0]])
    assert (whole.component_count, whole.size) == (33, 33 * 6)


def test_more_than_32_components_are_refused(bucket: Bucket) -> None:
    stored(bucket, "part")
    with pytest.raises(BadRequest, match="1 to 32"):
        bucket.blob("whole").compose([bucket.blob("part")] * 33)


def test_a_batch_carries_many_calls(bucket: Bucket, server: StandIn) -> None:
    stored(bucket, *(f"frame{number}" for number in range(30)))
    with server.client.batch():
        found = [bucket.get_blob(f"frame{number}") for number in range(30)]
    assert [blob.size for blob in found] == [len(f"frame{number}") for number in range(30)]
    with server.client.batch():
        for number in range(30):
            bucket.blob(f"frame{number}").delete()
    assert names(bucket) == []


def test_a_batch_reports_each_failure_and_does_the_rest(bucket: Bucket, server: StandIn) -> None:
    stored(bucket, "here", "kept")
    with server.client.batch(raise_exception=False) as batch:
        bucket.blob("none").delete()
        bucket.blob("here").delete()
        blob = bucket.blob("kept")
        blob.metadata = {"shot": "sh010"}
        blob.patch()
    assert [reply.status_code for reply in batch._responses] == [404, 204, 200]
    assert names(bucket) == ["kept"]
    assert bucket.get_blob("kept").metadata == {"shot": "sh010"}


@pytest.mark.parametrize("name", ["..", "two\nlines", "x" * 1025])
def test_an_object_name_that_no_object_may_have_is_refused(bucket: Bucket, name: str) -> None:
    with pytest.raises(BadRequest, match="Invalid object name"):
        bucket.blob(name).upload_from_string(b"pixels")


@pytest.mark.parametrize("name", ["ordinary", "a/b//c", "ünï cødé 😀", "100% & more?#+.exr"])
def test_any_other_name_works(bucket: Bucket, name: str) -> None:
    stored(bucket, name)
    assert names(bucket) == [name]
    assert bucket.get_blob(name).download_as_bytes() == name.encode()


def test_metadata_must_be_a_map(bucket: Bucket, server: StandIn) -> None:
    stored(bucket, "frame")
    url = f"{server.url}/storage/v1/b/{bucket.name}/o/frame"
    reply = requests.patch(url, json={"metadata": "sh010"}, timeout=DEADLINE_S)
    assert (reply.status_code, "metadata" in reply.text) == (400, True)
    assert bucket.get_blob("frame").metadata is None


def test_nonsense_is_answered_in_json(server: StandIn) -> None:
    for method, path, status in [
        ("POST", "/storage/v1/b", 400),
        ("PUT", "/storage/v1/b", 405),
        ("GET", "/storage/v1/elsewhere", 404),
        ("GET", "/storage/v1/b/files/o?maxResults=many", 400),
        ("GET", "/storage/v1/b/files/o?pageToken=%25", 400),
        ("POST", "/upload/storage/v1/b/files/o?uploadType=magic", 400),
        ("POST", "/upload/storage/v1/b/files/o?uploadType=multipart&name=x", 400),
        ("POST", "/storage/v1/b/files/o/x/compose", 400),
        ("POST", "/batch/storage/v1", 400),
        ("POST", "/upload/storage/v1/b/files/o?uploadType=resumable&name=x", 400),
    ]:
        url = server.url + path
        reply = requests.request(method, url, data=b"[1]", timeout=DEADLINE_S)
        assert reply.status_code == status, (method, path)
        assert reply.json()["error"]["code"] == status
