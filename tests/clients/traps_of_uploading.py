"""Traps of uploads and submissions, each with real clients driven into it: nothing is lost, hangs or crashes."""

import os
import unicodedata
from contextlib import ExitStack
from pathlib import Path

from shared.models.task import TaskStatus as T
from tests.clients.artist import Artist
from tests.clients.matrix import TRAPS
from tests.clients.uploading import URLS, has_failed, has_finished, holds, to_upload, unique
from tests.md5 import md5_of

SUBMITS_ALTHOUGH_UPLOADS_FAILED = ("4.0.7", "5.6.0", "6.3.0")
TRIES = 12
MIB = 1024 * 1024


def job_ids(artist: Artist) -> list[str]:
    """Return all jobs of the artist's studio."""
    listed = artist.farm.call("GET", "/api/v1/jobs").json()["data"]
    return [each["jid"] for each in listed]


def blobs_prefix(artist: Artist) -> str:
    """Return where the storage keeps the studio's files, as its signed URLs name it."""
    return f"/{artist.farm.env['BATON_BUCKET']}/accounts/{artist.farm.account_id}/blobs/"


def is_refused(artist: Artist) -> bool:
    """Tell whether the server has refused a submission because bytes are missing."""
    return any(
        each.status == 422 and b"not in the store" in each.answer
        for each in artist.tap.seen("POST", "/jobs/")
    )


@TRAPS.flow(is_alone=True, versions=("9.2.0",))
def a_store_that_says_nothing(artist: Artist) -> None:
    """Clients wait without limit, so the server does not: behind a silent store it says that it cannot, and goes on."""
    content = unique(6 * MIB + 1)
    [path] = artist.write({"cache.abc": content})
    silence = {"method": "POST", "path_prefix": blobs_prefix(artist), "delay_s": 90.0}
    with ExitStack() as silent:
        silent.enter_context(artist.faults.ordered(**silence))
        artist.tap.before_next_answer(URLS, silent.close)
        artist.submit(["true"], upload_paths=[path])
    asked = artist.tap.seen("POST", URLS)
    assert [each.status in (503, 504) for each in asked] == [True, False], artist.tap.story()
    assert holds(artist, content)


@TRAPS.flow(is_alone=True)
def t1_a_job_without_its_files(artist: Artist) -> None:
    """T1: old clients submit although the store refused their files. That is no job, and the artist is told."""
    content = unique()
    [path] = artist.write({"scene.ma": content})
    order = artist.order(["true"], upload_paths=[path])
    must_be_seen = artist.version in SUBMITS_ALTHOUGH_UPLOADS_FAILED
    with artist.faults.ordered(method="PUT", path_prefix=blobs_prefix(artist), status=403):
        for _ in range(TRIES if must_be_seen else 1):
            done = artist.drive("submit", order)
            assert done.code != 0, done.said
            if is_refused(artist):
                break
    assert is_refused(artist) or not must_be_seen, artist.tap.story()
    assert job_ids(artist) == []
    artist.submit(["true"], upload_paths=[path])
    assert holds(artist, content)


@TRAPS.flow(is_alone=True, versions=("4.0.7", "5.1.1", "7.0.2", "9.2.0"))
def t2_other_bytes_than_announced(artist: Artist) -> None:
    """T2: a client's MD5 cache is stale. Bytes that are not what the MD5 says are refused on arrival."""
    before, after = unique(), unique()
    [path] = artist.write({"scene.ma": before})
    order = artist.order(["true"], upload_paths=[path])
    with artist.faults.ordered(method="PUT", path_prefix=blobs_prefix(artist), status=400):
        assert (
            artist.drive("submit", order).code != 0
        )  # from now on the client thinks that it knows the MD5
    was = Path(path).stat()
    Path(path).write_bytes(after)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    done = artist.drive("submit", order)
    assert md5_of(before) in [
        file["hash"]
        for each in artist.tap.seen("POST", URLS)
        for file in each.asked()["upload_files"]
    ]
    assert done.code != 0, done.said
    assert not holds(artist, before) and not holds(artist, after)
    assert job_ids(artist) == []


@TRAPS.flow(until="7.0.2", is_alone=True)
def t5_a_daemon_with_nothing_to_upload(artist: Artist) -> None:
    """T5: an upload without files would hang a daemon for ever. It is never handed out: the job goes on by itself."""
    empty = artist.submit(["true"], local_upload=False)
    artist.farm.wait_for_end(empty, "success")
    [path] = artist.write({"scene.ma": unique()})
    full = artist.submit(["true"], local_upload=False, upload_paths=[path])
    with artist.daemon(*artist.uploader):
        artist.wait("the daemon has finished the other", lambda: has_finished(artist))
    handed = [
        each.answered()["data"]
        for each in artist.tap.seen("PUT", "/uploads/client/next")
        if each.status == 201
    ]
    assert {tuple(each["upload_files"]) for each in handed} == {(path,)}
    # Once, unless the client failed by itself: see Artist.submit.
    assert len(handed) == 1 or has_failed(artist)
    artist.farm.wait_for_end(full, "success")


