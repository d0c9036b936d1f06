"""Measure everything, print the tables, write them to build/bench.md.

A goal that is missed is shown, and ends the run with 1.
"""

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.accept import accept_rows, stored_rows
from bench.farm import BenchFarm, bench_farm
from bench.fleet import fleet_rows
from bench.flow import first_start_rows, kill_rows, throughput_rows
from bench.reads import read_rows
from bench.rows import Row, markdown

OUT = Path(__file__).parent.parent / "build" / "bench.md"

MEASURES: dict[str, Callable[[BenchFarm], list[Row]]] = {
    "M1": accept_rows,
    "M2": stored_rows,
    "M3": first_start_rows,
    "M4": throughput_rows,
    "M5": kill_rows,
    "M8": fleet_rows,
    "M13": read_rows,
}


def main(wanted: list[str]) -> int:
    """Measure the rows named, or all."""
    rows: list[Row] = []
    for name in wanted or MEASURES:
        # A stack of its own for each: the emulator grows slower with all that was ever written to it.
        with tempfile.TemporaryDirectory() as folder, bench_farm(Path(folder)) as farm:
            print(f"{name} ...", flush=True)
            began = time.monotonic()
            found = MEASURES[name](farm)
            rows += found
            for row in found:
                print(f"  {row.what}: {row.spread()} {row.unit}  {row.floor}", flush=True)
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    table = markdown(rows)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    OUT.write_text(f"# Bench, {when}, {platform.processor() or platform.machine()}\n\n{table}")
    print(f"\n{table}\nWritten to {OUT}")
    return int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
