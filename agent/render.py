"""Run a program to its end, whoever ends it. Only the main thread may: the kernel ends the program with its starter."""

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from agent.ending import Cause, Ending
from agent.errors import Failed
from agent.sandbox import Child, Launch

_READ_BYTES = 1 << 16
_TICK_S = 0.1
_LAST_RESORT_S = 5.0

#: How long a render may go on after it was asked to end; for all other causes it ends at once.
_GRACE_S = {Cause.KILLED: 10.0, Cause.TERMINATED: 1.0}


class End(NamedTuple):
    """How a program ended. `exit_code` is 128 + signal when a signal ended it, None when it never started."""

    exit_code: int | None
    was_stopped: bool


class Render:
    """One running program."""

    def __init__(self, launch: Launch) -> None:
        """Start it. Raises: Failed, with what the child said; OSError."""
        self._is_sandboxed = launch.status_fd >= 0
        self._status_fd = launch.status_fd
        self._status: dict[str, int] = {}
        self._unread = b""
        self._asked_at = self._killed_at = math.inf
        self._init_fd: int | None = (
            None  # the sandbox's first process, with which everything in it ends
        )
        self._output_fd, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                launch.argv,
                env=launch.environment,
                cwd=launch.folder,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=launch.pass_fds,
                start_new_session=True,
                preexec_fn=Child(launch),
            )
        except subprocess.SubprocessError as exc:
            os.set_blocking(self._output_fd, False)
            raise Failed(
                os.read(self._output_fd, _READ_BYTES).decode(errors="replace").strip()
            ) from exc
        finally:
            for fd in (write_end, *launch.pass_fds):
                os.close(fd)
        self._process_fd = os.pidfd_open(self._process.pid)
        if self._is_sandboxed:
            os.set_blocking(self._status_fd, False)

    def wait(self, on_output: Callable[[bytes], None], ending: Ending) -> End:
        """Wait for its end and that of its output; end it when `ending` says so."""
        selector = selectors.DefaultSelector()
        fds = [self._output_fd, self._process_fd, ending.fileno()]
        for fd in [*fds, self._status_fd] if self._is_sandboxed else fds:
            selector.register(fd, selectors.EVENT_READ)
        drained_at = math.inf
        has_output, has_ended, was_stopped = True, False, False
        while not has_ended or (has_output and time.monotonic() < drained_at):
            timeout_s = _TICK_S if was_stopped or has_ended else None
            ready = {key.fd for key, _ in selector.select(timeout_s)}
            if self._output_fd in ready and not self._pump(on_output):
                selector.unregister(self._output_fd)
                has_output = False
            if self._status_fd in ready and not self._read_status():
                selector.unregister(self._status_fd)
            if self._process_fd in ready:
                selector.unregister(self._process_fd)
                has_ended = True
                drained_at = time.monotonic() + _LAST_RESORT_S
                self._sweep()
            if ending.fileno() in ready:
                selector.unregister(ending.fileno())
                was_stopped = not has_ended
                self._terminate()
            if was_stopped:
                self._kill_when_due(ending)
        return self._end(was_stopped)

    def _kill_when_due(self, ending: Ending) -> None:
        """Kill it when its grace is over; a graver cause shortens the grace."""
        now = time.monotonic()
        grace_s = 0.0 if ending.cause is None else _GRACE_S.get(ending.cause, 0.0)
        if now >= self._killed_at + _LAST_RESORT_S:
            self._process.kill()
        elif self._killed_at == math.inf and now >= self._asked_at + grace_s:
            self._killed_at = now
            self._kill()

    def _kill(self) -> None:
        """End everything in it: with the sandbox's first process all others end, and then bubblewrap itself."""
        if self._init_fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
        else:
            self._sweep()
            self._process.kill()

    def _terminate(self) -> None:
        """Ask every process of the render to end, but not bubblewrap, which would take them with it at once."""
        self._asked_at = time.monotonic()
        for pid in _descendants(self._process.pid) + (
            [] if self._is_sandboxed else [self._process.pid]
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _sweep(self) -> None:
        """Without a sandbox, end what the program left behind in its session."""
        if not self._is_sandboxed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _pump(self, on_output: Callable[[bytes], None]) -> bool:
        """Pass on what it wrote; False at the end."""
        content = os.read(self._output_fd, _READ_BYTES)
        on_output(content)
        return bool(content)

    def _read_status(self) -> bool:
        """Read what bubblewrap says of itself; False at the end."""
        try:
            content = os.read(self._status_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        *lines, self._unread = (self._unread + content).split(b"\n")
        for line in lines:
            self._status.update(json.loads(line))
        if self._init_fd is None and "exit-code" not in self._status:
            with contextlib.suppress(KeyError, ProcessLookupError):
                self._init_fd = os.pidfd_open(self._status["child-pid"])
        return bool(content)

    def _end(self, was_stopped: bool) -> End:
        code = self._process.wait()
        if self._is_sandboxed:
            while self._read_status():
                pass
            return End(self._status.get("exit-code"), was_stopped)
        return End(128 - code if code < 0 else code, was_stopped)


def _descendants(ancestor: int) -> list[int]:
    """Return the processes below `ancestor`; the first one in a sandbox ignores signals it has no handler for."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, waiting = [], [ancestor]
    while waiting:
        waiting = [child for pid in waiting for child in children.get(pid, [])]
        found += waiting
    return found
