"""Start a stack, reach a running one, and end it. The supervisor is a process of its own; its record says all."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from emulators.engine import processes
from emulators.ports import BLOCK_SIZE, find_free_block, free_block_after, is_free, url
from emulators.up import leftovers
from emulators.up.jars import find_jar
from emulators.up.state import ALREADY_RUNNING, MARKER, ROOT, StackError, StateDir

START_WITHIN_S = 400.0  # the supervisor's own limits are shorter, but for a download
STOP_WITHIN_S = 30.0
EMULATOR_JARS = ("firestore", "pubsub")
Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Show no progress."""


class AlreadyRunning(StackError):
    """The state folder has a supervisor."""


class Stack:
    """A running stack, by its state folder."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    @property
    def env(self) -> dict[str, str]:
        """What a program needs to use the stack, the administrator's API key included once there is one."""
        env: dict[str, str] = dict(self.record()["env"])
        if self._state.api_key.exists():
            env["CONDUCTOR_API_KEY"] = self._state.api_key.read_text()
        return env

    @property
    def state_path(self) -> Path:
        return self._state.path

    def record(self) -> dict[str, Any]:
        """Return the supervisor's record. Raises: StackError when nothing runs, or what another copy started."""
        record = self._state.read_record()
        if record is None or not self._state.is_locked():
            raise StackError(
                f"no stack runs with the state folder {self._state.path}: `make up` starts one"
            )
        if (root := record.get("root")) != str(ROOT):
            raise StackError(
                f"the stack of {self._state.path} is that of another copy, {root}; one of this copy's own runs "
                f"beside it, for all commands: export BATON_PORT_BASE={free_block_after(record['port_base'])}"
            )
        return record

    def wait_ready(self) -> None:
        """Wait for a stack that somebody else is starting. Raises: StackError when it does not come up."""
        deadline = time.monotonic() + START_WITHIN_S
        while self._state.read_record() is None or self.record()["phase"] != "ready":
            if time.monotonic() > deadline or not self._state.is_locked():
                raise StackError(
                    f"the stack does not come up; its log: {self._state.supervisor_log}"
                )
            time.sleep(0.05)

    def url(self, name: str) -> str:
        """Return the base URL of a component."""
        return url(self._component(name)["port"])

    def pid(self, name: str) -> int:
        """Return the process id of a component, waiting while it is being started again."""
        return self._wait(name, lambda component: component["pid"] is not None)

    def log(self, name: str) -> str:
        """Return the last lines of a component's log."""
        return self._state.log_tail(name, lines=200)

    def kill(self, name: str) -> int:
        """SIGKILL a component; the supervisor starts it again. Returns the pid that it had."""
        pid = self.pid(name)
        processes.send(pid, signal.SIGKILL)
        return pid

    def restart(self, name: str) -> int:
        """SIGKILL a component and wait until it is healthy again. Returns its new pid."""
        return self.wait_healthy(name, other_than=self.kill(name))

    def wait_healthy(
        self, name: str, *, other_than: int | None = None, timeout_s: float = 60.0
    ) -> int:
        """Wait until a component is healthy, as another process than `other_than`. Returns its pid."""
        return self._wait(
            name, lambda c: c["status"] == "healthy" and c["pid"] != other_than, timeout_s=timeout_s
        )

    def _component(self, name: str) -> dict[str, Any]:
        components: dict[str, dict[str, Any]] = self.record()["components"]
        if name not in components:
            raise StackError(f"the stack has no {name}; it has {', '.join(components)}")
        return components[name]

    def _wait(
        self, name: str, is_good: Callable[[dict[str, Any]], bool], *, timeout_s: float = 60.0
    ) -> int:
        deadline = time.monotonic() + timeout_s
        while not is_good(component := self._component(name)):
            if time.monotonic() > deadline:
                raise StackError(f"{name} is still {component['status']} after {timeout_s:g} s")
            time.sleep(0.02)
        return int(component["pid"])


def start(
    state: StateDir,
    port_base: int,
    *,
    only: Collection[str] = (),
    boot_s: float = 3.0,
    is_tied: bool = False,
    progress: Progress = _silent,
) -> "subprocess.Popen[bytes]":
    """Start a supervisor and wait until its stack is healthy; a tied one ends with this process.

    Raises: StackError; AlreadyRunning.
    """
    for name in EMULATOR_JARS:
        if not only or name in only:
            # here, so that a download is seen; the supervisor finds what came of it
            find_jar(name, progress)
    state.prepare()
    command = [sys.executable, "-m", "emulators.up.supervisor"]
    command += [
        "--port-base",
        str(port_base),
        "--state-dir",
        str(state.path),
        "--boot-s",
        f"{boot_s:g}",
    ]
    command += [argument for name in only for argument in ("--only", name)]
    command += ["--tied"] if is_tied else []
    env = {k: v for k, v in os.environ.items() if k != MARKER} | {"PYTHONPATH": str(ROOT)}
    with state.supervisor_log.open("ab") as log:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if is_tied else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        _wait_ready(state, supervisor, progress)
    except BaseException:
        supervisor.terminate()
        supervisor.communicate()
        raise
    return supervisor


