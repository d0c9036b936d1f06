"""Submit jobs with their files: in the session, by the command line, and by the daemon."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

from shared import wiring
from shared.models.job import JobRef, JobStatus
from shared.models.task import TaskStatus
from shared.services.attempts import blob_name
from tests.clients.artist import Artist
from tests.clients.matrix import FLOWS
from tests.clients.tap import Exchange
from tests.md5 import md5_of

MIB = 1024 * 1024
URLS = "/api/v2/files/get_upload_urls"
# What the clients put into one question, and no more.
FILES_A_CALL = 20


def unique(size: int = 64) -> bytes:
    """Return bytes that no account holds yet."""
    return os.urandom(size)


def asked_for(artist: Artist) -> list[str]:
    """Return the path of each file about which the client has asked so far."""
    return [
        file["path"]
        for each in artist.tap.seen("POST", URLS)
        for file in each.asked()["upload_files"]
    ]


def to_upload(artist: Artist) -> list[str]:
    """Return the path of each file that the client was given URLs for so far."""
    return [
        file["filePath"]
        for each in artist.tap.seen("POST", URLS)
        if each.status == 200
        for listed in each.answered().values()
        for file in listed
    ]


def holds(artist: Artist, *contents: bytes) -> bool:
    """Tell whether the account's store has all of these, each with its right bytes."""
    names = [blob_name(artist.farm.account_id, md5_of(content)) for content in contents]
    blobs = wiring.blobs()
    return len(blobs.stat(names)) == len(set(names)) and all(
        blobs.read(name) == content for name, content in zip(names, contents, strict=True)
    )


# Without files to upload these wait for ever, before they have called anybody.
_WAIT_FOR_A_FILE = ("5.1.1", "7.0.2")


@FLOWS.flow()
def submit_without_files(artist: Artist) -> None:
    ref = artist.submit(
        ["true"],
        priority=7,
        metadata={"shot": "sh040"},
        notify=None,
        local_upload=artist.version not in _WAIT_FOR_A_FILE,
    )
    job = artist.farm.job(ref)
    assert (job.project, job.priority, job.metadata) == ("relay", 7, {"shot": "sh040"})
    assert job.title == f"ciocore {artist.version}" and job.is_preemptible
    artist.farm.wait_for_end(ref, "success")


@FLOWS.flow()
def submit(artist: Artist) -> None:
    """Three files go up, one of them empty, one a program; the render finds each at the artist's own path."""
    script = b'#!/bin/sh\nmkdir -p "$2/beauty"; cat "$1" >"$2/beauty/f.$3.exr"; ls -s "$4" >&2\n'
    plate = unique()
    program, scene, empty = artist.write(
        {"bin/render.sh": script, "scene one.ma": plate, "empty.vdb": b""}
    )
    Path(program).chmod(0o755)
    commands = [f'"{program}" "{scene}" "{artist.renders}" {n:04d} "{empty}"' for n in (1, 2)]
    ref = artist.submit(commands, upload_paths=[program, scene, empty], scout_frames="1")
    assert holds(artist, script, plate, b"")
    artist.farm.wait_for_end(ref, "success")
    outputs = artist.farm.outputs(ref)
    assert outputs == {"beauty/f.0001.exr": plate, "beauty/f.0002.exr": plate}


@FLOWS.flow()
def submit_45_files_and_the_same_again_elsewhere(artist: Artist) -> None:
    """Twenty files a question at most; what was renamed or moved is not uploaded a second time."""
    contents = {f"tex/t.{n:04d}.tx": unique() for n in range(44)} | {"tex/twin.tx": b""}
    contents["tex/twin.tx"] = contents["tex/t.0000.tx"]
    paths = artist.write(contents)
    artist.submit(["true"], upload_paths=paths)
    questions = [len(each.asked()["upload_files"]) for each in artist.tap.seen("POST", URLS)]
    assert len(questions) >= 3 and max(questions) <= FILES_A_CALL
    assert set(asked_for(artist)) == set(paths)
    assert set(paths) - set(to_upload(artist)) <= {paths[0], paths[-1]}
    assert holds(artist, *contents.values())

    moved = artist.folder / "work" / "moved" / "elsewhere"
    shutil.copytree(artist.folder / "work" / "tex", moved)
    others = sorted(str(path.rename(path.with_suffix(".exr"))) for path in moved.iterdir())
    before = len(to_upload(artist))
    ref = artist.submit(["true"], upload_paths=others)
    assert to_upload(artist)[before:] == []
    artist.farm.wait_for_end(ref, "success")


