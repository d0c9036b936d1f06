"""Start what a driver talks to, on a free port, and stop it afterwards."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar

import requests

from shared.models.account import Gpus
from shared.models.farm import Shape

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30

# What machines and attempts are unless a test says otherwise, and whose they are.
SHAPE = Shape("n1-standard-4", True)
ORCHESTRATOR_ID = "o1"

# Machines of this shape have GPUs, and schedulers know it.
GPU_SHAPE = Shape("gpu-4-16-l4", True)
GPUS = {GPU_SHAPE.instance_type: Gpus(model="NVIDIA L4", count=1)}


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


def order_fault(url: str, **order: object) -> None:
    """Have a stand-in fail the next calls."""
    requests.post(f"{url}/faults", json=order, timeout=5).raise_for_status()


@contextmanager
def recorded(answer: object) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give every request the same JSON; yield a URL, and the requests as they come."""
    found: list[dict[str, Any]] = []

    class Recorder(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            shown = ("Authorization", "Content-Type", "X-Nomad-Token")
            found.append(
                {
                    "method": self.command,
                    "path": self.path,
                    "headers": {name: self.headers[name] for name in shown if name in self.headers},
                    "body": json.loads(body) if body else None,
                }
            )
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - as the standard library calls them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
