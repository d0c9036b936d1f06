"""Run a module of ours as the program that it is, with its log at hand."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


@contextmanager
def running(
    module: str, *arguments: str, log: Path, env: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `python -m module` while the block runs; it must end by itself when asked."""
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(DEADLINE_S)
        finally:
            program.kill()
    assert program.returncode == 0, log.read_text()