@FLOWS.flow()
def submit_a_large_file_in_parts(artist: Artist) -> None:
    content = unique(11 * MIB + 1)
    [path] = artist.write({"cache.abc": content})
    ref = artist.submit([f'cmp -n 100 "{path}" "{path}"'], upload_paths=[path])
    [parts] = [each.answered()["multiPartURLs"][0] for each in artist.tap.seen("POST", URLS)]
    assert [part["partNumber"] for part in parts["parts"]] == [1, 2, 3]
    assert len(artist.tap.seen("POST", "/api/v2/files/multipart/complete")) == 1
    assert holds(artist, content)
    artist.farm.wait_for_end(ref, "success")


@FLOWS.flow(since="5.6")
def upload_by_command_line(artist: Artist) -> None:
    """Files go up without a job and without a project; a job that uses them later uploads nothing."""
    contents = {"a.tx": unique(), "with space.tx": unique(), "empty.tx": b""}
    paths = artist.write(contents)
    done = artist.upload(paths)
    assert done.code == 0, done.said
    assert holds(artist, *contents.values()), artist.tap.story()
    before = len(to_upload(artist))
    artist.submit(["true"], upload_paths=paths)
    assert len(to_upload(artist)) == before


@FLOWS.flow()
def upload_by_daemon(artist: Artist) -> None:
    """A job whose files are still at the studio waits until the daemon of its location has uploaded them."""
    content = unique()
    scene, other = artist.write({"scene.hip": content, "empty.bgeo": b""})
    location = f"lisbon-{uuid4().hex[:8]}"
    command = f'mkdir -p "{artist.renders}"; cp "{scene}" "{artist.renders}/f.exr"'
    ref = artist.submit(
        [command], upload_paths=[scene, other], local_upload=False, location=location
    )
    assert artist.tap.seen("POST", URLS) == []
    assert artist.farm.job(ref).status == JobStatus.UPLOAD_PENDING
    with artist.daemon(*artist.uploader, "--location", location):
        artist.wait("the daemon has finished", lambda: has_finished(artist))
    *refused, finish = posts(artist, "finish")
    assert finish.status < 400
    # 5.1 reports as finished too what came to nothing; the others say then that they failed.
    assert {each.status for each in refused} <= ({422} if artist.version == "5.1.1" else set())
    assert {each.status for each in posts(artist, "update")} <= {200, 204}
    assert holds(artist, content, b"")
    artist.farm.wait_for_end(ref, "success")
    assert artist.farm.outputs(ref) == {"f.exr": content}
    assert _statuses(artist, ref) == {TaskStatus.SUCCESS}


def posts(artist: Artist, what: str) -> list[Exchange]:
    """Return what a daemon has reported of its uploads: `update`, `finish` or `fail`."""
    return [
        each
        for each in artist.tap.all_seen()
        if each.path.startswith("/uploads/") and each.path.endswith(f"/{what}")
    ]


def has_finished(artist: Artist) -> bool:
    """Tell whether a daemon has reported an upload as finished, and was believed."""
    return any(each.status < 400 for each in posts(artist, "finish"))


def has_failed(artist: Artist) -> bool:
    """Tell whether a daemon has reported that it failed, or something as finished that was not."""
    return bool(posts(artist, "fail")) or any(
        each.status >= 400 for each in posts(artist, "finish")
    )


def _statuses(artist: Artist, ref: JobRef) -> set[TaskStatus]:
    return {task.status for task in artist.farm.tasks(ref)}
