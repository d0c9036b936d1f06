"""What is started: as much as is missing and the caps allow, in the cheapest healthy zones that have it.

As many of them as the attempts want that avoid a zone are started elsewhere, however much cheaper that zone is; if no
other one has room they are started there all the same: an attempt never waits for its zone alone.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.core.breaker import PROBE_COUNT, probing_count, standing
from shared.core.demand import Demand
from shared.core.pools import Pool
from shared.core.spread import fill, spread
from shared.models.farm import (
    Breaker,
    BreakerState,
    Instance,
    Orchestrator,
    PoolKey,
    ProblemCode,
    Shape,
)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How many instances a pool gets, and why.

    `missing` is what its shape lacks, `granted` what the caps allow of that, in all of its pools.
    """

    added: int
    missing: int
    granted: int
    reason: str


def growth(
    orchestrator: Orchestrator,
    demands: Mapping[Shape, Demand],
    pools: Mapping[PoolKey, Pool],
    *,
    resumed: Mapping[Shape, int],
    room: int,
    prices: Mapping[PoolKey, int] | None,
    unlisted: Collection[PoolKey],
    now: datetime,
) -> dict[PoolKey, Growth]:
    """Return what to start, by pool; `resumed` are put back into use instead, `room` is left for the orchestrator.

    Nothing is started in `unlisted` pools: they look empty and are not.
    """
    short = _short_of_minimum(orchestrator, pools)
    shapes = sorted({*demands, *(Shape(*key[1:]) for key in short)})
    breakers = {shape: standing(orchestrator, shape, now) for shape in shapes}
    zones = {
        shape: {
            key: sizes
            for key, sizes in _open_zones(orchestrator, shape, pools, breakers[shape], now).items()
            if key not in unlisted
        }
        for shape in shapes
    }
    floors = {
        shape: _floors({key: short.get(key, 0) for key in zones[shape]}, zones[shape])
        for shape in shapes
    }
    missing = {
        shape: max(_gap(demands.get(shape), resumed.get(shape, 0)), sum(floors[shape].values()))
        for shape in shapes
    }
    most = {
        shape: min(missing[shape], sum(limit - size for size, limit in zones[shape].values()))
        for shape in shapes
    }
    most = _within_quotas(orchestrator, most, pools)
    tanks = {shape: (0, most[shape]) for shape in shapes}
    granted = fill(tanks, min(max(room, 0), orchestrator.max_grow_per_tick))
    result: dict[PoolKey, Growth] = {}
    for shape, count in granted.items():
        ranks = _ranks(orchestrator, zones[shape], pools, prices)
        placed = _place(count, floors[shape], zones[shape], ranks, demands.get(shape))
        for key, added in placed.counts.items():
            floor = min(floors[shape].get(key, 0), added)
            result[key] = Growth(
                added=added,
                missing=missing[shape],
                granted=count,
                reason=_reason(demands.get(shape), missing[shape], count, added, floor)
                + placed.notes.get(key, "")
                + _probe(breakers[shape].get(key.zone)),
            )
    return result


def _floors(
    wanted: Mapping[PoolKey, int], places: Mapping[PoolKey, tuple[int, int]]
) -> dict[PoolKey, int]:
    """Return what each pool lacks of its minimum, as far as it may grow at all."""
    floors = {key: min(count, places[key][1] - places[key][0]) for key, count in wanted.items()}
    return {key: count for key, count in floors.items() if count > 0}


def _gap(demand: Demand | None, resumed: int) -> int:
    return max(demand.gap - resumed, 0) if demand else 0


def _short_of_minimum(
    orchestrator: Orchestrator, pools: Mapping[PoolKey, Pool]
) -> dict[PoolKey, int]:
    """Return the pools that have fewer instances than they shall always have, and how many they lack."""
    lacking = {}
    for pool_id, least in orchestrator.min_sizes.items():
        key = PoolKey.parse(pool_id)
        missing = least - (pools[key].staying if key in pools else 0)
        if missing > 0:
            lacking[key] = missing
    return lacking


def _within_quotas(
    orchestrator: Orchestrator, most: Mapping[Shape, int], pools: Mapping[PoolKey, Pool]
) -> dict[Shape, int]:
    """Return how much of each shape may be started when those of one type share its quota."""
    result = dict(most)
    sizes: Counter[str] = Counter()
    for key, pool in pools.items():
        sizes[key.instance_type] += pool.size
    by_type: defaultdict[str, dict[Shape, tuple[int, int]]] = defaultdict(dict)
    for shape, count in most.items():
        if shape.instance_type in orchestrator.max_per_type:
            by_type[shape.instance_type][shape] = (0, count)
    for name, tanks in by_type.items():
        left = max(orchestrator.max_per_type[name] - sizes[name], 0)
        shares = fill(tanks, left)
        result.update({shape: shares.get(shape, 0) for shape in tanks})
    return result


@dataclass(frozen=True)
class _Placed:
    """How many of a shape go to each pool; `notes` say where avoided zones made a difference."""

    counts: Mapping[PoolKey, int]
    notes: Mapping[PoolKey, str] = field(default_factory=dict)


