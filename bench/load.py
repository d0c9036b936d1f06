"""Many clients at once, each on a connection of its own, and a bare function to compare with."""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.farm import wait
from emulators.ports import find_free_block, is_free

PATIENCE_S = 60


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, and the one status that is no error."""

    method: str
    path: str
    body: bytes | None = None
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Load:
    """How a load went. `errors` counts what was answered instead, by status; 0 is no answer at all."""

    per_s: float
    errors: Counter[int]


def load(
    base: str,
    ask: Callable[[int, int], Ask],
    *,
    headers: Mapping[str, str],
    clients: int,
    seconds: float,
) -> Load:
    """Let each client ask again and again; `ask` is given the client's number and how many answers it has had."""
    counts, errors = [0] * clients, Counter[int]()
    parts = urlsplit(base)
    start = threading.Barrier(clients + 1)

    def run(client: int) -> None:
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=PATIENCE_S
        )
        start.wait()
        stop_at = time.perf_counter() + seconds
        while time.perf_counter() < stop_at:
            wanted = ask(client, counts[client])
            try:
                connection.request(
                    wanted.method, wanted.path, body=wanted.body, headers=dict(headers)
                )
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            if status != wanted.status:
                errors[status] += 1
            counts[client] += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return Load(per_s=sum(counts) / (time.perf_counter() - began), errors=errors)


@contextmanager
def bare_function(name: str, **settings: str) -> Iterator[str]:
    """Run bench/NAME.py as the stack runs `submit`: as many processes, as many threads. Yields its address.

    `settings` are variables of its environment.
    """
    port = next(port for port in range(find_free_block(), 65_000) if is_free(port))
    framework = str(Path(sys.executable).parent / "functions-framework")
    source = str(Path(__file__).parent / f"{name}.py")
    command = [framework, "--target", name, "--source", source]
    running = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=dict(os.environ) | {"WORKERS": "2", "THREADS": "16"} | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(f"the function {name}", lambda: not is_free(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()
