"""Measure everything, print the tables, write them to build/bench.md.

A goal that is missed is shown, and ends the run with 1.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.accept import accept_rows, stored_rows
from bench.clients import client_rows
from bench.farm import BenchFarm, bench_farm
from bench.fleet import fleet_rows
from bench.flow import first_start_rows, kill_rows, throughput_rows
from bench.policy import policy_rows
from bench.reads import read_rows
from bench.rows import Row, markdown
from bench.slurm import SlurmFigures, is_here, measure_slurm

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "bench.md"
# What Slurm has a figure for, and how many tasks it is given.
PEERED = {"M1", "M3", "M4", "M5"}
SLURM_TASKS = 1_000

MEASURES: dict[str, Callable[[BenchFarm], list[Row]]] = {
    "M1": accept_rows,
    "M2": stored_rows,
    "M3": first_start_rows,
    "M4": throughput_rows,
    "M5": kill_rows,
    "M6": policy_rows,
    "M8": fleet_rows,
    "M13": read_rows,
    "M15": client_rows,
}


def measure(name: str, answer: Path) -> None:
    """Measure one row of the scorecard on a farm of its own, and leave the figures in a file."""
    with tempfile.TemporaryDirectory() as folder, bench_farm(Path(folder)) as farm:
        answer.write_text(json.dumps([asdict(row) for row in MEASURES[name](farm)]))


def _slurm(folder: Path) -> SlurmFigures | None:
    """Measure Slurm on this machine, before anything of ours runs."""
    if not is_here():
        print(
            "Slurm is not here (Debian: slurmctld slurmd slurm-client munge): its figures are quoted"
        )
        return None
    print("Slurm ...", flush=True)
    (folder / "slurm").mkdir()
    return measure_slurm(folder / "slurm", SLURM_TASKS)


def main(wanted: list[str]) -> int:
    """Measure the rows named, or all, each in a process and on a stack of its own.

    The emulator grows slower with all that was ever written to it, and adapters are made once a process.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        slurm = _slurm(Path(folder)) if PEERED.intersection(wanted or MEASURES) else None
        for name in wanted or MEASURES:
            print(f"{name} ...", flush=True)
            answer = Path(folder) / f"{name}.json"
            one = [sys.executable, "-m", "bench", "--one", name, str(answer)]
            subprocess.run(one, cwd=ROOT, check=True)
            found = [Row(**each) for each in json.loads(answer.read_text())]
            if slurm:
                found = [replace(row, peer=slurm.beside(row) or row.peer) for row in found]
            rows += found
            for row in found:
                said = "; ".join(filter(None, (row.floor, row.peer)))
                print(f"  {row.what}: {row.spread()} {row.unit}  {said}", flush=True)
    table = markdown(rows)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    OUT.write_text(f"# Bench, {when}, {platform.processor() or platform.machine()}\n\n{table}")
    print(f"\n{table}\nWritten to {OUT}")
    return int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