def _place(
    count: int,
    floors: Mapping[PoolKey, int],
    zones: Mapping[PoolKey, tuple[int, int]],
    ranks: Mapping[PoolKey, tuple[int, int]],
    demand: Demand | None,
) -> _Placed:
    """Share out what a shape gets: the minimum of each pool first, then the cheapest and healthiest zones.

    As far as there is room, no zone gets so many that too few are left for those that avoid it.
    """
    first = fill({key: (0, least) for key, least in floors.items()}, count)
    left, rest = _after(zones, first), count - sum(first.values())
    freely = _sums(zones, first, spread(rest, left, ranks))
    if demand is None or not demand.elsewhere:
        return _Placed(freely)
    bounds = []
    for avoided, wanted in demand.elsewhere.items():
        inside = [key for key in zones if key.zone in avoided]
        bounds.append((inside, count - wanted - sum(first.get(key, 0) for key in inside)))
    then = spread(rest, left, ranks, bounds)
    # Where that is not all, the zones with room are avoided: those that the fewest avoid come first.
    last = {key: (demand.avoiding.get(key.zone, 0), *rank) for key, rank in ranks.items()}
    forced = spread(rest - sum(then.values()), _after(left, then), last)
    placed = _sums(zones, first, then, forced)
    avoiding = {key.zone: demand.avoiding.get(key.zone, 0) for key in zones}
    return _Placed(placed, _notes(avoiding, placed, forced, is_moved=placed != freely))


def _sums(keys: Iterable[PoolKey], *some: Mapping[PoolKey, int]) -> dict[PoolKey, int]:
    """Return what all of these give to each pool, if anything."""
    sums = {key: sum(each.get(key, 0) for each in some) for key in keys}
    return {key: count for key, count in sums.items() if count}


def _after(
    places: Mapping[PoolKey, tuple[int, int]], given: Mapping[PoolKey, int]
) -> dict[PoolKey, tuple[int, int]]:
    """Return places as they are once they have what was given."""
    return {key: (size + given.get(key, 0), limit) for key, (size, limit) in places.items()}


def _notes(
    avoiding: Mapping[str, int],
    placed: Iterable[PoolKey],
    forced: Iterable[PoolKey],
    *,
    is_moved: bool,
) -> dict[PoolKey, str]:
    """Say what avoided zones have to do with what the pools get; `avoiding` is how many avoid each zone."""
    said = [f", {count} keep away from {zone}" for zone, count in avoiding.items() if count]
    notes = dict.fromkeys(placed, "".join(said)) if is_moved else {}
    for key in forced:
        notes[key] = f", {avoiding[key.zone]} keep away from here, but no better zone has room"
    return notes


def _ranks(
    orchestrator: Orchestrator,
    keys: Iterable[PoolKey],
    pools: Mapping[PoolKey, Pool],
    prices: Mapping[PoolKey, int] | None,
) -> dict[PoolKey, tuple[int, int]]:
    """Return the price of each pool and its troubles."""
    return {
        key: (
            prices.get(key, 0) if prices else orchestrator.price_percent(key.zone),
            pools[key].trouble_count if key in pools else 0,
        )
        for key in keys
    }


def _open_zones(
    orchestrator: Orchestrator,
    shape: Shape,
    pools: Mapping[PoolKey, Pool],
    breakers: Mapping[str, Breaker],
    now: datetime,
) -> dict[PoolKey, tuple[int, int]]:
    """Return the pools of a shape that may grow: their size, and the most they may have."""
    if not orchestrator.offers(shape.instance_type):
        return {}
    result = {}
    is_quota_probed = False  # by one machine for all zones
    for zone in orchestrator.enabled_zones:
        key, breaker = PoolKey(zone, *shape), breakers.get(zone)
        is_open = breaker is not None and breaker.state(now) is BreakerState.OPEN
        if is_open or not orchestrator.is_on(key):
            continue
        pool = pools.get(key, Pool())
        limit = max(orchestrator.max_per_pool, pool.size)
        if breaker is not None:
            probes = PROBE_COUNT - probing_count(breaker, _under_way(orchestrator, shape, pools))
            limit = min(limit, pool.size + max(probes, 0))
            if breaker.cause == ProblemCode.QUOTA:
                limit = pool.size if is_quota_probed else limit
                is_quota_probed |= limit > pool.size
        result[key] = (pool.size, limit)
    return result


def _under_way(
    orchestrator: Orchestrator, shape: Shape, pools: Mapping[PoolKey, Pool]
) -> Iterable[Instance]:
    """Return the machines of a shape that have not joined, in all zones."""
    for zone in orchestrator.zones:
        pool = pools.get(PoolKey(zone, *shape), Pool())
        yield from (*pool.coming, *pool.late)


def _probe(breaker: Breaker | None) -> str:
    return f", to find out whether it works again ({breaker.cause})" if breaker else ""


def _reason(demand: Demand | None, missing: int, granted: int, added: int, floor: int) -> str:
    if demand is None or not demand.gap:
        said = f"{floor} missing from the least it shall have: {added} more"
    else:
        old = (
            f" ({demand.passed_over} beside unused instances before)" if demand.passed_over else ""
        )
        held = f" and {demand.held} will" if demand.held else ""
        said = f"{demand.waiting} wait{held}{old}, {demand.supply:g} free or booting: {added} more"
    return said if granted == missing else f"{said} ({granted} of {missing} within the caps)"
