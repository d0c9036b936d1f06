"""How many instances each pool should have: what was measured goes in, decisions with reasons come out."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from shared.core.census import PAID, Backlog
from shared.core.demand import Demand, demands_of
from shared.core.growth import growth
from shared.core.pools import SILENT_SHARE, Pool, sort
from shared.models.farm import (
    Decision,
    Instance,
    Orchestrator,
    PoolKey,
    Shape,
)

# An idle instance leaves in the paid minute's last ticks: one takes it out of use, one deletes it, one is to spare.
LEAVING_TICKS = 3
# Where a limit holds work back, the next attempt is at the scheduler within seconds of the last one's end, if the limit
# is this machine's to wait for at all.
HELD_IDLE_S = 10
# No machine is up in the first half of the usual boot.
SAFE_SHARE = 0.5


@dataclass
class _Order:
    """A decision while it is being made."""

    grow: list[str] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)
    resume: list[str] = field(default_factory=list)
    suspend: list[str] = field(default_factory=list)
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
    unlisted_pools: Collection[PoolKey] = (),
) -> tuple[Decision, ...]:
    """Return what to do now, by pool; nothing for a pool that is as it should be, or where the scheduler does it all.

    Shapes: `new_name` returns another name each time; `prices` are compared between the zones of a shape, when missing
    the orchestrator's own percents are; `unlisted_count` instances exist that could not be listed, and of the
    `unlisted_pools` it is not known what they have: they are left alone.
    """
    if orchestrator.is_managed:
        return ()
    listed = [each for each in instances if each.pool not in unlisted_pools]
    pools = sort(orchestrator, listed, now)
    orders: defaultdict[PoolKey, _Order] = defaultdict(_Order)
    demands = demands_of(orchestrator, backlog, pools, now)
    _give_up(pools, orders)
    _leave_zones(orchestrator, pools, orders)
    resumed = _resume(orchestrator, demands, pools, orders)
    _leave_idle(orchestrator, demands, pools, orders, now)
    _call_off(orchestrator, demands, pools, orders, now)
    started = growth(
        orchestrator,
        demands,
        pools,
        resumed=resumed,
        room=orchestrator.max_instances - len(instances) - unlisted_count,
        prices=prices,
        unlisted=unlisted_pools,
        now=now,
    )
    for key, growing in started.items():
        order = orders[key]
        order.grow += [new_name() for _ in range(growing.added)]
        order.reasons.append(growing.reason)
        order.facts.update(missing=growing.missing, granted=growing.granted)
    return tuple(
        Decision(
            pool=pool,
            grow=tuple(order.grow),
            retire=tuple(order.retire),
            drain=(*order.drain, *order.suspend),
            resume=tuple(order.resume),
            reason="; ".join(order.reasons),
            facts=_facts(pool, pools.get(pool, Pool()), demands.get(Shape(*pool[1:])), order.facts),
        )
        for pool, order in sorted(orders.items())
        if order.reasons
    )


def _give_up(pools: Mapping[PoolKey, Pool], orders: defaultdict[PoolKey, _Order]) -> None:
    """Retire what does not run, and some of what never joined or has fallen silent.

    One that may get work any moment is taken out of use first, so that it has none when it is deleted at a later look.
    """
    most = ceil(sum(pool.expected for pool in pools.values()) * SILENT_SHARE)
    lost_left, doubtful_left = most, most
    for key in sorted(pools):
        pool = pools[key]
        for each in pool.broken:
            orders[key].retire.append(each.name)
        if pool.broken:
            orders[key].reasons.append(f"{len(pool.broken)} stopped or stuck")
        missed = [*pool.silent, *pool.late]
        doubtful = sorted((each for each in missed if each.may_return), key=_by_age)
        suspended = [each.name for each in doubtful[:doubtful_left]]
        doubtful_left -= len(suspended)
        if suspended:
            orders[key].suspend += suspended
            orders[key].reasons.append(f"{len(suspended)} silent or never ready, out of use")
        lost = [each for each in missed if not each.may_return]
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
    """Take everything in zones and pools that are switched off out of use; what runs there may end."""
    for key, pool in pools.items():
        leaving = [*pool.idle, *pool.unused, *pool.busy]
        if leaving and not orchestrator.is_on(key):
            orders[key].drain += [each.name for each in leaving]
            off = key.pool_id if key.zone in orchestrator.enabled_zones else key.zone
            orders[key].reasons.append(f"{off} is switched off")


def _resume(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
    orders: defaultdict[PoolKey, _Order],
) -> dict[Shape, int]:
    """Put drained instances back where they are needed, retire the others; return how many were put back.

    Never a preemptible one: its agent takes it out of use too, when the provider says that it must go.
    """
    resumed: defaultdict[Shape, int] = defaultdict(int)
    for key in sorted(pools):
        drained = sorted(pools[key].drained, key=_by_age, reverse=True)
        if not drained:
            continue
        shape = Shape(*key[1:])
        demand = demands.get(shape)
        is_on = orchestrator.is_on(key)
        wanted = max(demand.gap - resumed[shape], 0) if demand and is_on else 0
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
    for key, pool in pools.items():
        if not orchestrator.is_on(key):
            continue
        idle_s = orchestrator.idle_s
        groups = [(pool.unused, idle_s, "{count} idle, the scheduler does not use them")]
        demand = demands.get(Shape(*key[1:]))
        if demand is None:
            groups.append((pool.idle, idle_s, "nothing waits, {count} idle for {idle_s} s"))
        elif not demand.waiting:
            idle_s = max(idle_s, HELD_IDLE_S)
            groups.append((pool.idle, idle_s, "all is held back, {count} idle for {idle_s} s"))
        left = _spare_of_minimum(orchestrator, key, pool)
        for idle, idle_s, reason in groups:
            due = [each for each in idle if _is_due(each, orchestrator, idle_s, now)]
            spare = [each for each in due if not each.is_blocked][:left]
            left -= len(spare)
            going = [each.name for each in due if each.is_blocked or each in spare]
            if going:
                orders[key].drain += going
                orders[key].reasons.append(reason.format(count=len(going), idle_s=idle_s))


def _call_off(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
    orders: defaultdict[PoolKey, _Order],
    now: datetime,
) -> None:
    """Delete what boots for nothing, unless it may be up any moment: then it might get work just as it goes."""
    early = timedelta(seconds=orchestrator.boot_s * SAFE_SHARE)
    for key, pool in pools.items():
        if Shape(*key[1:]) in demands:
            continue
        spare = _spare_of_minimum(orchestrator, key, pool) - len(orders[key].drain)
        young = [
            each for each in pool.coming if now - each.created_at < early and not each.may_return
        ]
        off = sorted(young, key=_by_age, reverse=True)[: max(spare, 0)]
        if off:
            orders[key].retire += [each.name for each in off]
            orders[key].reasons.append(f"nothing waits, {len(off)} called off before they are up")


def _spare_of_minimum(orchestrator: Orchestrator, key: PoolKey, pool: Pool) -> int:
    """Return how many of a pool may leave; it keeps its minimum while it is switched on."""
    least = orchestrator.min_sizes.get(key.pool_id, 0) if orchestrator.is_on(key) else 0
    return max(pool.staying - least, 0)


def _is_due(instance: Instance, orchestrator: Orchestrator, idle_s: int, now: datetime) -> bool:
    if instance.idle_since is None or now - instance.idle_since < timedelta(seconds=idle_s):
        return False
    paid_left = PAID - (now - instance.created_at) % PAID
    return paid_left <= timedelta(seconds=LEAVING_TICKS * orchestrator.tick_s)


def _facts(
    key: PoolKey, pool: Pool, demand: Demand | None, more: Mapping[str, object]
) -> dict[str, object]:
    """Return what a decision was based on, to be stored beside it."""
    return {
        "size": pool.size,
        "booting": len(pool.coming),
        "idle": len(pool.idle),
        "unused": len(pool.unused),
        "busy": len(pool.busy),
        "drained": len(pool.drained),
        "broken": len(pool.broken),
        "late": len(pool.late),
        "silent": len(pool.silent),
        "waiting": demand.waiting if demand else 0,
        "passed_over": demand.passed_over if demand else 0,
        "held": demand.held if demand else 0,
        "avoiding": demand.avoiding.get(key.zone, 0) if demand else 0,
        "need": round(demand.need, 3) if demand else 0.0,
        "supply": round(demand.supply, 3) if demand else 0.0,
        **more,
    }


def _by_age(instance: Instance) -> tuple[datetime, str]:
    return (instance.created_at, instance.name)
