"""Run a module of ours as the program that it is, with its log at hand."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Wait for a condition, and fail with `what` after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
