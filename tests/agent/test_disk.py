"""The machine's disk: folders to work in, the cache and its limits, and what happens when nothing fits any more."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cache import Cache
from agent.errors import Faulty
from agent.locks import locked
from agent.work import sweep, work_folder
from tests.agent.conftest import AgentRun, Machine
from tests.agent.server import Attempt, Farm
from tests.md5 import md5_of

MIB = 1 << 20
DISK_MIB = 64
RESERVE_MIB = DISK_MIB // 10
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make disks and namespaces")

#: An agent that is the first process of a container, and so has the process id 1 each time.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def rendering(machine: Machine, farm: Farm, *container: str) -> tuple[Attempt, AgentRun]:
    """Start an attempt; return when it renders, until /out/go is there."""
    command = "echo started; while ! test -e /out/go; do sleep 0.05; done; cat /vol/a.txt"
    attempt = farm.add_attempt(command, is_watched=True)
    farm.add_input(attempt, "/vol/a.txt", b"a\n")
    run = machine.start(attempt, None, (*container, sys.executable, "-m", "agent"))
    farm.wait_for("the render", lambda: "started" in attempt.shown.values())
    return attempt, run


def folders(machine: Machine) -> list[Path]:
    return list((machine.folder / "work").iterdir())


@as_root
def test_an_agent_that_was_killed_hard_hinders_no_other_with_its_process_id(
    machine: Machine, farm: Farm
) -> None:
    for _ in range(2):
        _, run = rendering(machine, farm, *CONTAINER)
        pid = run.process.pid
        os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()), signal.SIGKILL)
        run.process.wait()
    assert folders(machine)
    last = farm.add_attempt("echo x > /out/x.txt")
    run = machine.start(last, None, (*CONTAINER, sys.executable, "-m", "agent"))
    assert run.wait() == 0, run.diary
    assert farm.outputs(last) == {"x.txt": b"x\n"}
    assert folders(machine) == []


def test_the_folder_of_an_agent_that_lives_is_left_alone(machine: Machine, farm: Farm) -> None:
    attempt, run = rendering(machine, farm)
    (folder,) = folders(machine)
    machine.finish(farm.add_attempt("true"))
    assert folders(machine) == [folder]
    (folder / "outputs" / "go").touch()
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "success", farm.log(attempt)


def test_only_folders_of_attempts_are_swept(tmp_path: Path) -> None:
    others = [tmp_path / "baton-7", tmp_path / "baton-attempt-file", tmp_path / "somebody's"]
    others[0].mkdir()
    others[1].touch()
    others[2].mkdir()
    (tmp_path / "baton-attempt-link").symlink_to(others[2])
    (tmp_path / "baton-attempt-x").mkdir()
    with work_folder(tmp_path) as mine:
        sweep(tmp_path)
        assert mine.is_dir()
    assert not (tmp_path / "baton-attempt-x").exists()
    assert others[2].is_dir()
    assert others[0].is_dir()


def test_a_machine_without_a_folder_to_work_in_is_at_fault(machine: Machine, farm: Farm) -> None:
    (machine.folder / "work").write_text("no folder")
    report = machine.finish(farm.add_attempt("true"))
    assert report["outcome"] == "killed"
    assert "the machine is at fault: it has no folder to work in" in report["reason"]


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A small disk."""
    path = folder / "disk"
    path.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", str(path)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no disks can be made here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small(machine: Machine, disk: Path) -> Machine:
    """A machine whose folders are on the small disk."""
    machine.folder = disk
    machine.cache = disk / "cache"
    return machine


