"""Uploads: URLs for what is not stored, checked on arrival, whole or in parts."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from shared import wiring
from shared.services.uploads import PartSizes
from tests.functions.conftest import MIB, Studio
from tests.md5 import md5_of

URLS = "/api/v2/files/get_upload_urls"
COMPLETE = "/api/v2/files/multipart/complete"
GIB = 1024 * MIB
BIG = bytes(range(256)) * 4096 * 7  # 7 MiB: above the test's threshold


def offered(content: bytes, path: str) -> dict[str, Any]:
    return {"path": path, "hash": md5_of(content), "size": len(content)}


def put(url: str, content: bytes, **headers: str) -> requests.Response:
    sent = {"Content-Type": "application/octet-stream", **headers}
    return requests.put(url, data=iter([content]), headers=sent, timeout=30)


def blob(studio: Studio, content: bytes) -> bytes:
    digest = hashlib.md5(content).hexdigest()
    return wiring.blobs().read(f"accounts/{studio.account_id}/blobs/{digest}")


def test_a_file_that_is_not_stored_gets_a_url_under_its_very_path(studio: Studio) -> None:
    path = "C:/Tex//Über  brick.EXR"
    reply = studio.post(URLS, {"upload_files": [offered(b"brick", path)], "project": "otter"})
    assert reply.status_code == 200
    (entry,) = reply.json["singlePartURLs"]
    assert (entry["filePath"], entry["fileSize"]) == (path, 5)
    assert put(entry["preSignedURL"], b"brick", **{"Content-MD5": md5_of(b"brick")}).ok
    assert blob(studio, b"brick") == b"brick"


def test_the_answer_holds_nothing_but_lists_of_objects(studio: Studio) -> None:
    for files in ([], [offered(b"x", "/x")], [offered(BIG, "/big")]):
        reply = studio.post(URLS, {"upload_files": files, "project": None}).json
        assert set(reply) == {"singlePartURLs", "multiPartURLs"}
        entries = reply["singlePartURLs"] + reply["multiPartURLs"]
        assert all(type(entry["fileSize"]) is int for entry in entries)


def test_a_stored_file_gets_no_url_again_and_others_cannot_tell(
    new_studio: Callable[[], Studio],
) -> None:
    mine, theirs = new_studio(), new_studio()
    mine.upload(b"scene")
    request = {"upload_files": [offered(b"scene", "/scene")]}
    assert mine.post(URLS, request).json == {"singlePartURLs": [], "multiPartURLs": []}
    assert len(theirs.post(URLS, request).json["singlePartURLs"]) == 1


def test_of_files_with_the_same_bytes_one_is_sent(studio: Studio) -> None:
    files = [offered(b"same", f"/copy{n}") for n in range(3)] + [offered(b"same", "/copy0")]
    (entry,) = studio.post(URLS, {"upload_files": files}).json["singlePartURLs"]
    assert entry["filePath"] == "/copy0"


def test_an_empty_file_is_uploaded_too(studio: Studio) -> None:
    studio.upload(b"", path="/empty")
    assert blob(studio, b"") == b""


def test_a_clients_foreign_bearer_token_does_no_harm(studio: Studio) -> None:
    reply = studio.post(URLS, {"upload_files": [offered(b"x", "/x")]})
    url = reply.json["singlePartURLs"][0]["preSignedURL"]
    headers = {"Content-MD5": md5_of(b"x"), **studio.headers}
    assert put(url, b"x", **headers).ok


def test_bytes_with_another_md5_are_refused_by_the_store(studio: Studio) -> None:
    reply = studio.post(URLS, {"upload_files": [offered(b"right", "/x")]})
    url = reply.json["singlePartURLs"][0]["preSignedURL"]
    assert put(url, b"wrong", **{"Content-MD5": md5_of(b"right")}).status_code == 400
    assert put(url, b"wrong", **{"Content-MD5": md5_of(b"wrong")}).status_code == 403
    assert put(url, b"wrong").status_code in (400, 403)
    assert (
        len(studio.post(URLS, {"upload_files": [offered(b"right", "/x")]}).json["singlePartURLs"])
        == 1
    )


def begun(studio: Studio, content: bytes = BIG) -> dict[str, Any]:
    reply = studio.post(URLS, {"upload_files": [offered(content, "/big.abc")]})
    (entry,) = reply.json["multiPartURLs"]
    return dict(entry)


def send_parts(entry: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
    sent = []
    for part in entry["parts"]:
        start = (part["partNumber"] - 1) * entry["partSize"]
        reply = requests.put(
            part["url"], data=content[start : start + entry["partSize"]], timeout=30
        )
        assert reply.ok, reply.text
        sent.append({"partNumber": part["partNumber"], "etag": reply.headers["ETag"].strip('"')})
    return sent


def test_a_large_file_goes_up_in_parts(studio: Studio) -> None:
    entry = begun(studio)
    assert (entry["filePath"], entry["fileSize"], entry["partSize"]) == (
        "/big.abc",
        len(BIG),
        5 * MIB,
    )
    assert [part["partNumber"] for part in entry["parts"]] == [1, 2]
    done = {
        "uploadID": entry["uploadID"],
        "hash": md5_of(BIG),
        "completedParts": send_parts(entry, BIG),
        "project": None,
    }
    for _ in range(2):  # the clients repeat what was not answered
        assert studio.post(COMPLETE, done).status_code == 200
    assert blob(studio, BIG) == BIG
    assert studio.post(URLS, {"upload_files": [offered(BIG, "/b")]}).json["multiPartURLs"] == []


def test_more_parts_than_are_signed_in_one_call_are_refused_by_name_and_begin_nothing(
    studio: Studio,
) -> None:
    def largest(name: str) -> dict[str, Any]:
        return {"path": f"/{name}", "hash": md5_of(name.encode()), "size": 5 * 1024**4}

    reply = studio.post(URLS, {"upload_files": [largest("a"), largest("b")]})
    assert (reply.status_code, "upload_files" in reply.text) == (413, True)
    begun = wiring.firestore_client().collection(f"accounts/{studio.account_id}/multiparts")
    assert list(begun.stream()) == []


def test_the_parts_of_the_largest_file_cover_it_and_fit_the_client_and_the_store(
    studio: Studio,
) -> None:
    size = 5 * 1024**4 - 1
    file = {"path": "/cache.vdb", "hash": md5_of(b"largest"), "size": size}
    (entry,) = studio.post(URLS, {"upload_files": [file]}).json["multiPartURLs"]
    numbers = [part["partNumber"] for part in entry["parts"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) <= 10_000
    assert entry["partSize"] <= 1024**3  # clients hold a part in memory
    assert (len(numbers) - 1) * entry["partSize"] < size <= len(numbers) * entry["partSize"]


@pytest.mark.parametrize(
    ("file_bytes", "part_bytes"),
    [
        (GIB, 256 * MIB),
        (600 * GIB, 256 * MIB),
        (1000 * GIB, 410 * MIB),
        (2500 * GIB, GIB),
        (5120 * GIB, GIB),
    ],
)
def test_parts_grow_with_what_is_sent(file_bytes: int, part_bytes: int) -> None:
    assert PartSizes().size_for(file_bytes) == part_bytes


@pytest.mark.parametrize("is_large", [False, True])
def test_a_file_larger_than_any_store_takes_is_refused(studio: Studio, is_large: bool) -> None:
    file = {"path": "/x", "hash": md5_of(b"x"), "size": 5 * 1024**4 + is_large}
    assert (studio.post(URLS, {"upload_files": [file]}).status_code == 422) is is_large


def test_a_path_is_in_the_answer_once(studio: Studio) -> None:
    files = [offered(b"one", "/same"), offered(b"two", "/same"), offered(b"three", "/other")]
    reply = studio.post(URLS, {"upload_files": files}).json
    assert [each["filePath"] for each in reply["singlePartURLs"]] == ["/same", "/other"]


def test_a_joined_file_of_another_size_is_sent_again(studio: Studio) -> None:
    entry = begun(studio)
    done = {"uploadID": entry["uploadID"], "hash": md5_of(BIG), "completedParts": []}
    done["completedParts"] = send_parts(entry, BIG)
    assert studio.post(COMPLETE, done).status_code == 200
    longer = offered(BIG, "/big.abc") | {"size": len(BIG) + 1}
    assert len(studio.post(URLS, {"upload_files": [longer]}).json["multiPartURLs"]) == 1


def test_a_join_that_was_carried_out_though_its_answer_was_lost_ends_alike(studio: Studio) -> None:
    entry = begun(studio)
    parts = send_parts(entry, BIG)
    path = f"accounts/{studio.account_id}/multiparts/{entry['uploadID']}"
    kept = wiring.firestore_client().document(path).get().to_dict() or {}
    done = {"uploadID": entry["uploadID"], "hash": md5_of(BIG), "completedParts": parts}
    assert studio.post(COMPLETE, done).status_code == 200
    wiring.firestore_client().document(path).set(kept)
    assert studio.post(COMPLETE, done).status_code == 200
    assert blob(studio, BIG) == BIG


def test_thousands_of_files_are_asked_for_by_many_at_once(studio: Studio) -> None:
    def ask(start: int) -> int:
        files = [offered(f"{n}".encode(), f"/tex/{n}.tx") for n in range(start, start + 20)]
        web = studio.web.application.test_client()
        reply: Any = web.post(
            URLS, headers=studio.headers, data=json.dumps({"upload_files": files})
        )
        assert [each["filePath"] for each in reply.json["singlePartURLs"]] == [
            file["path"] for file in files
        ]
        return len(reply.json["singlePartURLs"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(0, 2000, 20))) == 2000


def test_files_without_a_project_are_the_accounts_own(studio: Studio) -> None:
    reply = studio.post(URLS, {"upload_files": [offered(b"x", "/x")], "project": None})
    assert len(reply.json["singlePartURLs"]) == 1


def test_several_large_files_get_each_their_own_parts(studio: Studio) -> None:
    contents = [bytes([n]) + BIG for n in range(3)]
    files = [offered(content, f"/big{n}") for n, content in enumerate(contents)]
    reply = studio.post(URLS, {"upload_files": [*files, offered(b"small", "/small")]}).json
    assert [each["filePath"] for each in reply["singlePartURLs"]] == ["/small"]
    entries = {each["filePath"]: each for each in reply["multiPartURLs"]}
    for file, content in zip(files, contents, strict=True):
        entry = entries[file["path"]]
        parts = send_parts(entry, content)
        done = {"uploadID": entry["uploadID"], "hash": file["hash"], "completedParts": parts}
        assert studio.post(COMPLETE, done).status_code == 200
        assert blob(studio, content) == content


def test_parts_of_another_size_than_announced_become_nothing(studio: Studio) -> None:
    entry = begun(studio)
    parts = send_parts(entry, BIG[:-1])
    done = {"uploadID": entry["uploadID"], "hash": md5_of(BIG), "completedParts": parts}
    assert list(studio.post(COMPLETE, done).json["error"]["fields"]) == ["completedParts"]
    assert len(studio.post(URLS, {"upload_files": [offered(BIG, "/b")]}).json["multiPartURLs"]) == 1


def test_an_upload_is_completed_by_its_own_account_and_with_its_own_hash(
    new_studio: Callable[[], Studio],
) -> None:
    mine, theirs = new_studio(), new_studio()
    entry = begun(mine)
    parts = send_parts(entry, BIG)
    done = {"uploadID": entry["uploadID"], "hash": md5_of(BIG), "completedParts": parts}
    assert theirs.post(COMPLETE, done).status_code == 404
    other = mine.post(COMPLETE, done | {"hash": md5_of(b"other")})
    assert list(other.json["error"]["fields"]) == ["hash"]
    assert mine.post(COMPLETE, done | {"completedParts": parts[:1]}).status_code == 422


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ({}, "upload_files"),
        ({"upload_files": {}}, "upload_files"),
        ({"upload_files": [{"path": "/a", "hash": "0" * 32, "size": 1}]}, "upload_files.0.hash"),
        (
            {"upload_files": [{"path": "/a", "hash": md5_of(b""), "size": "1"}]},
            "upload_files.0.size",
        ),
        ({"upload_files": [{"hash": md5_of(b""), "size": 1}]}, "upload_files.0.path"),
        ({"upload_files": [offered(b"", f"/{n}") for n in range(501)]}, "upload_files"),
        ({"upload_files": [], "project": "nobody's"}, "project"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(
    studio: Studio, request_: dict[str, Any], name: str
) -> None:
    reply = studio.post(URLS, request_)
    assert reply.status_code == 422
    assert list(reply.json["error"]["fields"]) == [name]
