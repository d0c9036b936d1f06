"""The limit of a render's memory, and those around it that the agent runs under itself."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.memory import limit_memory
from tests.agent.conftest import Machine
from tests.agent.server import Farm
from tests.waiting import until

MIB = 1 << 20
UNLIMITED_V1 = "9223372036854771712\n"


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """The groups of a pod and its container, seen from outside: plain files, which limit nothing."""
    own = tmp_path / "kubepods" / "pod" / "container"
    own.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    (own / "cgroup.subtree_control").write_text("memory\n")
    return tmp_path


@pytest.mark.parametrize(
    ("asked_mib", "container", "pod", "limit"),
    [
        (7680, f"{6000 * MIB}\n", "max\n", 5872),
        (7680, "max\n", f"{6000 * MIB}\n", 5872),
        (7680, f"{6000 * MIB}\n", f"{5000 * MIB}\n", 4872),
        (7680, "max\n", "max\n", 7680),
        (1000, f"{6000 * MIB}\n", "max\n", 1000),
        (0, f"{6000 * MIB}\n", "max\n", 5872),
        (200, f"{200 * MIB}\n", "max\n", 150),
    ],
)
def test_version_2_leaves_the_agent_room_within_the_smallest_limit_around_it(
    version_2: Path, asked_mib: int, container: str, pod: str, limit: int
) -> None:
    own = version_2 / "kubepods" / "pod" / "container"
    (own / "memory.max").write_text(container)
    (own.parent / "memory.max").write_text(pod)
    memory = limit_memory(asked_mib, root=version_2, membership="0::/kubepods/pod/container\n")
    assert memory.limit_mib == limit
    assert (own / f"baton-{os.getpid()}" / "memory.max").read_text() == str(limit * MIB)


def test_version_2_within_a_container_shows_its_group_as_the_root(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    (tmp_path / "memory.max").write_text(f"{6000 * MIB}\n")
    for path in ("/", "/../../elsewhere"):
        memory = limit_memory(7680, root=tmp_path, membership=f"0::{path}\n")
        assert memory.limit_mib == 5872
        for file in (tmp_path / f"baton-{os.getpid()}").iterdir():
            file.unlink()


@pytest.mark.parametrize("has_limit", [True, False])
def test_version_1_leaves_the_agent_room_too(tmp_path: Path, has_limit: bool) -> None:
    own = tmp_path / "memory" / "docker" / "x"
    own.mkdir(parents=True)
    around = f"{6000 * MIB}\n" if has_limit else UNLIMITED_V1
    (own.parent / "memory.limit_in_bytes").write_text(around)
    (own / "memory.limit_in_bytes").write_text(UNLIMITED_V1)
    memory = limit_memory(7680, root=tmp_path, membership="4:memory:/docker/x\n")
    assert memory.limit_mib == (5872 if has_limit else 7680)


def test_a_group_that_a_killed_agent_left_under_our_process_id_is_made_anew(
    version_2: Path,
) -> None:
    own = version_2 / "kubepods" / "pod" / "container"
    (own / f"baton-{os.getpid()}").mkdir()
    memory = limit_memory(64, root=version_2, membership="0::/kubepods/pod/container\n")
    assert memory.is_limited


@pytest.fixture
def container() -> Iterator[Path]:
    """A real group of 256 MiB, of version 1."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    if own is None:
        pytest.skip("no memory groups of version 1 here")
    group = Path(f"/sys/fs/cgroup/memory/{own}/container-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"no memory group may be made here: {exc}")
    (group / "memory.limit_in_bytes").write_text(str(256 * MIB))
    yield group
    until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_render_that_outgrows_the_container_ends_alone(
    machine: Machine, farm: Farm, container: Path
) -> None:
    """As on Kubernetes, where the claim hands out what the machine has and the container has less."""
    attempt = farm.add_attempt(
        "echo started; while ! test -e /out/go; do sleep 0.05; done;"
        " head -c 400M /dev/zero | tail -c 400M > /dev/null",
        memory_mib=960,
        is_watched=True,
    )
    join = f"echo $$ > {container}/cgroup.procs && exec {sys.executable} -m agent"
    run = machine.start(attempt, None, ("sh", "-c", join))
    farm.wait_for("the render", lambda: "started" in attempt.shown.values())
    limit = container / f"baton-{run.process.pid}" / "memory.limit_in_bytes"
    assert int(limit.read_text()) == 192 * MIB
    (folder,) = (machine.folder / "work").iterdir()
    (folder / "outputs" / "go").touch()
    assert run.wait() == 0, run.diary
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "out_of_memory"
    assert attempt.finish["reason"].endswith("of 192 MiB")
    assert "out_of_memory: " in farm.log(attempt)
