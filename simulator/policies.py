"""Who decides how many machines there are: the core's plan(), and the ways others do it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil, inf
from typing import Protocol

from shared.core.census import Backlog
from shared.core.scaling import plan
from shared.core.spread import fill
from shared.models.farm import Decision, Instance, InstanceStatus, Orchestrator, PoolKey, Shape


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a policy is told: the same that the autoscaler's tick observes."""

    orchestrator: Orchestrator
    backlog: Sequence[Backlog]
    instances: Sequence[Instance]
    prices: Mapping[PoolKey, int]
    now: datetime
    new_name: Callable[[], str]

    def waiting(self) -> Counter[Shape]:
        """Return how many attempts wait, by shape."""
        found: Counter[Shape] = Counter()
        for each in self.backlog:
            if not each.is_held:
                found[each.shape] += each.count
        return found

    def by_shape(self) -> dict[Shape, list[Instance]]:
        """Return the instances, by shape."""
        found: defaultdict[Shape, list[Instance]] = defaultdict(list)
        for each in self.instances:
            found[Shape(*each.pool[1:])].append(each)
        return found


class Policy(Protocol):
    """Decides for one site. `is_event_driven`: it also looks when something starts to wait or a machine gets free."""

    tick_s: float
    is_event_driven: bool
    standing: int

    def decide(self, seen: Seen) -> Sequence[Decision]:
        """Return what to do now."""
        ...


@dataclass
class Baton:
    """The product: plan(), at once when something starts to wait or nothing does any more, else every minute."""

    tick_s: float = 60
    is_event_driven: bool = True
    standing: int = 0

    def decide(self, seen: Seen) -> Sequence[Decision]:
        return plan(
            seen.orchestrator,
            backlog=seen.backlog,
            instances=seen.instances,
            now=seen.now,
            new_name=seen.new_name,
            prices=seen.prices,
        )


@dataclass
class OnePerTask:
    """One instance for each waiting task, as the published benchmark's autoscaler is modelled.

    What was asked for counts for `credit_s`, then it is asked for again. Fitted to the talk's ratios.
    """

    tick_s: float = 60
    credit_s: float = 90
    step: int = 300
    idle_s: float = 120
    is_event_driven: bool = False
    standing: int = 0
    asked: dict[str, datetime] = field(default_factory=dict)

    def decide(self, seen: Seen) -> Sequence[Decision]:
        waiting, by_shape = seen.waiting(), seen.by_shape()
        decisions = []
        for shape in sorted({*waiting, *by_shape}):
            there = by_shape.get(shape, [])
            credited = timedelta(seconds=self.credit_s)
            coming = sum(
                each.status is InstanceStatus.BOOTING
                and seen.now - self.asked.get(each.name, seen.now) < credited
                for each in there
            )
            idle = sum(each.status is InstanceStatus.IDLE for each in there)
            wanted = min(waiting[shape] - coming - idle, self.step)
            grown = grow(seen, shape, wanted)
            for decision in grown:
                self.asked.update(dict.fromkeys(decision.grow, seen.now))
            decisions += grown
            if not waiting[shape]:
                decisions += retire(seen, there, self.idle_s, len(there))
        return decisions


@dataclass
class TargetValue:
    """A target value on the length of the queue, as nomad-autoscaler does: every `tick_s`, then `cooldown_s` of rest.

    The metric is tasks (waiting or running) for each instance and its target 1, so the size wanted is the number of
    tasks. Source: developer.hashicorp.com/nomad/docs/autoscaling, 2026-11: evaluation interval 10 s, cooldown 5 min.
    """

    tick_s: float = 10
    cooldown_s: float = 300
    is_event_driven: bool = False
    standing: int = 0
    rests_until: dict[Shape, datetime] = field(default_factory=dict)

    def decide(self, seen: Seen) -> Sequence[Decision]:
        waiting, by_shape = seen.waiting(), seen.by_shape()
        decisions: list[Decision] = []
        for shape in sorted({*waiting, *by_shape}):
            if shape in self.rests_until and seen.now < self.rests_until[shape]:
                continue
            there = by_shape.get(shape, [])
            running = sum(each.status is InstanceStatus.BUSY for each in there)
            wanted = waiting[shape] + running
            if wanted > len(there):
                acted = grow(seen, shape, wanted - len(there))
            else:
                acted = retire(seen, there, 0, len(there) - wanted)
            if acted:
                self.rests_until[shape] = seen.now + timedelta(seconds=self.cooldown_s)
            decisions += acted
        return decisions


@dataclass
class ClusterAutoscaler:
    """One node for each pod that finds none, removed after ten minutes without work, ten empty ones at a time.

    Source: github.com/kubernetes/autoscaler, cluster-autoscaler/FAQ.md, 2026-11: scan interval 10 s, unneeded time and
    delay after an addition 10 min, max-empty-bulk-delete 10.
    """

    tick_s: float = 10
    idle_s: float = 600
    bulk: int = 10
    is_event_driven: bool = False
    standing: int = 0
    grown_at: datetime | None = None

    def decide(self, seen: Seen) -> Sequence[Decision]:
        waiting, by_shape = seen.waiting(), seen.by_shape()
        decisions: list[Decision] = []
        for shape in sorted({*waiting, *by_shape}):
            there = by_shape.get(shape, [])
            upcoming = sum(
                each.status in (InstanceStatus.BOOTING, InstanceStatus.IDLE) for each in there
            )
            decisions += grow(seen, shape, waiting[shape] - upcoming)
        if decisions:
            self.grown_at = seen.now
        rested = self.grown_at is None or seen.now - self.grown_at >= timedelta(seconds=self.idle_s)
        if rested:
            decisions += retire(seen, seen.instances, self.idle_s, self.bulk)
        return decisions


@dataclass
class FixedFarm:
    """So many instances of each shape, always."""

    standing: int
    tick_s: float = inf
    is_event_driven: bool = False

    def decide(self, seen: Seen) -> Sequence[Decision]:
        return ()


def grow(seen: Seen, shape: Shape, count: int) -> list[Decision]:
    """Start so many, evenly over the zones, within what the orchestrator may have."""
    left = seen.orchestrator.max_instances - len(seen.instances)
    zones = {zone: (0, ceil(count)) for zone in seen.orchestrator.enabled_zones}
    return [
        Decision(
            pool=PoolKey(zone, *shape),
            grow=tuple(seen.new_name() for _ in range(added)),
            reason=f"{count} missing",
        )
        for zone, added in fill(zones, max(min(count, left), 0)).items()
    ]


def retire(seen: Seen, there: Sequence[Instance], idle_s: float, most: int) -> list[Decision]:
    """Delete the instances that have been idle for so long, the longest first."""
    long_ago = seen.now - timedelta(seconds=idle_s)
    due = [
        (each.idle_since, each.name, each.pool)
        for each in there
        if each.status is InstanceStatus.IDLE
        and each.idle_since is not None
        and each.idle_since <= long_ago
    ]
    by_pool: defaultdict[PoolKey, list[str]] = defaultdict(list)
    for _, name, pool in sorted(due)[: max(most, 0)]:
        by_pool[pool].append(name)
    return [
        Decision(pool=pool, retire=tuple(names), reason=f"{len(names)} idle")
        for pool, names in sorted(by_pool.items())
    ]
