"""A memory control group for one command: its limit, and whether the kernel ended it for that.

Without the right to make groups (or without the controller) there is no limit and no verdict, as
with Nomad's raw_exec on a machine without control groups. Versions 1 and 2 are both in use.
"""

import contextlib
import os
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE_S = 1.0


class MemoryGroup:
    """A group below this process's own; `limit_mib` 0 limits nothing."""

    def __init__(self, name: str, limit_mib: int) -> None:
        self._path, self._is_v2 = _own_group(name)
        if self._path is None:
            return
        try:
            self._path.mkdir()
            if not self._control("memory.max" if self._is_v2 else "memory.limit_in_bytes").exists():
                raise FileNotFoundError("the memory controller is not delegated")
            if limit_mib:
                self._limit(limit_mib << 20)
        except OSError:
            self.remove()
            self._path = None

    @property
    def is_real(self) -> bool:
        """Whether the kernel looks after this group."""
        return self._path is not None

    @classmethod
    def at(cls, path: Path) -> "MemoryGroup":
        """Return a group that exists."""
        group = cls.__new__(cls)
        group._path, group._is_v2 = path, False
        return group

    def _control(self, name: str) -> Path:
        assert self._path is not None
        return self._path / name

    def _limit(self, limit_bytes: int) -> None:
        limit = "memory.max" if self._is_v2 else "memory.limit_in_bytes"
        swap = "memory.swap.max" if self._is_v2 else "memory.memsw.limit_in_bytes"
        self._control(limit).write_text(str(limit_bytes))
        if self._control(swap).exists():
            self._control(swap).write_text("0" if self._is_v2 else str(limit_bytes))

    def enter(self) -> None:
        """Move this process into the group."""
        if self._path is not None:
            self._control("cgroup.procs").write_text(str(os.getpid()))

    def oom_kills(self) -> int:
        """Return how many processes of the group, or of groups below it, the kernel has ended."""
        if self._path is None or not self._path.exists():
            return 0
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        groups = [self._path] if self._is_v2 else [self._path, *self._below()]
        return sum(_count(group / name) for group in groups)

    def _below(self) -> list[Path]:
        assert self._path is not None
        return [path for path in self._path.rglob("*") if path.is_dir()]

    def remove(self) -> None:
        """Remove the group, whose processes have all ended."""
        if self._path is None or not self._path.exists():
            return
        deadline = time.monotonic() + _PATIENCE_S
        for group in [*sorted(self._below(), reverse=True), self._path]:
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):  # busy for a moment after its last process
                    group.rmdir()
                    break
                time.sleep(0.001)


def remove_groups(prefix: str) -> None:
    """Remove the groups whose names begin with `prefix`, left by killed executors."""
    path, _ = _own_group(prefix)
    if path is not None and path.parent.is_dir():
        for left in path.parent.glob(f"{prefix}*"):
            MemoryGroup.at(left).remove()


def _own_group(name: str) -> tuple[Path | None, bool]:
    """Return the path for a group below ours, and whether it is of version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "memory":
            return _ROOT / "memory" / group.lstrip("/") / name, False
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::") and (_ROOT / "cgroup.controllers").exists():
            return _ROOT / line[3:].lstrip("/") / name, True
    return None, False


def _count(path: Path) -> int:
    counts = dict(row.split() for row in path.read_text().splitlines())
    return int(counts.get("oom_kill", "0"))
