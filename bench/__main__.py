"""Measure everything, print the tables, write them to build/bench.md.

A goal that is missed is shown, and ends the run with 1.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.accept import accept_rows, stored_rows
from bench.farm import BenchFarm, bench_farm
from bench.fleet import fleet_rows
from bench.flow import first_start_rows, kill_rows, throughput_rows
from bench.reads import read_rows
from bench.rows import Row, markdown

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "bench.md"

MEASURES: dict[str, Callable[[BenchFarm], list[Row]]] = {
    "M1": accept_rows,
    "M2": stored_rows,
    "M3": first_start_rows,
    "M4": throughput_rows,
    "M5": kill_rows,
    "M8": fleet_rows,
    "M13": read_rows,
}


def measure(name: str, answer: Path) -> None:
    """Measure one row of the scorecard on a farm of its own, and leave the figures in a file."""
    with tempfile.TemporaryDirectory() as folder, bench_farm(Path(folder)) as farm:
        answer.write_text(json.dumps([asdict(row) for row in MEASURES[name](farm)]))


def main(wanted: list[str]) -> int:
    """Measure the rows named, or all, each in a process and on a stack of its own.

    The emulator grows slower with all that was ever written to it, and adapters are made once a process.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted or MEASURES:
            print(f"{name} ...", flush=True)
            answer = Path(folder) / f"{name}.json"
            one = [sys.executable, "-m", "bench", "--one", name, str(answer)]
            subprocess.run(one, cwd=ROOT, check=True)
            found = [Row(**each) for each in json.loads(answer.read_text())]
            rows += found
            for row in found:
                print(f"  {row.what}: {row.spread()} {row.unit}  {row.floor}", flush=True)
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
