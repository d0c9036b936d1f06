"""What waits for instances and which instances there are for it, by shape.

The unit of demand is one instance's time while another one boots. An attempt that takes that long, or of which nobody
knows how long it takes, wants a whole one; ten attempts of which each takes a tenth share one. Of those that want a
whole one, the last to start would wait for the slowest boot: a few spare instances let the slowest boots go unused.

An instance in a zone that attempts avoid is supply for them like any other: the scheduler runs them there when nothing
else is free, so that a second one would be paid for and not waited for. What avoided zones change is only where the
missing ones are started: as many of them elsewhere as those attempts want, less what is elsewhere already.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from shared.core.census import Backlog
from shared.core.pools import Pool
from shared.models.farm import Orchestrator, PoolKey, Shape


@dataclass(frozen=True)
class Demand:
    """What a shape lacks. Units: `need` and `supply` are instances for the time of one boot.

    Shapes: `avoiding` is how many of those that wait avoid each zone; `elsewhere` is how many of the missing instances
    are wanted outside some zones, for each such set of zones.
    """

    waiting: int
    passed_over: int
    held: int
    need: float
    supply: float
    avoiding: Mapping[str, int] = field(default_factory=dict)
    elsewhere: Mapping[frozenset[str], int] = field(default_factory=dict)

    @property
    def gap(self) -> int:
        return max(ceil(self.need - self.supply - 1e-9), 0)


@dataclass
class _Sum:
    """What some groups of a shape come to.

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

    def add(self, group: Backlog, boot_s: int, *, is_settled: bool) -> None:
        """Take a group in; what was passed over is not tried while its shape `is_settled`."""
        share = 1.0 if group.expected_s is None else min(group.expected_s / boot_s, 1.0)
        if group.is_held:
            self.held += group.count
            self.held_work += group.count * share
            return
        self.waiting += group.count
        if group.is_passed_over:
            self.passed_over += group.count
            self.tried = int(not is_settled)
        else:
            self.work += group.count * share
            self.whole += group.count if share == 1 else 0

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
    choosy: defaultdict[Shape, defaultdict[frozenset[str], _Sum]]
    choosy = defaultdict(lambda: defaultdict(_Sum))  # of those that avoid zones, by which
    settled = {  # shapes for which it is too early to try again
        Shape(*each.pool[1:])
        for each in orchestrator.breakers
        if each.is_of_unused and each.until > now
    }
    for group in backlog:
        if group.count <= 0:
            continue
        is_settled = group.shape in settled
        sums[group.shape].add(group, boot_s, is_settled=is_settled)
        if group.avoided_zones:
            avoided = frozenset(group.avoided_zones)
            choosy[group.shape][avoided].add(group, boot_s, is_settled=is_settled)
    supply = _supply(orchestrator, pools)
    return {
        shape: Demand(
            waiting=found.waiting,
            passed_over=found.passed_over,
            held=found.held,
            need=found.need(orchestrator.spare_percent),
            supply=sum(supply[shape].values(), 0.0),
            avoiding=_count_by_zone(choosy[shape]),
            elsewhere=_elsewhere(choosy[shape], supply[shape], orchestrator.spare_percent),
        )
        for shape, found in sums.items()
    }


def _count_by_zone(choosy: Mapping[frozenset[str], _Sum]) -> dict[str, int]:
    """Return how many of those that wait avoid each zone."""
    counts: Counter[str] = Counter()
    for zones, found in choosy.items():
        counts.update(dict.fromkeys(zones, found.waiting))
    return {zone: count for zone, count in sorted(counts.items()) if count}


def _elsewhere(
    choosy: Mapping[frozenset[str], _Sum], supply: Mapping[str, float], spare_percent: int
) -> dict[frozenset[str], int]:
    """Return how many more instances are wanted outside each zone, and outside each set of zones, that is avoided.

    Those that avoid a set are among those that avoid a part of it.
    """
    needs = {zones: found.need(spare_percent) for zones, found in choosy.items()}
    sets = {*needs, *(frozenset([zone]) for zones in needs for zone in zones)}
    total = sum(supply.values())
    result = {}
    for zones in sorted(sets, key=sorted):
        need = sum(need for each, need in needs.items() if zones <= each)
        outside = total - sum(supply.get(zone, 0.0) for zone in zones)
        result[zones] = ceil(need - outside - 1e-9)
    return {zones: count for zones, count in result.items() if count > 0}


def _supply(
    orchestrator: Orchestrator, pools: Mapping[PoolKey, Pool]
) -> defaultdict[Shape, dict[str, float]]:
    """Return what is free, coming, or free before another instance has booted, by shape and zone.

    Units: instances for the time of one boot.
    """
    boot_s = max(orchestrator.boot_s, 1)
    supply: defaultdict[Shape, dict[str, float]] = defaultdict(dict)
    for key, pool in pools.items():
        if orchestrator.is_on(key):
            soon = sum(
                max(1 - each.free_in_s / boot_s, 0.0)
                for each in pool.busy
                if each.free_in_s is not None
            )
            supply[Shape(*key[1:])][key.zone] = len(pool.idle) + len(pool.coming) + soon
    return supply
