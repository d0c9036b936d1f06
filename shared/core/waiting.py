"""Why attempts that were given to a scheduler do not run yet, and why the pools for them do not serve them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.core.breaker import standing
from shared.core.census import Backlog
from shared.core.placement import why_failing, why_none
from shared.core.pools import boot_limit
from shared.models.farm import (
    BreakerState,
    Decision,
    Instance,
    InstanceStatus,
    Orchestrator,
    PoolKey,
    Shape,
)
from shared.models.task import WaitingFor


def why_waiting(
    orchestrator: Orchestrator,
    *,
    backlog: Sequence[Backlog],
    instances: Sequence[Instance],
    decisions: Sequence[Decision],
    now: datetime,
) -> dict[Shape, tuple[WaitingFor, str]]:
    """Return the reason for each shape that something waits for, once these decisions are carried out."""
    limit = boot_limit(orchestrator)
    given_up = {name for decision in decisions for name in decision.retire}
    resumed = {name for decision in decisions for name in decision.resume}
    waiting = [group for group in backlog if group.count > 0 and not group.is_held]
    seen = {group.shape: _Seen() for group in waiting}
    for group in waiting:
        seen[group.shape].is_passed_over &= group.is_passed_over
    for each in instances:
        found = seen.get(Shape(*each.pool[1:]))
        if found is None or not orchestrator.is_on(each.pool) or each.name in given_up:
            continue
        if each.status in (InstanceStatus.IDLE, InstanceStatus.BUSY) or each.name in resumed:
            found.up += 1
            found.usable += each.status is not InstanceStatus.BUSY and not each.is_unused
            found.unused += each.is_unused and each.status is InstanceStatus.IDLE
        elif each.status is InstanceStatus.BOOTING and now - each.created_at <= limit:
            found.coming += 1
    for decision in decisions:
        found = seen.get(Shape(*decision.pool[1:]))
        if found is not None:
            found.coming += len(decision.grow)
    sizes = Counter(each.pool.instance_type for each in instances)
    is_full = len(instances) >= orchestrator.max_instances
    return {
        shape: _why(
            orchestrator,
            shape,
            seen[shape],
            size=sizes[shape.instance_type],
            is_full=is_full,
            now=now,
        )
        for shape in sorted(seen)
    }


def why_pools_wait(
    orchestrator: Orchestrator,
    reasons: Mapping[Shape, tuple[WaitingFor, str]],
    pools: Iterable[PoolKey],
    now: datetime,
    *,
    unlisted: Collection[PoolKey] = (),
) -> dict[PoolKey, tuple[WaitingFor, str] | None]:
    """Return why each of the pools does not serve what waits for its shape, None where nothing does.

    Shapes: of the `unlisted` pools the provider could not say what they have.
    """
    failing = {shape: standing(orchestrator, shape, now) for shape in reasons}
    zones = set(orchestrator.enabled_zones)
    found: dict[PoolKey, tuple[WaitingFor, str] | None] = {}
    for pool in pools:
        shape = Shape(*pool[1:])
        found[pool] = reasons.get(shape)
        if shape not in reasons:
            continue
        breaker = failing[shape].get(pool.zone)
        if pool.zone not in zones:
            found[pool] = (WaitingFor.ZONE_OFF, f"{pool.zone} is switched off")
        elif not orchestrator.is_on(pool):
            found[pool] = (WaitingFor.ZONE_OFF, f"pool {pool.pool_id} is switched off")
        elif breaker and breaker.state(now) is BreakerState.OPEN:
            found[pool] = why_failing({pool.zone: breaker})
        elif pool in unlisted:
            note = "could not be listed: the provider could not be asked"
            found[pool] = (reasons[shape][0], note)
    return found


@dataclass
class _Seen:
    """The instances of a shape, in zones that are on, and whether all that waits was passed over before."""

    up: int = 0
    usable: int = 0
    unused: int = 0
    coming: int = 0
    is_passed_over: bool = True


def _why(
    orchestrator: Orchestrator,
    shape: Shape,
    seen: _Seen,
    *,
    size: int,
    is_full: bool,
    now: datetime,
) -> tuple[WaitingFor, str]:
    name, enabled = orchestrator.orchestrator_id, orchestrator.enabled_zones
    if orchestrator.is_managed:
        return WaitingFor.SCHEDULER, f"{_who(orchestrator)} starts machines by itself"
    if not orchestrator.offers(shape.instance_type):
        return WaitingFor.ZONE_OFF, f"{name} has no {shape.instance_type}"
    if not enabled:
        return WaitingFor.ZONE_OFF, f"every zone of {name} is switched off"
    zones = [zone for zone in enabled if orchestrator.is_on(PoolKey(zone, *shape))]
    if not zones:
        return WaitingFor.ZONE_OFF, f"every pool of {shape.name} at {name} is switched off"
    if seen.unused:
        note = f"{seen.unused} instances are idle, the scheduler does not use them"
        return WaitingFor.SCHEDULER, note
    if seen.coming:
        note = f"{seen.up} of {seen.up + seen.coming} instances are up, {seen.coming} booting"
        return WaitingFor.BOOT, note
    if seen.is_passed_over:
        note = "the scheduler did not use the instances there were; one more is tried now and then"
        return WaitingFor.SCHEDULER, note
    if seen.usable:
        return WaitingFor.SCHEDULER, f"{seen.up} instances are up"
    failing = standing(orchestrator, shape, now)
    if all(zone in failing and failing[zone].state(now) is BreakerState.OPEN for zone in zones):
        return why_none({zone: failing[zone] for zone in zones})
    quota = orchestrator.max_per_type.get(shape.instance_type)
    if quota is not None and size >= quota:
        return WaitingFor.QUOTA, f"the quota of {quota} {shape.instance_type} is used up"
    if is_full:
        return WaitingFor.QUOTA, f"{name} runs {orchestrator.max_instances} instances at most"
    if seen.up:
        return WaitingFor.SCHEDULER, f"{seen.up} instances are up"
    return WaitingFor.BOOT, "an instance is asked for at the next tick"


def _who(orchestrator: Orchestrator) -> str:
    return "AWS Batch" if orchestrator.scheduler == "batch" else "its scheduler"
