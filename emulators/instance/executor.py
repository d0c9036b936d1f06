"""Runs one task's command as a family of processes that ends as a whole.

A forked executor stands between the machine and the command: it adopts the command's orphans, so
that a renderer which left its session is found too, and ends everything when the command ends,
when it is told to stop, or when the machine ends.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulators.engine import processes
from emulators.engine.files import read_json, write_json
from emulators.instance.memory import MemoryGroup

_STOP = signal.SIGTERM
_MACHINE_ENDED = signal.SIGHUP
_SIGNALS = {signal.SIGCHLD, _STOP, _MACHINE_ENDED}
_EXIT_NOT_FOUND = 127


@dataclass(frozen=True)
class Command:
    """What to run, where, and how to stop it. `main` runs in a forked child; else `argv` by exec.

    `machine` is what the names of the machine's control groups begin with.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    logs: Path
    name: str
    machine: str
    kill_signal: int
    kill_timeout_s: float
    memory_max_mib: int = 0
    main: Callable[[], int] | None = None


@dataclass(frozen=True)
class Ending:
    """How a command ended. `exit_code` is 128 + signal when a signal ended it."""

    exit_code: int
    signal: int
    is_oom: bool


def start(command: Command) -> int:
    """Start `command`; return its executor's pid, which ends when all of the command has ended."""
    machine_pid = os.getpid()
    gc.freeze()  # what is shared with the child stays shared
    executor_pid = os.fork()
    if executor_pid:
        gc.unfreeze()
        return executor_pid
    code = 1
    try:
        _execute(command, machine_pid)
        code = 0
    finally:
        os._exit(code)


async def ended(pid: int) -> None:
    """Return when the executor `pid` has ended, and reap it."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    is_over: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, is_over.set_result, None)
    try:
        await is_over
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended: this does not wait


def ending(command: Command) -> Ending:
    """Return how `command`, whose executor has ended, ended."""
    found = read_json(_ending_path(command))
    if found is None:  # the executor itself was killed
        return Ending(128 + signal.SIGKILL, signal.SIGKILL, False)
    return Ending(found["exit_code"], found["signal"], found["is_oom"])


def _ending_path(command: Command) -> Path:
    return command.logs / f"{command.name}.ending.json"


def _execute(command: Command, machine_pid: int) -> None:
    os.setpgid(0, 0)  # a kill of the machine's group must leave someone to end the command
    processes.die_with_parent(machine_pid, _MACHINE_ENDED)
    signal.set_wakeup_fd(-1)
    for handled in (*_SIGNALS, signal.SIGINT):
        signal.signal(handled, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _SIGNALS)
    if os.getppid() != machine_pid:  # it ended while its signal had no handler yet
        return
    processes.adopt_orphans()
    _redirect(command)
    _ending_path(command).unlink(missing_ok=True)
    memory = MemoryGroup(f"{command.machine}-{os.getpid()}", command.memory_max_mib)
    executor_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(command, executor_pid, memory)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)  # both sides set it, so that a stop at once finds the group
    status, is_stopped = _wait(pid, command, memory)
    processes.kill_descendants()
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    exit_code = 128 + number if number else os.WEXITSTATUS(status)
    is_oom = memory.oom_kills() > 0 and exit_code != 0 and not is_stopped
    memory.remove()
    write_json(_ending_path(command), {"exit_code": exit_code, "signal": number, "is_oom": is_oom})


def _redirect(command: Command) -> None:
    """Close the machine's files; stdin is empty, stdout and stderr go to the task's logs."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, path, mode in (
        (0, Path(os.devnull), os.O_RDONLY),
        (1, command.logs / f"{command.name}.stdout.0", flags),
        (2, command.logs / f"{command.name}.stderr.0", flags),
    ):
        opened = os.open(path, mode, 0o644)
        os.dup2(opened, target)
        os.close(opened)


def _become(command: Command, executor_pid: int, memory: MemoryGroup) -> None:
    """Turn this child into the command; never return."""
    code = _EXIT_NOT_FOUND
    try:
        os.setpgid(0, 0)
        processes.die_with_parent(executor_pid)
        memory.enter()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(command.directory)
        if command.main is None:
            os.execvpe(command.argv[0], command.argv, command.environment)
        os.environ.clear()
        os.environ.update(command.environment)
        sys.argv = list(command.argv)
        code = command.main()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may unwind into the machine's own stack
        traceback.print_exc()
        code = _EXIT_NOT_FOUND if command.main is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


def _wait(pid: int, command: Command, memory: MemoryGroup) -> tuple[int, bool]:
    """Return the command's wait status and whether it was told to stop."""
    deadline: float | None = None
    while True:
        left_s = 3600.0 if deadline is None else max(deadline - time.monotonic(), 0)
        got = signal.sigtimedwait(_SIGNALS, left_s)
        number: int | None = None if got is None else got.si_signo
        for ended, status in processes.reap():
            if ended == pid:
                return status, deadline is not None
        if number == _MACHINE_ENDED:
            processes.kill_descendants()
            memory.remove()
            os._exit(0)
        if number == _STOP and deadline is None:
            deadline = time.monotonic() + command.kill_timeout_s
            processes.send_group(pid, command.kill_signal)
        elif number is None and deadline is not None:
            processes.send_group(pid, signal.SIGKILL)
            deadline = time.monotonic() + 1  # it cannot refuse; look again should it have forked
