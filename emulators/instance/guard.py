"""The power supply of one machine: when it or the machine ends, nothing stays on.

The guard forks the machine. Both may be killed with SIGKILL: the kernel ends the machine when the
guard ends (parent death signal), executors end what they run when the machine ends, and the guard,
as the adopter of every orphan below it, kills what is left when the machine ends.
"""

import fcntl
import os
import signal
from pathlib import Path

from emulators.engine import processes
from emulators.engine.files import read_json, write_json
from emulators.instance.memory import remove_groups

EXIT_ALREADY_ON = 75  # another guard already powers this machine
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def guard(machine_dir: Path) -> int:
    """Run the machine of `machine_dir` until it ends or SIGTERM; return the exit code.

    SIGTERM pulls the plug. SIGHUP tells the machine that machine.json has changed.
    """
    lock = os.open(machine_dir / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return EXIT_ALREADY_ON
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    processes.adopt_orphans()
    me = processes.Process(os.getpid())
    write_json(machine_dir / "guard.json", {"pid": me.pid, "started": me.started})
    machine_pid = os.fork()
    if machine_pid == 0:
        _become_machine(machine_dir, me.pid)
    _wait(machine_pid)
    processes.kill_descendants()
    if (machine := read_json(machine_dir / "machine.json")) is not None:
        remove_groups(machine["node_id"])
    return 0


def _wait(machine_pid: int) -> None:
    """Return when the machine has ended or must end."""
    while True:
        number = signal.sigwait(_SIGNALS)
        if number == signal.SIGHUP:
            processes.send(machine_pid, signal.SIGHUP)
        elif number == signal.SIGCHLD:
            if any(pid == machine_pid for pid, _ in processes.reap()):
                return
        else:
            return


def _become_machine(machine_dir: Path, guard_pid: int) -> None:
    """Never return."""
    code = 1
    try:
        processes.die_with_parent(guard_pid)
        # SIGHUP stays blocked until the machine can handle it: its default action is to end.
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGHUP})
        from emulators.instance.machine import run  # the guard itself stays small

        run(machine_dir)
        code = 0
    finally:
        os._exit(code)
