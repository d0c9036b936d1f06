"""Slurm beside us, where Debian's packages are installed: the peer of rows M1, M3, M4a and M5, on the same machine.

One controller, eight nodes of eight processors on one host, and its quickest scheduler settings. It has to run as root:
`apt install slurmctld slurmd slurm-client munge`. Slurm starts a process for every task, our fake agents do not: the
rates say what the bookkeeping allows, not which renders faster.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.farm import wait
from bench.rows import Row, median, number
from emulators.ports import is_free

COMMANDS = ("slurmctld", "slurmd", "sbatch", "scancel", "sinfo", "munged")
NODES = 8
RUNS = 3

CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
PriorityType=priority/basic
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000,default_queue_depth=10000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MaxArraySize=100001
MaxJobCount=200000
MinJobAge=2
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended.txt
NodeName=bench[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, kw_only=True)
class SlurmFigures:
    """What Slurm does here; medians."""

    accept_ms: float
    first_start_s: float
    tasks_per_s: float
    cancel_ms: float

    def beside(self, row: Row) -> str:
        """Return what to say beside a row of ours; nothing where Slurm has no such figure."""
        said = {
            ("M1", "ms"): f"Slurm {number(self.accept_ms)} ms (one command for all)",
            ("M3", "s"): f"Slurm {number(self.first_start_s)} s",
            ("M4a", "tasks/s"): f"Slurm {number(self.tasks_per_s)}/s (starts a process for each)",
            ("M5", "ms"): f"Slurm {number(self.cancel_ms)} ms",
        }
        return said.get((row.metric, row.unit), "")


class Slurm:
    """A running controller; `folder` holds all that it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = dict(os.environ) | {"SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Run one of its commands and return what it says. Raises: CalledProcessError."""
        done = subprocess.run(command, env=self.env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def submit(self, count: int, *options: str) -> str:
        """Submit an array of tasks that only say when they began; returns its id."""
        array = f"--array=0-{count - 1}"
        script = str(self.folder / "task.sh")
        return self.run("sbatch", "--parsable", "--output=/dev/null", array, *options, script)

    def ended_count(self) -> int:
        """Return how many tasks have ever ended."""
        ended = self.folder / "ended.txt"
        return ended.read_bytes().count(b"\n") if ended.exists() else 0

    def wait_until_idle(self) -> None:
        """Wait until every node waits for work."""
        wait("Slurm's nodes", lambda: self.run("sinfo", "-h", "-o", "%T") == "idle", every_s=0.2)


def is_here() -> bool:
    """Tell whether Slurm can run on this machine."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in COMMANDS)


def measure_slurm(folder: Path, task_count: int) -> SlurmFigures:
    """Start Slurm, measure it, end it."""
    with _running(folder) as slurm:
        slurm.wait_until_idle()
        return SlurmFigures(
            first_start_s=median([_first_start_s(slurm) for _ in range(RUNS)]),
            accept_ms=median([_accept_ms(slurm) for _ in range(RUNS)]),
            tasks_per_s=median([_tasks_per_s(slurm, task_count) for _ in range(RUNS)]),
            cancel_ms=median([_cancel_ms(slurm) for _ in range(RUNS)]),
        )


@contextmanager
def _running(folder: Path) -> Iterator[Slurm]:
    port = next(
        port for port in range(27_817, 60_000, 16) if all(map(is_free, range(port, port + 9)))
    )
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "task.sh").write_text(f"#!/bin/sh\ndate +%s.%N > {folder}/began\n")
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname(),
            port=port,
            folder=folder,
            nodes=NODES,
            first_port=port + 1,
            last_port=port + NODES,
        )
    )
    slurm = Slurm(folder)
    munge = [
        f"--{name}={folder}/munge.{name}"
        for name in ("socket", "pid-file", "seed-file", "log-file")
    ]
    daemons = [
        _start(slurm, "munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge)
    ]
    try:
        wait("munge", lambda: (folder / "munge.socket").exists())
        daemons.append(_start(slurm, "slurmctld", "-D", "-c"))
        # in process namespaces of their own: with a node ends whatever it started
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        nodes = [f"bench{number}" for number in range(1, NODES + 1)]
        daemons += [_start(slurm, *apart, "slurmd", "-D", "-N", node) for node in nodes]
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.wait()


def _start(slurm: Slurm, *command: str) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=slurm.env, stdout=quiet, stderr=quiet)


def _first_start_s(slurm: Slurm) -> float:
    before, began = slurm.ended_count(), time.time()
    slurm.submit(1)
    wait("one task", lambda: slurm.ended_count() > before)
    return float((slurm.folder / "began").read_text()) - began


def _accept_ms(slurm: Slurm) -> float:
    began = time.perf_counter()
    job_id = slurm.submit(10_000, "--hold")
    took_ms = (time.perf_counter() - began) * 1000
    slurm.run("scancel", job_id)
    return took_ms


def _tasks_per_s(slurm: Slurm, count: int) -> float:
    wanted, began = slurm.ended_count() + count, time.perf_counter()
    slurm.submit(count)
    wait(f"{count} tasks", lambda: slurm.ended_count() >= wanted, every_s=0.02)
    return count / (time.perf_counter() - began)


def _cancel_ms(slurm: Slurm) -> float:
    job_id = slurm.submit(10_000, "--hold")
    began = time.perf_counter()
    slurm.run("scancel", job_id)
    return (time.perf_counter() - began) * 1000
