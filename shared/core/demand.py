"""What waits for instances and which instances there are for it, by shape.

The unit of demand is one instance's time while another one boots. An attempt that takes that long, or of which nobody
knows how long it takes, wants a whole one; ten attempts of which each takes a tenth share one. Of those that want a
whole one, the last to start would wait for the slowest boot: a few spare instances let the slowest boots go unused.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from shared.core.census import Backlog
from shared.core.pools import Pool
from shared.models.farm import Orchestrator, PoolKey, Shape


@dataclass(frozen=True)
class Demand:
    """What a shape lacks. Units: `need` and `supply` are instances for the time of one boot."""

    waiting: int
    passed_over: int
    held: int
    need: float
    supply: float

    @property
    def gap(self) -> int:
        return max(ceil(self.need - self.supply - 1e-9), 0)


@dataclass
class _Sum:
    """What the groups of a shape come to.

    `work` is in instances for the time of one boot, `held_work` that of attempts which are held; `whole` attempts want
    an instance of their own; `tried` is one if what was passed over gets an instance to try again.
    """

    waiting: int = 0
    passed_over: int = 0
    held: int = 0
    work: float = 0.0
    held_work: float = 0.0
    whole: int = 0
    tried: int = 0

    def need(self, spare_percent: int) -> float:
        """Return how many instances would not be too many.

        What is held is work for the instances that start now, but no more of them can ever run than wait.
        """
        useful = self.waiting - self.passed_over
        wanted = min(self.work + self.held_work, max(self.work, useful))
        return wanted + self.whole * spare_percent // 100 + self.tried


def demands_of(
    orchestrator: Orchestrator,
    backlog: Iterable[Backlog],
    pools: Mapping[PoolKey, Pool],
    now: datetime,
) -> dict[Shape, Demand]:
    """Return demand and supply of every shape that something waits for, or soon will.

    Attempts that were passed over want nothing for a while, and then one instance together, to try again.
    """
    boot_s = max(orchestrator.boot_s, 1)
    sums: defaultdict[Shape, _Sum] = defaultdict(_Sum)
    settled = {  # shapes for which it is too early to try again
        Shape(*each.pool[1:])
        for each in orchestrator.breakers
        if each.is_of_unused and each.until > now
    }
    for group in backlog:
        if group.count <= 0:
            continue
        found = sums[group.shape]
        share = 1.0 if group.expected_s is None else min(group.expected_s / boot_s, 1.0)
        if group.is_held:
            found.held += group.count
            found.held_work += group.count * share
            continue
        found.waiting += group.count
        if group.is_passed_over:
            found.passed_over += group.count
            found.tried = int(group.shape not in settled)
        else:
            found.work += group.count * share
            found.whole += group.count if share == 1 else 0
    supply = _supply(orchestrator, pools)
    return {
        shape: Demand(
            waiting=found.waiting,
            passed_over=found.passed_over,
            held=found.held,
            need=found.need(orchestrator.spare_percent),
            supply=supply.get(shape, 0.0),
        )
        for shape, found in sums.items()
    }


def _supply(orchestrator: Orchestrator, pools: Mapping[PoolKey, Pool]) -> dict[Shape, float]:
    """Return the instances, for the time of one boot, that are free, coming, or free before another one has booted."""
    boot_s = max(orchestrator.boot_s, 1)
    supply: defaultdict[Shape, float] = defaultdict(float)
    for key, pool in pools.items():
        if orchestrator.is_on(key):
            soon = sum(
                max(1 - each.free_in_s / boot_s, 0.0)
                for each in pool.busy
                if each.free_in_s is not None
            )
            supply[Shape(*key[1:])] += len(pool.idle) + len(pool.coming) + soon
    return supply
