"""Start what a driver talks to, on a free port, and stop it afterwards."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import requests

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


@contextmanager
def stand_in(module: str, *arguments: str | Path) -> Iterator[str]:
    """Run `python -m emulators.<module>` on a free port; yield its URL."""
    command = [sys.executable, "-m", f"emulators.{module}", "--port", "0", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, f"{module} did not say where it listens: {line!r}"
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def nobody() -> str:
    """Return a URL at which nothing answers."""
    return f"http://127.0.0.1:{free_port()}"


def until(look: Callable[[], T], *, holds: Callable[[T], bool] = bool) -> T:
    """Return what `look` finds as soon as it holds. Raises: AssertionError when it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(found := look()):
        assert time.monotonic() < deadline, f"still {found!r} after {PATIENCE_S} s"
        time.sleep(0.02)
    return found


def order_fault(url: str, **order: object) -> None:
    """Have a stand-in fail the next calls."""
    requests.post(f"{url}/faults", json=order, timeout=5).raise_for_status()
