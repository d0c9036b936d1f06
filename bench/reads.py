"""M13: how many times a second a job's status can be read, beside the least that one read of one document takes."""

from bench.farm import INSTANT_TYPE, BenchFarm, wait
from bench.load import Ask, bare_function, load
from bench.rows import Row, median, number

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
    document = f"accounts/{ref.account_id}/jobs/{ref.job_id}"
    ours, floor = [], []
    with bare_function("floor", FLOOR_DOCUMENT=document) as url:
        for _ in range(RUNS):
            ours.append(_rate(farm.stack.url("submit"), path, token))
            floor.append(_rate(url, "/", token))
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


def _rate(base: str, path: str, authorization: str) -> float:
    """Return how many times a second it can be read. Raises: RuntimeError on any answer but 200."""
    went = load(
        base,
        lambda *_: Ask(method="GET", path=path),
        headers={"Authorization": authorization},
        clients=CONNECTIONS,
        seconds=SECONDS,
    )
    if went.errors:
        raise RuntimeError(f"{base}: answered {dict(went.errors)}")
    return went.per_s
