"""M8 and M9: from waiting to the scale-up call, and from a ready instance to its task running."""

from datetime import UTC, datetime

import requests

from bench.farm import CALL_S, REAL_TYPE, BenchFarm, wait
from bench.rows import Row, median
from demo.figures import Life, lives

RUNS = 3
SCALE_GOAL_S = 1.0
START_GOAL_S = 1.0


def fleet_rows(farm: BenchFarm) -> list[Row]:
    """Return both rows, on emulated instances that boot from nothing each time."""
    farm.limit(100)
    to_call, to_start = [], []
    for run in range(RUNS):
        wait("an empty pool", lambda: not _alive(farm), every_s=0.2)
        known = {life.instance for life in _lives(farm)}
        ref, began_at, _ = farm.submit(1, REAL_TYPE, salt=4_000_000 + run)
        farm.wait_for_end(ref)
        (life,) = [each for each in _lives(farm) if each.instance not in known][:1]
        (task,) = farm.ports.jobs.tasks(ref, ["000"])
        assert life.booted_at is not None
        to_call.append(life.created_at.timestamp() - began_at)
        to_start.append((task.attempts[0].started_at - life.booted_at).total_seconds())
    return [
        Row(
            metric="M8",
            what="submit to the scale-up call, from an empty pool",
            unit="s",
            values=to_call,
            peer="Slurm 1.95 s, measured elsewhere on two cores",
            goal=f"<= {SCALE_GOAL_S}",
            is_met=median(to_call) <= SCALE_GOAL_S,
        ),
        Row(
            metric="M9",
            what="instance ready to its task running",
            unit="s",
            values=to_start,
            peer="Slurm 8-23 s, measured elsewhere on two cores",
            goal=f"<= {START_GOAL_S}",
            is_met=median(to_start) <= START_GOAL_S,
        ),
    ]


def _lives(farm: BenchFarm) -> list[Life]:
    url = farm.stack.url("compute") + "/events"
    return lives(requests.get(url, timeout=CALL_S).json(), datetime.max.replace(tzinfo=UTC))


def _alive(farm: BenchFarm) -> list[Life]:
    never = datetime.max.replace(tzinfo=UTC)
    return [life for life in _lives(farm) if life.deleted_at == never]
