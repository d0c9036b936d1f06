"""What waits for instances and which instances there are for it, by shape.

The unit of demand is one instance's time while another one boots. An attempt that takes that long, or of which nobody
knows how long it takes, wants a whole one; ten attempts of which each takes a tenth share one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from shared.core.census import Backlog
from shared.core.pools import Pool
from shared.models.farm import Orchestrator, PoolKey, ProblemCode, Shape


@dataclass(frozen=True)
class Demand:
    """What a shape lacks. Units: `need` and `supply` are instances for the time of one boot."""

    waiting: int
    passed_over: int
    need: float
    supply: float

    @property
    def gap(self) -> int:
        return max(ceil(self.need - self.supply - 1e-9), 0)


def demands_of(
    orchestrator: Orchestrator,
    backlog: Iterable[Backlog],
    pools: Mapping[PoolKey, Pool],
    now: datetime,
) -> dict[Shape, Demand]:
    """Return demand and supply of every shape that something waits for.

    Attempts that were passed over want nothing for a while, and then one instance together, to try again.
    """
    boot_s = max(orchestrator.boot_s, 1)
    waiting: defaultdict[Shape, int] = defaultdict(int)
    passed_over: defaultdict[Shape, int] = defaultdict(int)
    need: defaultdict[Shape, float] = defaultdict(float)
    settled = {  # shapes for which it is too early to try again, or the one instance is counted
        Shape(*each.pool[1:])
        for each in orchestrator.stock_outs
        if each.reason == ProblemCode.UNUSED and each.until > now
    }
    for group in backlog:
        waiting[group.shape] += group.count
        if not group.is_passed_over:
            share = 1.0 if group.expected_s is None else min(group.expected_s / boot_s, 1.0)
            need[group.shape] += group.count * share
            continue
        passed_over[group.shape] += group.count
        if group.count > 0 and group.shape not in settled:
            settled.add(group.shape)
            need[group.shape] += 1
    supply = _supply(orchestrator, pools)
    return {
        shape: Demand(
            waiting=count,
            passed_over=passed_over[shape],
            need=need[shape],
            supply=supply.get(shape, 0.0),
        )
        for shape, count in waiting.items()
        if count > 0
    }


def _supply(orchestrator: Orchestrator, pools: Mapping[PoolKey, Pool]) -> dict[Shape, float]:
    """Return the instances, for the time of one boot, that are free, coming, or free before another one has booted."""
    boot_s = max(orchestrator.boot_s, 1)
    zones = set(orchestrator.enabled_zones)
    supply: defaultdict[Shape, float] = defaultdict(float)
    for key, pool in pools.items():
        if key.zone in zones:
            soon = sum(
                max(1 - each.free_in_s / boot_s, 0.0)
                for each in pool.busy
                if each.free_in_s is not None
            )
            supply[Shape(*key[1:])] += len(pool.idle) + pool.coming + soon
    return supply
