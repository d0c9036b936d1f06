"""What the tests of scaling are made of: an orchestrator, its instances, and what it decides."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from shared.core.census import Backlog
from shared.core.scaling import plan
from shared.core.waiting import why_waiting
from shared.models.farm import (
    Decision,
    Instance,
    InstanceStatus,
    Orchestrator,
    Placement,
    PoolKey,
    Shape,
    Stage,
)
from shared.models.task import WaitingFor

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SHAPE = Shape("n1-standard-4", True)
OTHER_SHAPE = Shape("n1-standard-8", False)
A, B = PoolKey("z-a", *SHAPE), PoolKey("z-b", *SHAPE)
STANDARD = PoolKey("z-a", *OTHER_SHAPE)
S = InstanceStatus


def an_orchestrator(**fields: Any) -> Orchestrator:
    known = Orchestrator(
        orchestrator_id="o1",
        scheduler="nomad",
        scheduler_address="http://127.0.0.1:1",
        fleet="gce",
        project="p",
        region="z",
        zones={"z-a": True, "z-b": True},
        idle_s=60,
        max_grow_per_tick=100,
        spare_percent=0,
    )
    return replace(known, **fields)


def an_instance(name: str, status: S, pool: PoolKey = A, **fields: Any) -> Instance:
    is_free = status in (S.IDLE, S.DRAINING)
    known = Instance(
        name=name,
        pool=pool,
        status=status,
        created_at=NOW - timedelta(minutes=10, seconds=1),
        idle_since=NOW - timedelta(minutes=5) if is_free else None,
    )
    return replace(known, **fields)


def some(number: int, status: S, pool: PoolKey = A, **fields: Any) -> list[Instance]:
    return [an_instance(f"{status}-{pool.zone}-{i}", status, pool, **fields) for i in range(number)]


def booting(number: int, pool: PoolKey = A, **fields: object) -> list[Instance]:
    return some(number, S.BOOTING, pool, **{"created_at": NOW - timedelta(seconds=9), **fields})


def wants(number: int, shape: Shape = SHAPE, expected_s: float | None = None) -> Backlog:
    return Backlog(shape=shape, count=number, expected_s=expected_s)


def decide(
    orchestrator: Orchestrator,
    backlog: Sequence[Backlog] = (),
    instances: Sequence[Instance] = (),
    **more: Any,
) -> tuple[Decision, ...]:
    names = (f"new-{i}" for i in count())
    return plan(
        orchestrator,
        backlog=backlog,
        instances=instances,
        now=NOW,
        new_name=lambda: next(names),
        **more,
    )


def grown(decisions: Sequence[Decision]) -> dict[PoolKey, int]:
    return {each.pool: len(each.grow) for each in decisions if each.grow}


def drained(decisions: Sequence[Decision]) -> set[str]:
    return {name for each in decisions for name in each.drain}


def retired(decisions: Sequence[Decision]) -> set[str]:
    return {name for each in decisions for name in each.retire}


def apply(instances: Sequence[Instance], decisions: Sequence[Decision]) -> list[Instance]:
    """Return the farm after these decisions, nothing else having happened."""
    gone = retired(decisions)
    out = drained(decisions)
    back = {name for each in decisions for name in each.resume}
    after = []
    for each in instances:
        if each.name in gone:
            continue
        status = S.DRAINING if each.name in out else S.IDLE if each.name in back else each.status
        after.append(replace(each, status=status))
    for decision in decisions:
        for name in decision.grow:
            new = an_instance(f"{name}-{len(after)}", S.BOOTING, decision.pool, created_at=NOW)
            after.append(new)
    return after


def reason(
    orchestrator: Orchestrator, instances: Sequence[Instance], backlog: Sequence[Backlog]
) -> tuple[WaitingFor, str]:
    """Return why attempts of SHAPE wait, by what the orchestrator decides now."""
    decisions = decide(orchestrator, backlog, instances)
    return why_waiting(
        orchestrator, backlog=backlog, instances=instances, decisions=decisions, now=NOW
    )[SHAPE]


def a_placement(attempt_id: str, stage: Stage, **fields: Any) -> Placement:
    return replace(Placement(attempt_id=attempt_id, shape=SHAPE, stage=stage), **fields)
