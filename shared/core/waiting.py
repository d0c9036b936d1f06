"""Why attempts that were given to a scheduler do not run yet."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from shared.core.census import Backlog
from shared.core.placement import paused_zones
from shared.models.farm import (
    Decision,
    Instance,
    InstanceStatus,
    Orchestrator,
    ProblemCode,
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
    zones = set(orchestrator.enabled_zones)
    given_up = {name for decision in decisions for name in decision.retire}
    resumed = {name for decision in decisions for name in decision.resume}
    up: Counter[Shape] = Counter()
    coming: Counter[Shape] = Counter()
    for each in instances:
        if each.pool.zone not in zones or each.name in given_up:
            continue
        shape = Shape(*each.pool[1:])
        if each.status in (InstanceStatus.IDLE, InstanceStatus.BUSY) or each.name in resumed:
            up[shape] += 1
        elif each.status is InstanceStatus.BOOTING:
            coming[shape] += 1
    for decision in decisions:
        coming[Shape(*decision.pool[1:])] += len(decision.grow)
    is_full = len(instances) >= orchestrator.max_instances
    return {
        shape: _why(
            orchestrator, shape, up=up[shape], coming=coming[shape], is_full=is_full, now=now
        )
        for shape in sorted({group.shape for group in backlog if group.count > 0})
    }


def _why(
    orchestrator: Orchestrator, shape: Shape, *, up: int, coming: int, is_full: bool, now: datetime
) -> tuple[WaitingFor, str]:
    name, zones = orchestrator.orchestrator_id, orchestrator.enabled_zones
    if not orchestrator.offers(shape.instance_type):
        return WaitingFor.ZONE_OFF, f"{name} has no {shape.instance_type}"
    if not zones:
        return WaitingFor.ZONE_OFF, f"every zone of {name} is switched off"
    if coming:
        return WaitingFor.BOOT, f"{up} of {up + coming} instances are up, {coming} booting"
    if up:
        return WaitingFor.SCHEDULER, f"{up} instances are up"
    paused = paused_zones(orchestrator, shape, now)
    if all(paused.get(zone) is ProblemCode.QUOTA for zone in zones):
        return WaitingFor.QUOTA, "the provider's quota is used up in every zone"
    if all(zone in paused for zone in zones):
        return WaitingFor.STOCK_OUT, "no zone has such a machine left for now"
    if is_full:
        return WaitingFor.QUOTA, f"{name} runs {orchestrator.max_instances} instances at most"
    return WaitingFor.BOOT, "an instance is asked for at the next tick"