def _wait_ready(state: StateDir, supervisor: "subprocess.Popen[bytes]", progress: Progress) -> None:
    began = time.monotonic()
    shown: set[str] = set()
    while True:
        code = supervisor.poll()
        record = state.read_record() or {}
        if record.get("supervisor_pid") == supervisor.pid:
            for name, component in record["components"].items():
                if component["status"] == "healthy" and name not in shown:
                    shown.add(name)
                    where = url(component["port"]) if component["port"] else ""
                    progress(f"  {name:<10} {time.monotonic() - began:5.1f} s  {where}".rstrip())
            if record["error"]:
                raise StackError(record["error"])
            if record["phase"] == "ready":
                return
        if code == ALREADY_RUNNING:
            raise AlreadyRunning(f"a stack runs already with the state folder {state.path}")
        if code is not None:
            tail = "\n".join(state.supervisor_log.read_text().splitlines()[-15:])
            raise StackError(f"the supervisor ended with code {code}; its log ends:\n{tail}")
        if time.monotonic() - began > START_WITHIN_S:
            raise StackError(f"the stack was not ready after {START_WITHIN_S:g} s")
        time.sleep(0.05)


def stop(state: StateDir) -> bool:
    """End the stack of this folder and all that is left of it. Returns whether one ran. Raises: StackError."""
    ran = state.is_locked()
    if ran and state.read_record():
        supervisor = processes.Process(Stack(state).record()["supervisor_pid"])
        supervisor.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        while supervisor.is_running():
            if time.monotonic() > deadline:
                supervisor.send(signal.SIGKILL)
            time.sleep(0.02)
    if left := leftovers.end(state.path):
        raise StackError(f"these processes do not end: {', '.join(left)}")
    return ran


@contextmanager
def stack(
    *, base_port: int | None = None, only: Collection[str] = (), boot_s: float = 0.5
) -> Iterator[Stack]:
    """Run a stack of one's own while the block runs, on a free block of ports unless told otherwise.

    `only` names the components that are wanted, all of them when empty. Its state folder is removed at the end.
    """
    with ExitStack() as held:
        state, supervisor = _start_somewhere(base_port, only, boot_s, held)
        try:
            yield Stack(state)
        finally:
            supervisor.communicate(
                timeout=STOP_WITHIN_S
            )  # the end of its input is its order to end
            stop(state)
            shutil.rmtree(state.path, ignore_errors=True)


def _reserve(base: int, held: ExitStack) -> bool:
    """Take a block of ports before anybody else does who looks at the same moment, until `held` ends."""
    mark = (Path(tempfile.gettempdir()) / f"baton-ports-{base}.lock").open("w")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        mark.close()
        return False
    held.enter_context(mark)
    return True


def _start_somewhere(
    base_port: int | None, only: Collection[str], boot_s: float, held: ExitStack
) -> tuple[StateDir, "subprocess.Popen[bytes]"]:
    """Start a tied supervisor on `base_port`, else on a free block from BATON_PORT_BASE upwards, else on any."""
    for base in [base_port] if base_port else _candidates():
        if not base_port and not _reserve(base, held):
            continue
        root = os.environ.get("BATON_STATE_DIR")
        state = StateDir(Path(root) / str(base) if root else Path(f"/var/tmp/baton-{base}"))
        try:
            return state, start(state, base, only=only, boot_s=boot_s, is_tied=True)
        except AlreadyRunning:
            if base_port:
                raise
        except StackError:
            shutil.rmtree(state.path, ignore_errors=True)
            raise
    raise StackError("no free block of ports was found")


def _candidates() -> Iterator[int]:
    if named := os.environ.get("BATON_PORT_BASE"):
        blocks = range(int(named), min(int(named) + 64 * BLOCK_SIZE, 65_000), BLOCK_SIZE)
        yield from (b for b in blocks if all(is_free(b + offset) for offset in range(BLOCK_SIZE)))
    else:
        yield from (find_free_block() for _ in range(10))
