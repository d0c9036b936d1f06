"""Ticks that are over, planned again: what another policy would have decided from what was really seen.

Each tick is looked at by itself: what the other policy decided in one changes nothing of what the next one saw.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count

from shared.core.census import Backlog
from shared.core.scaling import plan
from shared.models.farm import Decision, Instance, InstanceStatus, Orchestrator, PoolKey

STAYING = (InstanceStatus.BOOTING, InstanceStatus.IDLE, InstanceStatus.BUSY)


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """All that `plan` is given, but for the names of what it starts."""

    orchestrator: Orchestrator
    now: datetime
    backlog: Sequence[Backlog] = ()
    instances: Sequence[Instance] = ()
    prices: Mapping[PoolKey, int] = field(default_factory=dict)
    unlisted_count: int = 0
    unlisted_pools: Sequence[PoolKey] = ()

    def plan(self, new_name: Callable[[], str]) -> tuple[Decision, ...]:
        """Return what `plan` decides from these."""
        return plan(**vars(self), new_name=new_name)


@dataclass(frozen=True, kw_only=True)
class PlannedTick:
    """One round of a tick: what went into `plan`, what came out, and how long it took."""

    inputs: PlanInputs
    decisions: Sequence[Decision]
    plan_ms: float

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing waited, nothing was there and nothing was decided."""
        return not (self.inputs.backlog or self.inputs.instances or self.decisions)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A pool in one tick: what was planned then and what the other policy plans, None for nothing.

    Shapes: `wished_then` and `wished_now` are how many instances it would have if that were carried out, those that
    leave not counted.
    """

    pool: PoolKey
    then: Decision | None
    now: Decision | None
    wished_then: int
    wished_now: int

    @property
    def differs(self) -> bool:
        """Tell whether other numbers are started, taken out of use, deleted or put back."""
        return counts(self.then) != counts(self.now)


def compare(tick: PlannedTick, orchestrator: Orchestrator) -> list[Compared]:
    """Plan a tick again as if its orchestrator had been this one; returns every pool that is there or decided upon."""
    numbers = count()
    inputs = replace(tick.inputs, orchestrator=orchestrator)
    again = inputs.plan(lambda: f"replayed-{next(numbers)}")
    then = {each.pool: each for each in tick.decisions}
    now = {each.pool: each for each in again}
    staying: defaultdict[PoolKey, set[str]] = defaultdict(set)
    for each in tick.inputs.instances:
        if each.status in STAYING:
            staying[each.pool].add(each.name)
    return [
        Compared(
            pool=pool,
            then=then.get(pool),
            now=now.get(pool),
            wished_then=_wished(staying.get(pool, set()), then.get(pool)),
            wished_now=_wished(staying.get(pool, set()), now.get(pool)),
        )
        for pool in sorted({*staying, *then, *now})
    ]


def counts(decision: Decision | None) -> dict[str, int]:
    """Return how many instances a decision starts, takes out of use, deletes and puts back."""
    names = ("grow", "drain", "retire", "resume")
    return {name: len(getattr(decision, name)) if decision else 0 for name in names}


def _wished(staying: set[str], decision: Decision | None) -> int:
    if decision is None:
        return len(staying)
    left = staying.difference(decision.drain, decision.retire)
    return len(left) + len(decision.grow) + len(decision.resume)
