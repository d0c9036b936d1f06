"""Where attempts run: orchestrators, their pools and instances."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from shared.models.account import Provider
from shared.models.task import Outcome, WaitingFor


class PoolKey(NamedTuple):
    """The machines of one shape and price class in one zone."""

    zone: str
    instance_type: str
    is_preemptible: bool

    @property
    def pool_id(self) -> str:
        """Its name: zone, instance type, and `p` for preemptible machines or `s` for standard ones."""
        return f"{self.zone}:{self.instance_type}:{'p' if self.is_preemptible else 's'}"

    @classmethod
    def parse(cls, pool_id: str) -> "PoolKey":
        """Read a pool's name back. Raises: ValueError when it is none."""
        zone, instance_type, price_class = pool_id.split(":")
        if not zone or not instance_type or price_class not in ("p", "s"):
            raise ValueError(f"{pool_id!r} is no pool")
        return cls(zone, instance_type, price_class == "p")


class Shape(NamedTuple):
    """What an attempt asks for; any zone will do."""

    instance_type: str
    is_preemptible: bool

    @property
    def name(self) -> str:
        """Its name in tokens."""
        return f"{self.instance_type}:{'p' if self.is_preemptible else 's'}"


class BreakerState(StrEnum):
    """Whether a pool may grow."""

    OPEN = "open"  # not at all
    HALF_OPEN = "half_open"  # by a machine at a time, to find out
    CLOSED = "closed"  # as much as it likes


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """A pool where something kept failing, or whose machines went unused: no growth there, or for whom, until `until`.

    Kept a while after it has closed, because `pause_s` doubles when it happens again. Shapes: `cause` is a ProblemCode;
    one of unused machines is never half open.
    """

    pool: PoolKey
    until: datetime
    cause: str
    pause_s: int = 60
    closed_at: datetime | None = None

    @property
    def opened_at(self) -> datetime:
        """When it opened last."""
        return self.until - timedelta(seconds=self.pause_s)

    @property
    def is_of_unused(self) -> bool:
        """Tell whether it says only that machines went unused: the pool itself may be well."""
        return self.cause == ProblemCode.UNUSED

    def state(self, now: datetime) -> BreakerState:
        """Return what it lets the pool do."""
        if now < self.until:
            return BreakerState.OPEN
        is_over = self.closed_at is not None or self.is_of_unused
        return BreakerState.CLOSED if is_over else BreakerState.HALF_OPEN


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A machine that failed, noticed `at` that time: too few of them yet to open the pool's breaker.

    Shapes: `cause` is a ProblemCode; `size` is how many machines that had joined the pool had then.
    """

    pool: PoolKey
    cause: str
    instance: str
    created_at: datetime
    at: datetime
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Orchestrator:
    """One place that runs attempts: a scheduler with a fleet, in one region.

    Shapes: `zones` maps each zone to whether an operator has it switched on. `scheduler_address` is the base URL of the
    scheduler's API; `project` the provider's project of the fleet. `tick_s` is how often a tick comes by itself;
    `max_per_pool` what the provider lets one group hold. `instance_types` empty means any. `max_per_type` maps an
    instance type to the provider's quota for the region, `min_sizes` a pool's id to how many stay though nothing waits.
    `spare_percent` more are started than wanted, because the slowest boots of many take twice the usual.
    `price_percents` maps a zone to what machines cost there, in percent of the catalogue's price, 100 unless said.
    Beside `zones` and `is_enabled`, operators switch the whole region, and single pools by their id: True lets a pool
    grow whatever its breaker says, False lets it not grow at all. `breakers` and `strikes` are what was learnt.
    `idle_s` and `max_grow_per_tick` are what the simulator found best: a machine kept for work that may come is paid
    for, one that is missing is booted within a minute; caps on growth only delay what waits (docs/simulator.md).
    `own_provider` says whose machines it has where scheduler and fleet do not tell; empty where they do.
    """

    orchestrator_id: str
    scheduler: str
    scheduler_address: str
    fleet: str
    project: str
    region: str
    zones: Mapping[str, bool]
    is_enabled: bool = True
    instance_types: tuple[str, ...] = ()
    boot_s: int = 60
    idle_s: int = 0
    max_instances: int = 1000
    max_per_pool: int = 1000
    max_grow_per_tick: int = 1000
    max_per_type: Mapping[str, int] = field(default_factory=dict)
    min_sizes: Mapping[str, int] = field(default_factory=dict)
    spare_percent: int = 10
    tick_s: int = 60
    price_percents: Mapping[str, int] = field(default_factory=dict)
    operating_system: str = "linux"
    own_provider: str = ""
    is_region_enabled: bool = True
    pool_switches: Mapping[str, bool] = field(default_factory=dict)
    breakers: tuple[Breaker, ...] = ()
    strikes: tuple[Strike, ...] = ()

    @property
    def enabled_zones(self) -> list[str]:
        """The zones that may take new work, in order of name."""
        is_on = self.is_enabled and self.is_region_enabled
        return sorted(zone for zone, enabled in self.zones.items() if enabled and is_on)

    @property
    def provider(self) -> Provider:
        """Whose machines it has."""
        if self.own_provider:
            return Provider(self.own_provider)
        is_aws = self.fleet == "ec2" or (self.is_managed and self.scheduler == "batch")
        return Provider.AWS if is_aws else Provider.GCP

    @property
    def is_managed(self) -> bool:
        """Tell whether its scheduler starts and ends machines by itself."""
        return self.fleet == "managed"

    def offers(self, instance_type: str) -> bool:
        """Tell whether it can start machines of this type at all."""
        return not self.instance_types or instance_type in self.instance_types

    def is_on(self, pool: PoolKey) -> bool:
        """Tell whether operators let a pool take new work."""
        is_zone_on = self.zones.get(pool.zone, False) and self.is_enabled and self.is_region_enabled
        if not is_zone_on or not self.pool_switches:
            return is_zone_on
        return self.pool_switches.get(pool.pool_id, True)

    def price_percent(self, zone: str) -> int:
        """Return what machines cost in a zone, in percent of the catalogue's price."""
        return self.price_percents.get(zone, 100)


