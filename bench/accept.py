"""M1 and M2: how fast a job is accepted, and how soon all its tasks are stored."""

import time
from functools import partial

from google.cloud import firestore

from bench.farm import INSTANT_TYPE, BenchFarm, wait
from bench.rows import Row, median, number
from shared.errors import NotFound
from shared.models.job import JobRef
from shared.models.task import Task
from shared.stores.documents import task_fields

RUNS = 5
# Before them the emulator's compiler takes a good part of what is measured, of ours and of the floor's.
WARM_UPS = 3
ACCEPT_GOALS_MS = {1_000: 60, 10_000: 300}
STORED_COUNTS = (1_000, 10_000, 50_000)
FLOOR_FACTOR = 1.2
BATCH = 500
SLURM_MS = "Slurm sbatch 5-6 ms, one command for all, measured elsewhere on two cores"


def accept_rows(farm: BenchFarm) -> list[Row]:
    """Return M1: from the first byte sent to the 201 read, through the gateway; nothing may start meanwhile."""
    farm.limit(0)
    rows = []
    for count, goal_ms in ACCEPT_GOALS_MS.items():
        _end(farm, farm.submit(count, INSTANT_TYPE, salt=count)[0])
        took_ms = []
        for run in range(RUNS):
            ref, _, took_s = farm.submit(count, INSTANT_TYPE, salt=count + run + 1)
            took_ms.append(took_s * 1000)
            _wait_until_stored(farm, ref)
            _end(farm, ref)
        rows.append(
            Row(
                metric="M1",
                what=f"201 for a job of {count:,} tasks",
                unit="ms",
                values=took_ms,
                peer=SLURM_MS,
                goal=f"<= {goal_ms}",
                is_met=median(took_ms) <= goal_ms,
            )
        )
    return rows


def stored_rows(farm: BenchFarm) -> list[Row]:
    """Return M2: from the call to the last task stored, beside the same documents written by WriteBatch in this run."""
    farm.limit(0)
    rows = []
    for run in range(WARM_UPS):
        ref, _, _ = farm.submit(min(STORED_COUNTS), INSTANT_TYPE, salt=6_000_000 + run)
        _wait_until_stored(farm, ref)
        _end(farm, ref)
        _write_batches(farm, min(STORED_COUNTS), f"warm-up-{run}")
    for count in STORED_COUNTS:
        runs = RUNS if count < max(STORED_COUNTS) else 2
        took, floor = [], []
        for run in range(runs):
            began = time.perf_counter()
            ref, _, _ = farm.submit(count, INSTANT_TYPE, salt=7_000_000 + count + run)
            _wait_until_stored(farm, ref)
            took.append(time.perf_counter() - began)
            _end(farm, ref)
            floor.append(_write_batches(farm, count, f"floor-{count}-{run}"))
        rows.append(
            Row(
                metric="M2",
                what=f"all {count:,} tasks stored",
                unit="s",
                values=took,
                floor=f"WriteBatch({BATCH}) {number(median(floor))} s: ratio {median(took) / median(floor):.2f}",
                goal=f"<= {FLOOR_FACTOR} x WriteBatch",
                is_met=median(took) <= FLOOR_FACTOR * median(floor),
            )
        )
    return rows


def _wait_until_stored(farm: BenchFarm, ref: JobRef) -> None:
    """Wait for one page after the other: to read all of them again and again takes a good part of what is measured."""
    for page in range(farm.job(ref).page_count):
        wait(f"page {page}", partial(_is_stored, farm, ref, page))


def _end(farm: BenchFarm, ref: JobRef) -> None:
    """Kill a job that was measured: as long as it waits, whatever follows looks at its pages too."""
    farm.kill(ref)
    farm.wait_for_end(ref)


def _is_stored(farm: BenchFarm, ref: JobRef, page: int) -> bool:
    try:
        farm.ports.jobs.page(ref, page)
    except NotFound:
        return False
    return True


def _write_batches(farm: BenchFarm, count: int, name: str) -> float:
    """Write as many task documents with the client library's WriteBatch, one batch after another; returns seconds."""
    client = firestore.Client(project=farm.stack.env["GOOGLE_CLOUD_PROJECT"])
    tasks = client.collection(f"floors/{name}/tasks")
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        batch = client.batch()
        for index in range(start, min(start + BATCH, count)):
            task_id = str(index).zfill(3)
            task = Task(
                task_id=task_id,
                page=index // 100,
                command=f"true --frame {index}",
                frames=str(index),
            )
            batch.set(tasks.document(task_id), task_fields(task, "relay"))
        batch.commit()
    return time.perf_counter() - began
