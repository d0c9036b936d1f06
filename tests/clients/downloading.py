"""Get the frames back: by job, in pages and ranges, by the old downloader, and by the daemons."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

from shared.models.job import JobRef
from shared.models.task import TaskStatus
from tests.clients.artist import Artist
from tests.clients.matrix import FLOWS
from tests.e2e.farm import Farm

# What each task of a job writes: several files, an empty one, nested folders, names as artists make them.
OUT = "/vol/relay/renders"
FRAMES: tuple[Mapping[str, bytes], ...] = (
    {"f.0001.exr": b"one", "beauty/deep/f.0001.exr": b"deep one"},
    {"f.0002.exr": b""},
    {"crypto matte/überblick f.0003.exr": b"three"},
)


def rendered(artist: Artist) -> JobRef:
    """Return a job of the studio whose tasks wrote FRAMES, then one that wrote nothing and one that failed."""
    return artist.studio.rendered(_render)


def _render(farm: Farm) -> JobRef:
    commands = [*(_writes(OUT, files) for files in FRAMES), "true", "exit 3"]
    ref = farm.submit(commands, output_path=OUT, location="elsewhere")
    farm.wait_for_end(ref, "failed")
    return ref


def _writes(out: str, files: Mapping[str, bytes]) -> str:
    """Return the command of a task that writes these files."""
    lines = [
        f'mkdir -p "{Path(out, name).parent}"; printf "{content.decode()}" >"{Path(out, name)}"'
        for name, content in files.items()
    ]
    return "; ".join(lines)


def all_files(*tasks: int) -> dict[str, bytes]:
    """Return what some tasks wrote, all of them when none is named."""
    chosen = [FRAMES[index] for index in tasks or range(len(FRAMES))]
    return {name: content for files in chosen for name, content in files.items()}


def found(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def new_folder(artist: Artist, name: str) -> Path:
    folder = artist.folder / name
    folder.mkdir(parents=True)
    return folder


def is_downloaded(artist: Artist, ref: JobRef) -> bool:
    """Tell whether the farm knows every task with frames, or without any, as downloaded."""
    tasks = artist.farm.tasks(ref)
    return all(task.status in (TaskStatus.DOWNLOADED, TaskStatus.FAILED) for task in tasks)


@FLOWS.flow(since="8.0")
def download(artist: Artist) -> None:
    """The frames of a job come down to a folder of one's choice: all of them, page by page, and by ranges."""
    ref = rendered(artist)
    whole, paged, some = (new_folder(artist, name) for name in ("whole", "paged", "some"))
    assert artist.conductor("download", "-o", str(whole), ref.job_id).code == 0
    assert found(whole / ref.job_id) == all_files(), artist.tap.story()
    artist.wait("reported as downloaded", partial(is_downloaded, artist, ref), patience_s=20)

    address = f"/jobs/{ref.job_id}/downloads"
    before = len(artist.tap.seen("POST", address))
    paging = ("-ps", "2", "-o", str(paged))
    assert artist.conductor("download", *paging, str(int(ref.job_id))).code == 0
    assert found(paged / ref.job_id) == all_files()
    assert len(artist.tap.seen("POST", address)) - before == 2

    ranges = f"{int(ref.job_id)}:0-2x2,9"
    assert artist.conductor("download", "-o", str(some), ranges).code == 0
    assert found(some / ref.job_id) == all_files(0, 2)


@FLOWS.flow()
def downloader(artist: Artist) -> None:
    """The old downloader: by job, and by task; it checks every MD5, and would try for ever if one were wrong."""
    ref = rendered(artist)
    whole, some = new_folder(artist, "whole"), new_folder(artist, "some")
    done = artist.conductor("downloader", "--job_id", ref.job_id, "--output", str(whole))
    assert done.code == 0, done.said
    assert found(whole) == all_files(), artist.tap.story()
    artist.wait("reported as downloaded", partial(is_downloaded, artist, ref), patience_s=20)
    words = ("--job_id", str(int(ref.job_id)), "--task_id", "000,002", "--output", str(some))
    done = artist.conductor("downloader", *words)
    assert done.code == 0, done.said
    assert found(some) == all_files(0, 2), artist.tap.story()


@FLOWS.flow()
def download_by_daemon(artist: Artist) -> None:
    """The daemon of a location brings what was submitted from there home, once, and says so."""
    rendered(artist)  # waits to be fetched too, from elsewhere
    location = f"lisbon-{uuid4().hex[:8]}"
    out = str(artist.renders)
    commands = [_writes(out, FRAMES[0]), _writes(out, FRAMES[1])]
    ref = artist.farm.submit(commands, output_path=out, location=location)
    artist.farm.wait_for_end(ref, "success")
    command = "download" if artist.is_at_least("8.0") else "downloader"
    with artist.daemon(command, "--location", location):
        artist.wait("all is downloaded", partial(is_downloaded, artist, ref))
    assert found(artist.renders) == all_files(0, 1)
    handed = [
        (task["job_id"], task["task_id"])
        for each in artist.tap.seen("GET", "/downloads/next")
        for task in each.answered()["data"]
    ]
    assert sorted(handed) == [(ref.job_id, "000"), (ref.job_id, "001")]


@FLOWS.flow(since="8.0")
def download_of_a_windows_artist(artist: Artist) -> None:
    """Frames go back to the drive they were rendered for; a client on Linux keeps them below the home folder."""
    out = "R:/reef/out"
    command = 'mkdir -p /reef/out; printf "reef" >/reef/out/f.0001.exr'
    ref = artist.farm.submit([command], output_path=out)
    artist.farm.wait_for_end(ref, "success")
    assert artist.conductor("download", ref.job_id).code == 0
    [page] = artist.tap.seen("POST", f"/jobs/{ref.job_id}/downloads")
    assert {each["output_dir"] for each in page.answered()["downloads"]} == {out}
    kept = artist.folder / "home" / "CONDUCTOR_DOWNLOADS" / ref.job_id
    assert found(kept) == {"f.0001.exr": b"reef"}