class InstanceStatus(StrEnum):
    """What a machine does, as fleet and scheduler together see it."""

    BOOTING = "booting"  # asked for, not registered with the scheduler
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"  # takes no new attempt
    RETIRING = "retiring"  # being deleted
    DEAD = "dead"  # registered once, silent now


class ProblemCode(StrEnum):
    """The provider's troubles, in our words."""

    STOCK_OUT = "stock_out"
    QUOTA = "quota"
    UNUSED = "unused"  # it starts them, but the scheduler gives them nothing though something waits
    DEAD_BOOTS = "dead_boots"  # it starts them, but they do not join
    FAILING_STARTS = (
        "failing_starts"  # they are stopped, or cannot be started, before they have joined
    )
    PREEMPTIONS = "preemptions"  # it took many back at once
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One machine; its name is never used again.

    Shapes: `idle_since` is set while nothing runs on it, draining or not; `is_unused`: it has been idle for so long
    beside attempts of its shape that they cannot run on it, or it `is_blocked` for all of them; `free_in_s` is when its
    attempt is expected to end, None when nobody knows; `problem` is why the provider could not start it yet, or that it
    stopped it; the scheduler has seen one that `has_joined`, and gives a silent one that `may_return` work as soon as
    it hears of it again, one that boots as soon as it is ready.
    """

    name: str
    pool: PoolKey
    status: InstanceStatus
    created_at: datetime
    idle_since: datetime | None = None
    is_unused: bool = False
    is_blocked: bool = False
    free_in_s: float | None = None
    problem: ProblemCode | None = None
    has_joined: bool = False
    may_return: bool = False


@dataclass(frozen=True, kw_only=True)
class FleetInstance:
    """A machine as the provider lists it.

    `is_stopped`: it ran and does not any more; `problem`: why it could not be started yet.
    """

    name: str
    pool: PoolKey
    created_at: datetime
    is_retiring: bool = False
    is_stopped: bool = False
    problem: ProblemCode | None = None


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine as the scheduler lists it; `name` is the instance's.

    Shapes: one that `is_joining` has registered and cannot take anything yet, so it is not up; `joined_at` is since
    when it could, None where that is not known; it could not before `joined_after`, where that is.
    """

    name: str
    node_id: str
    zone: str
    is_up: bool
    is_eligible: bool
    is_joining: bool = False
    joined_at: datetime | None = None
    joined_after: datetime | None = None


