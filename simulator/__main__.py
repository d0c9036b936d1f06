"""`python -m simulator report [--runs N]`: run everything, write docs/simulator.md and its pictures."""

import argparse
from pathlib import Path

from simulator.report import write

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    """Read the arguments and write the report."""
    parser = argparse.ArgumentParser(prog="python -m simulator")
    parser.add_argument("command", choices=["report"])
    parser.add_argument(
        "--runs", type=int, default=60, help="runs of the benchmark job, default 60"
    )
    write(DOCS, runs=parser.parse_args().runs)


if __name__ == "__main__":
    main()
