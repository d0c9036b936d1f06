"""The memory of one render: its limit, its peak, and whether the kernel ran out of it.

Linux has two ways to group processes (cgroup v1 and v2), and an ordinary user has neither. A missing file means "not
known", never "did not happen".
"""

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Protocol

from agent.journal import note

_ROOT = Path("/sys/fs/cgroup")
_MIB = 1 << 20
_UNLIMITED_MIB = 1 << 40  # what version 1 shows where there is no limit is more
_VMSTAT = Path("/proc/vmstat")


#: What the agent keeps for itself of a limit that it shares with the render, of small ones a part.
RESERVE_MIB = 128
RESERVE_SHARE = 4


class Memory(Protocol):
    """The memory of one render. Units: `limit_mib` 0 is none."""

    limit_mib: int

    @property
    def procs_path(self) -> str | None:
        """The file into which the render writes its pid to join; None where it need not."""
        ...

    @property
    def is_limited(self) -> bool:
        """Whether the limit is kept."""
        ...

    def peak_mib(self) -> int:
        """Return the peak so far, 0 when it is not known."""
        ...

    def was_exhausted(self) -> bool:
        """Tell whether the kernel killed a process of the render for want of memory."""
        ...

    def close(self) -> None:
        """Remove the group once the render has ended."""
        ...


class GroupV1:
    """A group of cgroup v1's memory controller."""

    is_limited = True

    def __init__(self, parent: Path, name: str, limit_mib: int) -> None:
        self.limit_mib = limit_mib
        self._path = _make(parent, name)
        self.procs_path: str | None = str(self._path / "cgroup.procs")
        if limit_mib:
            limit = str(limit_mib * _MIB)
            (self._path / "memory.limit_in_bytes").write_text(limit)
            with contextlib.suppress(
                OSError
            ):  # kernels without accounting of swap have no such file
                (self._path / "memory.memsw.limit_in_bytes").write_text(limit)

    def peak_mib(self) -> int:
        """Return the peak so far."""
        return _number(self._path / "memory.max_usage_in_bytes") // _MIB

    def was_exhausted(self) -> bool:
        """Read the group's counter."""
        return _count(self._path / "memory.oom_control", "oom_kill") > 0

    def close(self) -> None:
        """Remove the group."""
        _remove(self._path)


class GroupV2:
    """A group of cgroup v2."""

    is_limited = True

    def __init__(self, parent: Path, name: str, limit_mib: int) -> None:
        self.limit_mib = limit_mib
        _delegate_memory(parent)
        self._path = _make(parent, name)
        self.procs_path: str | None = str(self._path / "cgroup.procs")
        self._peak = 0
        if limit_mib:
            (self._path / "memory.max").write_text(str(limit_mib * _MIB))
            with contextlib.suppress(OSError):
                (self._path / "memory.swap.max").write_text("0")

    def peak_mib(self) -> int:
        """Return the peak so far; kernels before 5.19 do not keep it, there it is the greatest value seen."""
        now = _number(self._path / "memory.peak") or _number(self._path / "memory.current")
        self._peak = max(self._peak, now)
        return self._peak // _MIB

    def was_exhausted(self) -> bool:
        """Read the group's counter."""
        return _count(self._path / "memory.events", "oom_kill") > 0

    def close(self) -> None:
        """Remove the group."""
        _remove(self._path)


class Ungrouped:
    """No group: no limit, and only the machine's own count of such kills."""

    procs_path: str | None = None
    is_limited = False

    def __init__(self, limit_mib: int) -> None:
        self.limit_mib = limit_mib
        self._before = _count(_VMSTAT, "oom_kill")

    def peak_mib(self) -> int:
        """Return the greatest process that has ended."""
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024

    def was_exhausted(self) -> bool:
        """Tell whether the machine killed some process meanwhile; the caller knows if the render was killed too."""
        return _count(_VMSTAT, "oom_kill") > self._before

    def close(self) -> None:
        """Do nothing."""


def limit_memory(limit_mib: int, *, root: Path = _ROOT, membership: str | None = None) -> Memory:
    """Make a group for the render below our own, as well as this machine lets us. Units: `limit_mib` 0 is none.

    Where our own group has a limit, or one around it, the render's is lower: else the kernel would end us with it, and
    nobody would tell why.
    """
    name = f"baton-{os.getpid()}"
    if membership is None:
        membership = Path("/proc/self/cgroup").read_text()
    try:
        for line in membership.splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                own = _own(root / "memory", path)
                most = _most_mib(own, root / "memory", "memory.limit_in_bytes", limit_mib)
                return GroupV1(own, name, most)
        path = next(line[3:] for line in membership.splitlines() if line.startswith("0::"))
        if "memory" in (root / "cgroup.controllers").read_text().split():
            own = _own(root, path)
            return GroupV2(own, name, _most_mib(own, root, "memory.max", limit_mib))
        reason = "no memory controller"
    except (OSError, StopIteration) as exc:
        reason = str(exc)
    if os.geteuid() == 0:
        note("memory_not_limited", reason=reason)
    return Ungrouped(limit_mib)


def _most_mib(own: Path, mount: Path, name: str, limit_mib: int) -> int:
    """Return how much the render may use: `limit_mib`, or what the smallest limit around us leaves; 0 is no limit."""
    groups = [group for group in (own, *own.parents) if group.is_relative_to(mount)]
    limits = [_number(group / name) // _MIB for group in groups]
    around = min((each for each in limits if 0 < each < _UNLIMITED_MIB), default=0)
    if not around:
        return limit_mib
    left = max(around - min(RESERVE_MIB, around // RESERVE_SHARE), 1)
    return min(limit_mib or left, left)


def _own(mount: Path, path: str) -> Path:
    """Return our own group; inside a container its path may not be visible, there the mount is it."""
    own = mount / path.lstrip("/")
    return own if own.is_dir() else mount


def _make(parent: Path, name: str) -> Path:
    """Make a group, and remove those which killed agents left behind, in a container under our own process id."""
    for left in parent.glob("baton-*"):
        if left.name == name or not Path(f"/proc/{left.name[6:]}").exists():
            with contextlib.suppress(OSError):
                left.rmdir()
    path = parent / name
    path.mkdir()
    return path


def _delegate_memory(parent: Path) -> None:
    """Have `parent` give memory to its children: it may then hold no process itself, so we move down if we are alone.

    Raises: OSError when others live there too.
    """
    control = parent / "cgroup.subtree_control"
    if "memory" in control.read_text().split():
        return
    if (parent / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        own = parent / "agent"
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))
    control.write_text("+memory")


def _remove(path: Path) -> None:
    """Remove an empty group; the kernel needs a moment after its last process."""
    for _ in range(50):
        try:
            path.rmdir()
            return
        except OSError:
            time.sleep(0.01)
    note("group_left_behind", path=str(path))


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _count(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)
