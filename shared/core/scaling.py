"""How many instances each pool should have: what was measured goes in, decisions with reasons come out.

The unit of demand is one instance's time while another one boots. An attempt that takes that long, or of which nobody
knows how long it takes, wants a whole one; ten attempts of which each takes a tenth share one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from shared.core.census import Backlog
from shared.core.placement import paused_zones
from shared.core.spread import fill, spread
from shared.models.farm import (
    Decision,
    Instance,
    InstanceStatus,
    Orchestrator,
    PoolKey,
    ProblemCode,
    Shape,
)

PAID = timedelta(minutes=1)
# An idle instance leaves in the paid minute's last ticks: one takes it out of use, one deletes it, one is to spare.
LEAVING_TICKS = 3
# A machine that has not joined after three times the usual, but never less than five minutes, is not coming any more.
SHORTEST_BOOT_LIMIT_S = 300
# When many fall silent at once it is more likely the scheduler that does not hear: only a tenth is given up per tick.
SILENT_SHARE = 0.1


@dataclass
class _Pool:
    """The instances of one pool by what can be done with them."""

    coming: int = 0
    idle: list[Instance] = field(default_factory=list)
    busy: list[Instance] = field(default_factory=list)
    drained: list[Instance] = field(default_factory=list)
    broken: list[Instance] = field(default_factory=list)
    silent: list[Instance] = field(default_factory=list)
    size: int = 0

    @property
    def trouble_count(self) -> int:
        return len(self.broken) + len(self.silent)


@dataclass
class _Order:
    """A decision while it is being made."""

    grow: list[str] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    resume: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Demand:
    """What a shape lacks. Units: `need` and `supply` are instances for the time of one boot."""

    waiting: int
    need: float
    supply: float

    @property
    def gap(self) -> int:
        return max(ceil(self.need - self.supply - 1e-9), 0)


def plan(
    orchestrator: Orchestrator,
    *,
    backlog: Sequence[Backlog],
    instances: Sequence[Instance],
    now: datetime,
    new_name: Callable[[], str],
    prices: Mapping[PoolKey, int] | None = None,
    unlisted_count: int = 0,
) -> tuple[Decision, ...]:
    """Return what to do now, by pool; nothing for a pool that is as it should be.

    Shapes: `new_name` returns another name each time; `prices` are micro-dollars a minute, all alike when missing;
    `unlisted_count` instances exist that could not be listed.
    """
    pools = _pools(orchestrator, instances, now)
    orders: defaultdict[PoolKey, _Order] = defaultdict(_Order)
    demands = _demands(orchestrator, backlog, pools)
    _give_up(pools, orders)
    _leave_zones(orchestrator, pools, orders)
    resumed = _resume(orchestrator, demands, pools, orders)
    _leave_idle(orchestrator, demands, pools, orders, now)
    room = orchestrator.max_instances - len(instances) - unlisted_count
    _grow(orchestrator, demands, pools, orders, resumed, room, now, new_name, prices or {})
    return tuple(
        Decision(
            pool=pool,
            grow=tuple(order.grow),
            retire=tuple(order.retire),
            drain=tuple(order.drain),
            resume=tuple(order.resume),
            reason="; ".join(order.reasons),
            facts=_facts(pools.get(pool, _Pool()), demands.get(Shape(*pool[1:])), order.facts),
        )
        for pool, order in sorted(orders.items())
    )


def _pools(
    orchestrator: Orchestrator, instances: Iterable[Instance], now: datetime
) -> dict[PoolKey, _Pool]:
    """Sort the instances by what they are good for."""
    limit = timedelta(seconds=max(SHORTEST_BOOT_LIMIT_S, 3 * orchestrator.boot_s))
    pools: defaultdict[PoolKey, _Pool] = defaultdict(_Pool)
    for each in instances:
        pool = pools[each.pool]
        pool.size += 1
        match each.status:
            case InstanceStatus.BOOTING:
                is_stuck = each.problem in (ProblemCode.STOCK_OUT, ProblemCode.QUOTA)
                if is_stuck or now - each.created_at > limit:
                    pool.broken.append(each)
                else:
                    pool.coming += 1
            case InstanceStatus.IDLE:
                pool.idle.append(each)
            case InstanceStatus.BUSY:
                pool.busy.append(each)
            case InstanceStatus.DRAINING if each.idle_since is not None:
                pool.drained.append(each)
            case InstanceStatus.DEAD:
                (pool.broken if each.problem else pool.silent).append(each)
    return dict(pools)


def _demands(
    orchestrator: Orchestrator, backlog: Iterable[Backlog], pools: Mapping[PoolKey, _Pool]
) -> dict[Shape, _Demand]:
    """Return demand and supply of every shape that something waits for."""
    boot_s = max(orchestrator.boot_s, 1)
    waiting: defaultdict[Shape, int] = defaultdict(int)
    need: defaultdict[Shape, float] = defaultdict(float)
    for group in backlog:
        share = 1.0 if group.expected_s is None else min(group.expected_s / boot_s, 1.0)
        waiting[group.shape] += group.count
        need[group.shape] += group.count * share
    supply: defaultdict[Shape, float] = defaultdict(float)
    zones = set(orchestrator.enabled_zones)
    for key, pool in pools.items():
        shape = Shape(*key[1:])
        if key.zone in zones and shape in waiting:
            soon = sum(
                max(1 - each.free_in_s / boot_s, 0.0)
                for each in pool.busy
                if each.free_in_s is not None
            )
            supply[shape] += len(pool.idle) + pool.coming + soon
    return {
        shape: _Demand(waiting=count, need=need[shape], supply=supply[shape])
        for shape, count in waiting.items()
        if count > 0
    }


def _give_up(pools: Mapping[PoolKey, _Pool], orders: defaultdict[PoolKey, _Order]) -> None:
    """Retire what does not run, will not join, or has fallen silent."""
    joined = sum(len(p.idle) + len(p.busy) + len(p.drained) + len(p.silent) for p in pools.values())
    silent_left = ceil(joined * SILENT_SHARE)
    for key in sorted(pools):
        pool = pools[key]
        for each in pool.broken:
            orders[key].retire.append(each.name)
        if pool.broken:
            orders[key].reasons.append(f"{len(pool.broken)} stopped, stuck or never joined")
        silent = sorted(pool.silent, key=_by_age)[:silent_left]
        silent_left -= len(silent)
        if silent:
            orders[key].retire += [each.name for each in silent]
            orders[key].reasons.append(f"{len(silent)} of {len(pool.silent)} silent ones given up")


def _leave_zones(
    orchestrator: Orchestrator,
    pools: Mapping[PoolKey, _Pool],
    orders: defaultdict[PoolKey, _Order],
) -> None:
    """Take everything in zones that are switched off out of use; what runs there may end."""
    zones = set(orchestrator.enabled_zones)
    for key, pool in pools.items():
        if key.zone not in zones and (pool.idle or pool.busy):
            orders[key].drain += [each.name for each in (*pool.idle, *pool.busy)]
            orders[key].reasons.append(f"{key.zone} is switched off")


def _resume(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, _Demand],
    pools: Mapping[PoolKey, _Pool],
    orders: defaultdict[PoolKey, _Order],
) -> dict[Shape, int]:
    """Put drained instances back where they are needed, retire the others; return how many were put back."""
    zones = set(orchestrator.enabled_zones)
    resumed: defaultdict[Shape, int] = defaultdict(int)
    for key in sorted(pools):
        drained = sorted(pools[key].drained, key=_by_age, reverse=True)
        if not drained:
            continue
        shape = Shape(*key[1:])
        demand = demands.get(shape)
        wanted = max(demand.gap - resumed[shape], 0) if demand and key.zone in zones else 0
        back, gone = drained[:wanted], drained[wanted:]
        resumed[shape] += len(back)
        if back:
            orders[key].resume += [each.name for each in back]
            orders[key].reasons.append(f"{len(back)} drained ones are needed again")
        if gone:
            orders[key].retire += [each.name for each in gone]
            orders[key].reasons.append(f"{len(gone)} drained and idle")
    return resumed


def _leave_idle(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, _Demand],
    pools: Mapping[PoolKey, _Pool],
    orders: defaultdict[PoolKey, _Order],
    now: datetime,
) -> None:
    """Take idle instances out of use that nothing waits for, at the end of the minute they are paid for."""
    zones = set(orchestrator.enabled_zones)
    for key, pool in pools.items():
        if key.zone not in zones or Shape(*key[1:]) in demands:
            continue
        due = [each.name for each in pool.idle if _is_due(each, orchestrator, now)]
        if due:
            orders[key].drain += due
            orders[key].reasons.append(
                f"nothing waits, {len(due)} idle for {orchestrator.idle_s} s"
            )


def _is_due(instance: Instance, orchestrator: Orchestrator, now: datetime) -> bool:
    if instance.idle_since is None or now - instance.idle_since < timedelta(
        seconds=orchestrator.idle_s
    ):
        return False
    paid_left = PAID - (now - instance.created_at) % PAID
    return paid_left <= timedelta(seconds=LEAVING_TICKS * orchestrator.tick_s)


def _grow(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, _Demand],
    pools: Mapping[PoolKey, _Pool],
    orders: defaultdict[PoolKey, _Order],
    resumed: Mapping[Shape, int],
    room: int,
    now: datetime,
    new_name: Callable[[], str],
    prices: Mapping[PoolKey, int],
) -> None:
    """Start what is missing: as much of each shape as the caps allow, in the cheapest healthy zones that have it."""
    zones = {shape: _open_zones(orchestrator, shape, pools, now) for shape in sorted(demands)}
    gaps = {shape: demands[shape].gap - resumed.get(shape, 0) for shape in zones}
    tanks = {
        shape: (0, min(gaps[shape], sum(limit - size for size, limit in zones[shape].values())))
        for shape in zones
    }
    allowed = fill(tanks, min(max(room, 0), orchestrator.max_grow_per_tick))
    for shape, count in allowed.items():
        ranks = {
            key: (prices.get(key, 0), pools[key].trouble_count if key in pools else 0)
            for key in zones[shape]
        }
        for key, added in spread(count, zones[shape], ranks).items():
            order = orders[key]
            order.grow += [new_name() for _ in range(added)]
            order.reasons.append(_growth(demands[shape], gaps[shape], count, added))
            order.facts["missing"], order.facts["granted"] = gaps[shape], count


def _growth(demand: _Demand, gap: int, granted: int, added: int) -> str:
    said = f"{demand.waiting} wait, {demand.supply:g} free or booting: {added} more"
    return said if granted == gap else f"{said} ({granted} of {gap} within the caps)"


def _open_zones(
    orchestrator: Orchestrator, shape: Shape, pools: Mapping[PoolKey, _Pool], now: datetime
) -> dict[PoolKey, tuple[int, int]]:
    """Return the pools of a shape that may grow: their size, and the most they may have."""
    if not orchestrator.offers(shape.instance_type):
        return {}
    paused = paused_zones(orchestrator, shape, now)
    keys = [PoolKey(zone, *shape) for zone in orchestrator.enabled_zones if zone not in paused]
    sizes = {key: pools[key].size if key in pools else 0 for key in keys}
    return {key: (size, max(orchestrator.max_per_pool, size)) for key, size in sizes.items()}


def _facts(pool: _Pool, demand: _Demand | None, more: Mapping[str, object]) -> dict[str, object]:
    """Return what a decision was based on, to be stored beside it."""
    return {
        "size": pool.size,
        "booting": pool.coming,
        "idle": len(pool.idle),
        "busy": len(pool.busy),
        "drained": len(pool.drained),
        "broken": len(pool.broken),
        "silent": len(pool.silent),
        "waiting": demand.waiting if demand else 0,
        "need": round(demand.need, 3) if demand else 0.0,
        "supply": round(demand.supply, 3) if demand else 0.0,
        **more,
    }


def _by_age(instance: Instance) -> tuple[datetime, str]:
    return (instance.created_at, instance.name)
