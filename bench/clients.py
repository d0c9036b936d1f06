"""M15: a machine room at work: 64 clients at once ask for upload URLs and submit, beside a function that says hello."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from functools import partial

from bench.farm import INSTANT_TYPE, BenchFarm
from bench.load import Ask, bare_function, load
from bench.rows import Row, median, number

CLIENTS = 64
FILES_A_CALL = 20
TASKS = 10
SECONDS = 5.0
RUNS = 3


def client_rows(farm: BenchFarm) -> list[Row]:
    """Return requests a second through the gateway, as clients send them; nothing may start meanwhile."""
    farm.limit(0)
    headers = {"Authorization": str(farm.session.headers["Authorization"])}
    gateway = farm.url("")

    def runs(base: str, ask: Callable[[int, int, int], Ask]) -> tuple[list[float], Counter[int]]:
        rates, errors = [], Counter[int]()
        for run in range(RUNS):
            went = load(
                base,
                partial(ask, run),
                headers=headers,
                clients=CLIENTS,
                seconds=SECONDS,
            )
            rates.append(went.per_s)
            errors += went.errors
        return rates, errors

    with bare_function("hello") as url:
        floor, _ = runs(url, lambda *_: Ask(method="GET", path="/"))
    asked = {
        f"upload URLs of {FILES_A_CALL} files": _upload_urls,
        f"a job of {TASKS} tasks": lambda *which: _job(farm, *which),
    }
    rows = []
    for what, ask in asked.items():
        rates, errors = runs(gateway, ask)
        share = median(rates) / median(floor)
        rows.append(
            Row(
                metric="M15",
                what=f"{CLIENTS} clients at once: {what}; errors {dict(errors) or 'none'}",
                unit="requests/s",
                values=rates,
                floor=f"a function that says hello: {number(median(floor))}/s: ratio {share:.2f}",
                goal="no errors",
                is_met=not errors,
            )
        )
    return rows


def _upload_urls(*which: int) -> Ask:
    """Return a call for files that nobody has sent, as large as textures are."""
    files = [
        {"path": f"/vol/relay/{name}.exr", "hash": _md5(name), "size": 50_000_000}
        for name in (f"{which}-{index}" for index in range(FILES_A_CALL))
    ]
    body = json.dumps({"upload_files": files}).encode()
    return Ask(method="POST", path="/api/v2/files/get_upload_urls", body=body)


def _md5(name: str) -> str:
    return base64.b64encode(hashlib.md5(name.encode()).digest()).decode()


def _job(farm: BenchFarm, run: int, client: int, number: int) -> Ask:
    """Return a submission unlike any other."""
    salt = ((run + 1) * CLIENTS + client) * 1_000_000 + number
    body = json.dumps(farm.body(TASKS, INSTANT_TYPE, salt)).encode()
    return Ask(method="POST", path="/jobs/", body=body, status=201)
