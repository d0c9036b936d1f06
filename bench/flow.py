"""M3, M4a, M5, M14: from the call to the first task, tasks a second, kill, and documents written for each task."""

import time
from pathlib import Path

from bench.farm import AGENTS, INSTANT_TYPE, BenchFarm, wait
from bench.rows import Row, median, number
from demo.figures import documents_used

FIRST_RUNS = 7
FIRST_GOAL_S = 0.25
THROUGHPUT_TASKS = 3_000
# Before them the emulator's compiler takes up to half a core, for about fifteen thousand tasks.
WARM_UPS = 4
THROUGHPUT_RUNS = 5
THROUGHPUT_GOAL = 300
KILL_TASKS = 10_000
KILL_RUNS = 3
KILL_GOAL_MS = 20
START_GRACE_S = 0.1
WRITES_GOAL = 7
UNLIMITED = 100_000


def first_start_rows(farm: BenchFarm) -> list[Row]:
    """Return M3 for one task and a thousand, on an agent that is there already."""
    farm.limit(UNLIMITED)
    rows = []
    for count in (1, 1_000):
        took = []
        for run in range(FIRST_RUNS):
            farm.instant("reset")
            ref, began_at, _ = farm.submit(count, INSTANT_TYPE, salt=1_000_000 + count + run)
            farm.wait_for_end(ref)
            took.append(min(farm.instant("stats")["claimed_at"]) - began_at)
        rows.append(
            Row(
                metric="M3",
                what=f"submit to first task running, warm, job of {count:,}",
                unit="s",
                values=took,
                peer="Slurm 0.5 s, measured elsewhere on two cores",
                goal=f"<= {FIRST_GOAL_S}",
                is_met=median(took) <= FIRST_GOAL_S,
            )
        )
    return rows


def throughput_rows(farm: BenchFarm) -> list[Row]:
    """Return M4a and M14: each task is claimed and reported by itself, over the agents' protocol."""
    farm.limit(UNLIMITED)
    rates, writes, reads = [], [], []
    for run in range(WARM_UPS + THROUGHPUT_RUNS):
        farm.instant("reset")
        before = _documents(farm)
        ref, began_at, _ = farm.submit(THROUGHPUT_TASKS, INSTANT_TYPE, salt=2_000_000 + run)
        farm.wait_for_end(ref)
        told = farm.instant("stats")
        if told["faults"] or len(told["ended_at"]) != THROUGHPUT_TASKS:
            raise RuntimeError(
                f"agents met faults: {told['faults'][:3]}, {len(told['ended_at'])} ended"
            )
        rates.append(THROUGHPUT_TASKS / (max(told["ended_at"]) - began_at))
        used = _documents(farm)
        writes.append((used[0] - before[0]) / THROUGHPUT_TASKS)
        reads.append((used[1] - before[1]) / THROUGHPUT_TASKS)
    rates = rates[WARM_UPS:]
    return [
        Row(
            metric="M4a",
            what=f"no-op tasks a second, submit to last report, {THROUGHPUT_TASKS:,} tasks, {AGENTS} agents",
            unit="tasks/s",
            values=rates,
            peer="Slurm 75-90/s, measured elsewhere on two cores",
            goal=f">= {THROUGHPUT_GOAL}",
            is_met=median(rates) >= THROUGHPUT_GOAL,
        ),
        Row(
            metric="M14",
            what="documents written for each task by submit and dispatch",
            unit="writes",
            values=writes,
            floor=f"reads: {number(median(reads))}; transactions that read the job: 0",
            goal=f"<= {WRITES_GOAL}",
            is_met=max(writes) <= WRITES_GOAL,
        ),
    ]


def kill_rows(farm: BenchFarm) -> list[Row]:
    """Return M5: a job whose tasks all wait is killed, and then every agent asks for one; and a job in full swing."""
    farm.limit(UNLIMITED)
    waiting = [_kill(farm, 3_000_000 + run, is_running=False) for run in range(KILL_RUNS)]
    running = [_kill(farm, 4_000_000 + run, is_running=True) for run in range(KILL_RUNS)]
    called_ms, started = (list(each) for each in zip(*waiting, strict=True))
    loaded_ms, late = (list(each) for each in zip(*running, strict=True))
    return [
        Row(
            metric="M5",
            what=f"kill of a job of {KILL_TASKS:,} that wait, the call",
            unit="ms",
            values=called_ms,
            peer="Slurm scancel 7 ms, measured elsewhere on two cores",
            goal=f"<= {KILL_GOAL_MS}",
            is_met=median(called_ms) <= KILL_GOAL_MS,
        ),
        Row(
            metric="M5",
            what="of these, started once it had answered, though all agents asked at once",
            unit="tasks",
            values=started,
            goal="0",
            is_met=not any(started),
        ),
        Row(
            metric="M5",
            what=f"the same in full swing, {AGENTS} agents on all processors, the call",
            unit="ms",
            values=loaded_ms,
        ),
        Row(
            metric="M5",
            what="of these, started later than 100 ms after its answer",
            unit="tasks",
            values=late,
            goal="0",
            is_met=not any(late),
        ),
    ]


def _kill(farm: BenchFarm, salt: int, *, is_running: bool) -> tuple[float, float]:
    """Kill a job; returns how many milliseconds the call took and how many tasks started after it."""
    farm.instant("reset")
    farm.instant("pause")
    known = farm.instant("stats")["seen_count"]
    ref, _, _ = farm.submit(KILL_TASKS, INSTANT_TYPE, salt=salt)
    waiting = 500 if is_running else KILL_TASKS
    wait(
        "they wait",
        lambda: farm.instant("stats")["seen_count"] >= known + waiting,
        every_s=0.05,
    )
    grace_s = 0.0
    if is_running:
        grace_s = START_GRACE_S
        farm.instant("resume")
        wait("some tasks running", lambda: len(farm.instant("stats")["claimed_at"]) >= 20)
    took_s = farm.kill(ref)
    answered_at = time.time()
    if not is_running:
        farm.instant("resume")
    farm.wait_for_end(ref)
    claimed = farm.instant("stats")["claimed_at"]
    return took_s * 1000, float(sum(at > answered_at + grace_s for at in claimed))


def _documents(farm: BenchFarm) -> tuple[int, int]:
    used = documents_used(Path(farm.stack.state_path) / "logs")
    return used["write"], used["read"]
