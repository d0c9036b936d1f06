"""M13: how many times a second a job's status can be read, beside the least that one read of one document takes."""

import http.client
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.farm import INSTANT_TYPE, BenchFarm, wait
from bench.rows import Row, median, number
from emulators.ports import find_free_block, is_free

TASKS = 10_000
CONNECTIONS = 16
SECONDS = 4.0
RUNS = 3
SHARE_GOAL = 0.8


def read_rows(farm: BenchFarm) -> list[Row]:
    """Return requests a second of one job's status, straight at the function, and of the floor function."""
    farm.limit(0)
    ref, _, _ = farm.submit(TASKS, INSTANT_TYPE, salt=5_000_000)
    job = farm.job(ref)
    wait("all pages", lambda: len(farm.ports.jobs.page_summaries(job)) == job.page_count)
    below, above = str(int(ref.job_id) - 1).zfill(5), str(int(ref.job_id) + 1).zfill(5)
    path = f"/api/v1/jobs?filter=jid_gt_{below}%2Cjid_lt_{above}"
    token = str(farm.session.headers["Authorization"])
    port = next(port for port in range(find_free_block(), 65_000) if is_free(port))
    floor_function = _start_floor(farm, port, f"accounts/{ref.account_id}/jobs/{ref.job_id}")
    try:
        wait("floor function", lambda: not is_free(port))
        ours, floor = [], []
        for _ in range(RUNS):
            ours.append(_load(farm.stack.url("submit"), path, token))
            floor.append(_load(f"http://127.0.0.1:{port}", "/", token))
    finally:
        floor_function.terminate()
        floor_function.wait()
    share = median(ours) / median(floor)
    return [
        Row(
            metric="M13",
            what=f"status of a job of {TASKS:,} tasks, {CONNECTIONS} connections",
            unit="requests/s",
            values=ours,
            floor=f"a function that reads one document: {number(median(floor))}/s: ratio {share:.2f}",
            goal=f">= {SHARE_GOAL} x floor",
            is_met=share >= SHARE_GOAL,
        )
    ]


def _start_floor(farm: BenchFarm, port: int, document: str) -> "subprocess.Popen[bytes]":
    """Start, like the stack starts `submit`, a function that reads one document with the client library."""
    target = Path(__file__).parent / "floor.py"
    command = [
        str(Path(sys.executable).parent / "functions-framework"),
        "--target",
        "floor",
        "--source",
        str(target),
    ]
    env = dict(os.environ) | {"FLOOR_DOCUMENT": document, "WORKERS": "2", "THREADS": "16"}
    return subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _load(base: str, path: str, authorization: str) -> float:
    """Ask again and again over several connections; returns answers a second. Raises: RuntimeError on any but 200."""
    counts, failures = [0] * CONNECTIONS, []
    stop_at = time.perf_counter() + SECONDS
    parts = urlsplit(base)

    def ask(index: int) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
        while time.perf_counter() < stop_at:
            connection.request("GET", path, headers={"Authorization": authorization})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failures.append(answer.status)
                return
            counts[index] += 1

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{base}: answered {failures[0]}")
    return sum(counts) / SECONDS
