"""How many instances each pool should have: what was measured goes in, decisions with reasons come out."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from shared.core.census import PAID, Backlog
from shared.core.demand import Demand, demands_of
from shared.core.placement import paused_zones
from shared.core.pools import Pool, sort
from shared.core.spread import fill, spread
from shared.models.farm import (
    Decision,
    Instance,
    Orchestrator,
    PoolKey,
    Shape,
)

# An idle instance leaves in the paid minute's last ticks: one takes it out of use, one deletes it, one is to spare.
LEAVING_TICKS = 3
# When many are not heard of at once it is more likely the scheduler that does not hear, or that has lost its books:
# only a tenth is given up per tick.
SILENT_SHARE = 0.1


@dataclass
class _Order:
    """A decision while it is being made."""

    grow: list[str] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    resume: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


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
    pools = sort(orchestrator, instances, now)
    orders: defaultdict[PoolKey, _Order] = defaultdict(_Order)
    demands = demands_of(orchestrator, backlog, pools, now)
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
            facts=_facts(pools.get(pool, Pool()), demands.get(Shape(*pool[1:])), order.facts),
        )
        for pool, order in sorted(orders.items())
    )


def _give_up(pools: Mapping[PoolKey, Pool], orders: defaultdict[PoolKey, _Order]) -> None:
    """Retire what does not run, and some of what never joined or has fallen silent."""
    lost_left = ceil(sum(pool.expected for pool in pools.values()) * SILENT_SHARE)
    for key in sorted(pools):
        pool = pools[key]
        for each in pool.broken:
            orders[key].retire.append(each.name)
        if pool.broken:
            orders[key].reasons.append(f"{len(pool.broken)} stopped or stuck")
        lost = [*pool.silent, *pool.late]
        given_up = sorted(lost, key=_by_age)[:lost_left]
        lost_left -= len(given_up)
        if given_up:
            orders[key].retire += [each.name for each in given_up]
            said = f"{len(given_up)} of {len(lost)} that are silent or never joined given up"
            orders[key].reasons.append(said)


def _leave_zones(
    orchestrator: Orchestrator,
    pools: Mapping[PoolKey, Pool],
    orders: defaultdict[PoolKey, _Order],
) -> None:
    """Take everything in zones that are switched off out of use; what runs there may end."""
    zones = set(orchestrator.enabled_zones)
    for key, pool in pools.items():
        leaving = [*pool.idle, *pool.unused, *pool.busy]
        if key.zone not in zones and leaving:
            orders[key].drain += [each.name for each in leaving]
            orders[key].reasons.append(f"{key.zone} is switched off")


def _resume(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
    orders: defaultdict[PoolKey, _Order],
) -> dict[Shape, int]:
    """Put drained instances back where they are needed, retire the others; return how many were put back.

    Never a preemptible one: its agent takes it out of use too, when the provider says that it must go.
    """
    zones = set(orchestrator.enabled_zones)
    resumed: defaultdict[Shape, int] = defaultdict(int)
    for key in sorted(pools):
        drained = sorted(pools[key].drained, key=_by_age, reverse=True)
        if not drained:
            continue
        shape = Shape(*key[1:])
        demand = demands.get(shape)
        wanted = max(demand.gap - resumed[shape], 0) if demand and key.zone in zones else 0
        useful = [each for each in drained if not (each.is_unused or key.is_preemptible)]
        back = useful[:wanted]
        gone = [each for each in drained if each not in back]
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
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
    orders: defaultdict[PoolKey, _Order],
    now: datetime,
) -> None:
    """Take out of use what is idle for nothing, at the end of the minute it is paid for."""
    zones = set(orchestrator.enabled_zones)
    for key, pool in pools.items():
        if key.zone not in zones:
            continue
        groups = [(pool.unused, "{count} idle, the scheduler does not use them")]
        if Shape(*key[1:]) not in demands:
            groups.append((pool.idle, "nothing waits, {count} idle for {idle_s} s"))
        for idle, reason in groups:
            due = [each.name for each in idle if _is_due(each, orchestrator, now)]
            if due:
                orders[key].drain += due
                said = reason.format(count=len(due), idle_s=orchestrator.idle_s)
                orders[key].reasons.append(said)


def _is_due(instance: Instance, orchestrator: Orchestrator, now: datetime) -> bool:
    if instance.idle_since is None or now - instance.idle_since < timedelta(
        seconds=orchestrator.idle_s
    ):
        return False
    paid_left = PAID - (now - instance.created_at) % PAID
    return paid_left <= timedelta(seconds=LEAVING_TICKS * orchestrator.tick_s)


def _grow(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
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


def _growth(demand: Demand, gap: int, granted: int, added: int) -> str:
    old = f" ({demand.passed_over} beside unused instances before)" if demand.passed_over else ""
    said = f"{demand.waiting} wait{old}, {demand.supply:g} free or booting: {added} more"
    return said if granted == gap else f"{said} ({granted} of {gap} within the caps)"


def _open_zones(
    orchestrator: Orchestrator, shape: Shape, pools: Mapping[PoolKey, Pool], now: datetime
) -> dict[PoolKey, tuple[int, int]]:
    """Return the pools of a shape that may grow: their size, and the most they may have."""
    if not orchestrator.offers(shape.instance_type):
        return {}
    paused = paused_zones(orchestrator, shape, now)
    keys = [PoolKey(zone, *shape) for zone in orchestrator.enabled_zones if zone not in paused]
    sizes = {key: pools[key].size if key in pools else 0 for key in keys}
    return {key: (size, max(orchestrator.max_per_pool, size)) for key, size in sizes.items()}


def _facts(pool: Pool, demand: Demand | None, more: Mapping[str, object]) -> dict[str, object]:
    """Return what a decision was based on, to be stored beside it."""
    return {
        "size": pool.size,
        "booting": pool.coming,
        "idle": len(pool.idle),
        "unused": len(pool.unused),
        "busy": len(pool.busy),
        "drained": len(pool.drained),
        "broken": len(pool.broken),
        "late": len(pool.late),
        "silent": len(pool.silent),
        "waiting": demand.waiting if demand else 0,
        "passed_over": demand.passed_over if demand else 0,
        "need": round(demand.need, 3) if demand else 0.0,
        "supply": round(demand.supply, 3) if demand else 0.0,
        **more,
    }


def _by_age(instance: Instance) -> tuple[datetime, str]:
    return (instance.created_at, instance.name)