def instance_name(now: datetime, token: str) -> str:
    """Return a name for an instance to be started now; `token` tells it from all others of that second.

    A name carries when it was given, because a provider lists no time for what it has not started yet.
    """
    return f"baton-{int(now.timestamp()):x}-{token}"


def named_at(name: str) -> datetime:
    """Return when `instance_name` gave this name. Raises: ValueError when it did not."""
    prefix, stamp, _ = name.split("-", 2)
    if prefix != "baton":
        raise ValueError(f"{name!r} is not the name of an instance of ours")
    return datetime.fromtimestamp(int(stamp, 16), UTC)


class Stage(StrEnum):
    """Where the scheduler has an attempt."""

    WAITING = "waiting"  # no machine for it yet
    STARTED = "started"
    ENDED = "ended"  # its process is gone, whatever it reported
    LOST = "lost"  # its machine is gone, or has fallen silent
    FORGOTTEN = (
        "forgotten"  # ended and struck off the books; only where and when it ran is still known
    )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """An attempt as the scheduler sees it; the times are the scheduler's, as far as it knows them.

    Shapes: `cause` is how it ended, where the scheduler knows what its agent may not have lived to say; one that is
    lost has no `ended_at` while nobody has seen it end: its machine is silent, and may come back. `avoided_zones`, by
    name, are those where it is started only if nothing is free elsewhere, empty where the scheduler does not tell.
    """

    attempt_id: str
    shape: Shape
    stage: Stage
    instance: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cause: Outcome | None = None
    avoided_zones: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Tell whether it waits or runs."""
        return self.stage in (Stage.WAITING, Stage.STARTED)


@dataclass(frozen=True, kw_only=True)
class FleetProblem:
    """Something the provider could not do for a pool lately, e.g. a stock-out."""

    pool: PoolKey
    code: ProblemCode
    message: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one tick wants for one pool, and why.

    Shapes: names of instances to start, to delete, to take out of use, and to put back into use.
    """

    pool: PoolKey
    grow: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    reason: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Took:
    """How long it took to plan for all pools of a tick, and from the first look at them until all was carried out."""

    plan_ms: float
    tick_s: float


@dataclass(frozen=True, kw_only=True)
class KeptDecision:
    """A decision as it is kept: whose, when, and how long its tick took, where that was noted."""

    orchestrator_id: str
    at: datetime
    decision: Decision
    took: Took | None = None


@dataclass(frozen=True, kw_only=True)
class PoolState:
    """A pool as a tick saw it last, and the last decision that was taken for it.

    Shapes: `counts` by status; both are empty, and `seen_at` None, before the first tick that saw it. `switch` is what
    an operator said of it, None when nobody did; `breaker` is known for a while after it has closed. `waiting_for` is
    why it does not serve what waits for such machines, None when nothing does.
    """

    orchestrator_id: str
    pool: PoolKey
    counts: Mapping[InstanceStatus, int] = field(default_factory=dict)
    seen_at: datetime | None = None
    last: KeptDecision | None = None
    switch: bool | None = None
    breaker: Breaker | None = None
    waiting_for: WaitingFor | None = None
    waiting_note: str = ""
