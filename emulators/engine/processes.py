"""Linux processes: identity that survives pid reuse, death signals, and the end of whole families."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when its parent ends.

    Call it in the child at once after fork, with the pid of the process that forked it.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:  # it ended before the call above
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start_ticks(pid: int) -> int | None:
    """Return when `pid` was started, in clock ticks since boot; None when it does not run.

    With the pid it names one process for ever; a zombie does not run.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def children(pid: int) -> list[int]:
    """Return the living and unreaped children of every thread of `pid`."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile: its children are ours now or will be in the next look
    return found


def descendants(pid: int) -> list[int]:
    """Return every process below `pid`."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += children(child)
    return found


def kill_descendants() -> None:
    """SIGKILL and reap everything below this process, which must `adopt_orphans`.

    A family that forks while it is being killed is caught by the next round.
    """
    me = os.getpid()
    while family := descendants(me):
        for pid in family:
            send(pid, signal.SIGKILL)
        if not reap():
            time.sleep(0.001)  # the kernel has not ended them yet


def reap() -> list[tuple[int, int]]:
    """Collect every child that has ended, as (pid, wait status)."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def send(pid: int, number: int) -> None:
    """Send a signal; quiet when the process has already ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def send_group(group: int, number: int) -> None:
    """Send a signal to a process group; quiet when it is empty."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class Process:
    """One process which need not be our child: told apart from a later one with the same pid."""

    def __init__(self, pid: int, started: int | None = None) -> None:
        self.pid = pid
        self.started = start_ticks(pid) if started is None else started

    def is_running(self) -> bool:
        """Return whether it still runs."""
        return self.started is not None and start_ticks(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send a signal; quiet when it has already ended."""
        if self.is_running():
            send(self.pid, number)