class Shelf:
    """A cache, and files that a test puts into it."""

    def __init__(self, root: Path, account: str = "studio") -> None:
        self.cache = Cache(root, account)

    def put(self, name: str, size_mib: int, *, hours_ago: float = 0) -> str:
        """Have a file that was last used so long ago; returns its MD5."""
        content = name.encode() * (size_mib * MIB // len(name))
        md5 = md5_of(content)
        self.cache.fetch(md5, len(content), lambda: [memoryview(content)])
        then = time.time() - hours_ago * 3600
        os.utime(self.cache.path(md5), (then, 0))
        return md5

    def has(self, *md5s: str) -> list[bool]:
        return [self.cache.path(md5).exists() for md5 in md5s]


WANTED = md5_of(b"wanted")


@as_root
def test_what_was_used_longest_ago_makes_room(disk: Path) -> None:
    shelf, other = Shelf(disk), Shelf(disk, "another")
    oldest = other.put("oldest", 12, hours_ago=9)
    old, used, new = (shelf.put(f"file {i}", 12, hours_ago=i) for i in (8, 7, 1))
    assert shelf.cache.use(used, shelf.cache.path(used).stat().st_size)
    with shelf.cache.keep({WANTED: 15 * MIB}):
        assert other.has(oldest) == [False]
        assert shelf.has(old, used, new) == [True, True, True]
    with shelf.cache.keep({WANTED: 25 * MIB}):
        assert shelf.has(old, used, new) == [False, True, True]
    with shelf.cache.keep({WANTED: 38 * MIB}):
        assert shelf.has(old, used, new) == [False, True, False]


@as_root
def test_nothing_goes_while_there_is_room(disk: Path) -> None:
    shelf = Shelf(disk)
    files = [shelf.put(f"file {i}", 10, hours_ago=i) for i in range(4)]
    with shelf.cache.keep({WANTED: (DISK_MIB - 40 - RESERVE_MIB - 1) * MIB}):
        assert shelf.has(*files) == [True] * 4
    with shelf.cache.keep({}):
        assert shelf.has(*files) == [True] * 4


@as_root
def test_the_reserve_is_kept_free_for_an_attempt_that_fetches_nothing(disk: Path) -> None:
    shelf = Shelf(disk)
    files = [shelf.put(f"file {i}", 10, hours_ago=i) for i in range(6)]
    wanted = {files[5]: shelf.cache.path(files[5]).stat().st_size}
    with shelf.cache.keep(wanted):
        assert shelf.has(*files) == [True, True, True, True, False, True]


@as_root
def test_what_an_attempt_is_about_to_use_or_a_render_has_stays(disk: Path) -> None:
    shelf = Shelf(disk)
    kept, linked, free = (shelf.put(f"file {i}", 15, hours_ago=i) for i in (9, 8, 1))
    os.link(shelf.cache.path(linked), disk / "render's")
    with shelf.cache.keep({kept: 15 * MIB}), shelf.cache.keep({WANTED: 25 * MIB}):
        assert shelf.has(kept, linked, free) == [True, True, False]
    with shelf.cache.keep({WANTED: 30 * MIB}):
        assert shelf.has(kept, linked) == [False, True]
    assert list((disk / "lists").iterdir()) == []


@as_root
def test_what_others_are_about_to_fetch_is_counted_once(disk: Path) -> None:
    shelf = Shelf(disk)
    old, new = (shelf.put(f"file {i}", 20, hours_ago=i) for i in (9, 1))
    with shelf.cache.keep({WANTED: 15 * MIB}):
        with shelf.cache.keep({WANTED: 15 * MIB}):
            assert shelf.has(old, new) == [True, True]
        with shelf.cache.keep({md5_of(b"another"): 15 * MIB}):
            assert shelf.has(old, new) == [False, True]


@as_root
def test_downloads_that_nobody_is_at_any_more_make_room(disk: Path) -> None:
    shelf = Shelf(disk)
    dead, alive = (shelf.cache.path(md5_of(name)).with_suffix(".part") for name in (b"1", b"2"))
    for part in (dead, alive):
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(20 * MIB))
    with locked(alive), shelf.cache.keep({WANTED: 30 * MIB}):
        assert (dead.exists(), alive.exists()) == (False, True)


@as_root
def test_inputs_that_no_such_disk_can_hold_cost_nobody_a_file(disk: Path) -> None:
    shelf = Shelf(disk)
    files = [shelf.put(f"file {i}", 20) for i in range(2)]
    with pytest.raises(Faulty, match="do not fit"), shelf.cache.keep({WANTED: 65 * MIB}):
        pass
    assert shelf.has(*files) == [True, True]


@as_root
def test_an_instance_that_serves_many_jobs_does_not_fill_its_disk(
    small: Machine, farm: Farm
) -> None:
    for number in range(5):
        attempt = farm.add_attempt("cat /vol/tex.exr > /dev/null")
        farm.add_input(attempt, "/vol/tex.exr", bytes([number]) * (20 * MIB))
        assert small.finish(attempt)["outcome"] == "success", farm.log(attempt)


def fill(disk: Path, left_mib: int) -> None:
    """Have so much room left on a disk, and the rest used by somebody else."""
    size = shutil.disk_usage(disk).free - left_mib * MIB
    (disk / "somebody else's").write_bytes(bytes(size))


@as_root
@pytest.mark.parametrize(
    ("command", "input_path", "left_mib", "reason"),
    [
        pytest.param("true", "/vol/tex.exr", 10, "No space left on device", id="fetching"),
        pytest.param("true", "/out/tex.exr", 30, "No space left on device", id="laying out"),
        pytest.param("head -c 90M /dev/zero > big", "", 50, "disk is full; exit code 1", id="run"),
        pytest.param(
            "yes $(head -c 3000 /dev/zero | tr '\\0' x) | head -c 9M; exit 3",
            "",
            5,
            "its disk is full; exit code 3",
            id="log",
        ),
        pytest.param("true", "", 0, "No space left on device", id="anything"),
    ],
)
def test_a_disk_that_is_full_is_the_machines_fault(
    small: Machine,
    farm: Farm,
    disk: Path,
    command: str,
    input_path: str,
    left_mib: int,
    reason: str,
) -> None:
    attempt = farm.add_attempt(command)
    if input_path:
        farm.add_input(attempt, input_path, bytes(20 * MIB))
    fill(disk, left_mib)
    report = small.finish(attempt)
    assert report["outcome"] == "killed"
    assert report["reason"].startswith("the machine is at fault: ")
    assert reason in report["reason"]
    assert folders(small) == []
