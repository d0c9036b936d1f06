"""What the tests of scaling are made of: an orchestrator, its instances, and what it decides."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from shared.core.census import Backlog
from shared.core.scaling import plan
from shared.models.farm import (
    Decision,
    Instance,
    InstanceStatus,
    Orchestrator,
    PoolKey,
    Shape,
)

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
