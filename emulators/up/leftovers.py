"""Find and end what a stack started, whoever its parent is by now."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from emulators.engine import processes
from emulators.up.state import MARKER

END_TIMEOUT_S = 10.0


def find(state_path: Path) -> list[psutil.Process]:
    """Return the live processes which carry the mark of this state folder, and all below them."""
    me = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        # a process may end while it is looked at, or belong to somebody else
        with suppress(psutil.Error):
            if process.environ().get(MARKER) == str(state_path):
                found[process.pid] = process
                found |= {each.pid: each for each in process.children(recursive=True)}
    return [
        p for p in found.values() if p.pid not in me and processes.start_ticks(p.pid) is not None
    ]


def end(state_path: Path) -> list[str]:
    """SIGKILL all of them. Returns what would not end, as `pid name`."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while left := find(state_path):
        if time.monotonic() > deadline:
            return [f"{process.pid} {_name(process)}" for process in left]
        for process in left:
            processes.send(process.pid, signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.5)
    return []


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return "?"
