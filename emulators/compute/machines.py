"""The processes behind instances: started, found again after a restart, told, and ended."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulators.engine.files import read_json, write_json
from emulators.engine.processes import Process
from emulators.instance.guard import EXIT_ALREADY_ON

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_LOCK_PATIENCE_S = 1.0
_END_PATIENCE_S = 5.0


class InUse(Exception):
    """Another stand-in works in this directory."""


class Machines:
    """The machines of one data directory; `on_end` is called with a machine's id when it ends."""

    def __init__(self, directory: Path, on_end: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_end = on_end
        self._running: dict[str, Process] = {}
        self._popen: dict[str, subprocess.Popen[bytes]] = {}
        self._descriptors: dict[str, int] = {}
        self._directories: dict[str, Path] = {}
        self._lock: int | None = None

    @property
    def lock(self) -> Path:
        """The file which is locked for as long as a stand-in looks after the machines."""
        return self._directory / "compute.lock"

    def claim(self) -> None:
        """Take the directory. Raises: InUse."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:  # machines look at it for an instant, a rival keeps it
                if time.monotonic() > deadline:
                    raise InUse(self._directory) from None
                time.sleep(0.01)

    def directory(self, instance: dict[str, Any]) -> Path:
        """Return where an instance keeps everything."""
        return self._directory / "machines" / f"{instance['name']}-{instance['id']}"

    def cache(self, zone: str) -> Path:
        """Return the directory which all machines of a zone share."""
        path = self._directory / "zones" / zone / "cache"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def describe(self, instance: dict[str, Any], machine: dict[str, Any]) -> None:
        """Write what a machine is; a running one takes notice."""
        directory = self.directory(instance)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "machine.json", machine)
        if (process := self._running.get(instance["id"])) is not None:
            process.send(signal.SIGHUP)

    def switch_on(self, instance: dict[str, Any]) -> Process:
        """Start the machine of a described instance."""
        directory = self.directory(instance)
        inherited = os.environ.get("PYTHONPATH")
        roots = [*([inherited] if inherited else []), str(_PACKAGE_ROOT)]
        with (directory / "machine.log").open("ab") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "emulators.instance", str(directory)],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = Process(popen.pid)
        self._popen[instance["id"]] = popen
        self._directories[instance["id"]] = directory
        self._watch(instance["id"], process)
        return process

    def adopt(self, instance: dict[str, Any]) -> bool:
        """Find the running machine of an instance that an earlier stand-in started."""
        process = _powered(self.directory(instance))
        if process is None:
            return False
        self._directories[instance["id"]] = self.directory(instance)
        self._watch(instance["id"], process)
        return True

    def _watch(self, id_: str, process: Process) -> None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self._ended, id_)
            return
        self._running[id_] = process
        self._descriptors[id_] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, id_)

    def _ended(self, id_: str) -> None:
        self._running.pop(id_, None)
        if (descriptor := self._descriptors.pop(id_, None)) is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        popen = self._popen.pop(id_, None)
        if popen is not None and popen.wait() == EXIT_ALREADY_ON:
            # A stand-in that was killed had just started this machine: take that one.
            earlier = _powered(self._directories[id_])
            if earlier is not None:
                self._watch(id_, earlier)
                return
        del self._directories[id_]
        self._on_end(id_)

    def is_on(self, instance: dict[str, Any]) -> bool:
        """Return whether the machine runs."""
        return instance["id"] in self._running

    def status(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return what the machine last said of itself; empty before its first word."""
        return read_json(self.directory(instance) / "status.json") or {}

    def pid(self, instance: dict[str, Any]) -> int | None:
        """Return the pid of the machine's guard."""
        process = self._running.get(instance["id"])
        return None if process is None else process.pid

    def switch_off(self, instance: dict[str, Any], *, number: int = signal.SIGTERM) -> None:
        """Pull the plug; quiet when it is off. SIGKILL ends the machine as if its host had died."""
        if (process := self._running.get(instance["id"])) is not None:
            process.send(number)

    def forget(self, instance: dict[str, Any]) -> None:
        """Remove what a machine worked with, but not its logs."""
        for work in self.directory(instance).glob("allocs/*/work"):
            shutil.rmtree(work, ignore_errors=True)

    def end_strays(self, known: set[str]) -> None:
        """End machines in the directory which belong to none of the known directories' names."""
        for directory in (self._directory / "machines").glob("*"):
            if directory.name not in known and (process := _powered(directory)) is not None:
                process.send(signal.SIGTERM)

    async def end_all(self) -> None:
        """Switch off every machine that is on, and return when none of them is left.

        Nobody is told of their ends, and machines switched on meanwhile are left alone.
        """
        running, popens = list(self._running.values()), list(self._popen.values())
        for descriptor in self._descriptors.values():
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        for kept in (self._running, self._popen, self._descriptors, self._directories):
            kept.clear()
        for process in running:
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + _END_PATIENCE_S
        while any(process.is_running() for process in running):
            if time.monotonic() > deadline:
                for process in running:
                    process.send(signal.SIGKILL)
            await asyncio.sleep(0.01)
        for popen in popens:
            popen.wait()


def _powered(directory: Path) -> Process | None:
    """Return the running guard of a machine's directory."""
    known = read_json(directory / "guard.json")
    if known is None:
        return None
    process = Process(known["pid"], known["started"])
    return process if process.is_running() else None