@TRAPS.flow(is_alone=True)
def an_upload_that_the_daemon_cannot_make(artist: Artist) -> None:
    """A file has changed since the submission: the job says so and does not start, whatever the daemon reports.

    5.0 and 5.1 report such an upload as finished.
    """
    [path] = artist.write({"scene.ma": unique()})
    promised = unique()
    ref = artist.submit(
        ["true"],
        local_upload=False,
        upload_paths=[path],
        enforced_md5s={path: md5_of(promised)},
    )
    with artist.daemon(*artist.uploader):
        artist.wait("the job says why", lambda: path in artist.farm.job(ref).upload.reason)
    assert not artist.farm.job(ref).is_ended
    assert {task.status for task in artist.farm.tasks(ref)} <= {T.PENDING, T.HOLDING}
    assert not holds(artist, promised)


@TRAPS.flow(versions=("4.0.7", "5.6.0", "6.3.0"))
def an_empty_folder(artist: Artist) -> None:
    """An empty folder among the paths is nothing to upload. 5.0, 5.1 and 7.0 on wait for ever, and call nobody."""
    folder = artist.folder / "work" / "empty"
    folder.mkdir(parents=True)
    ref = artist.submit(["true"], upload_paths=[str(folder)])
    artist.farm.wait_for_end(ref, "success")


@TRAPS.flow(is_alone=True)
def an_answer_that_got_lost(artist: Artist) -> None:
    """A client whose connection drops posts its job again. That is the same job."""
    [path] = artist.write({"scene.ma": unique()})
    artist.tap.lose_next_answer("/jobs/")
    ref = artist.submit(["true"], upload_paths=[path])
    posted = [each.status for each in artist.tap.seen("POST", "/jobs/")]
    # Before it there may be refusals of what a client by itself has not uploaded: see Artist.submit.
    assert [status for status in posted if status != 422] == [201, 201]
    assert job_ids(artist) == [ref.job_id]


@TRAPS.flow(is_alone=True, versions=("4.0.7", "7.0.2", "9.2.0"))
def an_upload_that_breaks_off(artist: Artist) -> None:
    """Connections drop while files go up, and after the parts of a large one were joined: all arrive, once."""
    small, large = unique(), unique(6 * MIB + 1)
    paths = artist.write({"small.tx": small, "large.tx": large})
    complete = "/api/v2/files/multipart/complete"
    artist.tap.lose_next_answer(complete)
    with artist.faults.ordered(
        method="PUT", path_prefix=blobs_prefix(artist), times=2, drop="after"
    ):
        artist.submit(["true"], upload_paths=paths)
    assert [each.status < 400 for each in artist.tap.seen("POST", complete)] == [True, True]
    assert holds(artist, small, large)


@TRAPS.flow()
def names_as_artists_make_them(artist: Artist) -> None:
    """Every path comes back byte for byte, once, though contents repeat; else the client crashes or never ends."""
    shared = unique()
    names = {
        unicodedata.normalize("NFC", "über.tx"): shared,
        "nfd/" + unicodedata.normalize("NFD", "über.tx"): shared,
        "UPPER Case.TX": shared,
        "100% & more?#+='\"$(x).tx": unique(),
        "日本語/テクスチャ.tx": unique(),
        "trailing space /x .tx": unique(),
        "😀.tx": b"",
    }
    paths = artist.write(names)
    ref = artist.submit(["true"], upload_paths=[*paths, paths[0]])
    asked = to_upload(artist)
    assert len(asked) == len(set(asked)) and set(asked) <= set(paths)
    assert holds(artist, *names.values())
    artist.farm.wait_for_end(ref, "success")


@TRAPS.flow(versions=("4.0.7", "6.3.0", "9.2.0"))
def a_refusal(artist: Artist) -> None:
    """What is wrong with a submission is told in words that name it, at once and without a redirect."""
    done = artist.drive("submit", artist.order(["true"], project="kelp", local_upload=False))
    assert done.code != 0
    assert "kelp" in done.said.partition("Job Submission failed")[2], done.said
    assert len(artist.tap.seen("POST", "/jobs/")) == 1
