"""Where attempts run: orchestrators, their pools and instances."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class PoolKey(NamedTuple):
    """The machines of one shape and price class in one zone."""

    zone: str
    instance_type: str
    is_preemptible: bool


class Shape(NamedTuple):
    """What an attempt asks for; any zone will do."""

    instance_type: str
    is_preemptible: bool


@dataclass(frozen=True, kw_only=True)
class StockOut:
    """A zone that had no such machine: no growth there until `until`."""

    pool: PoolKey
    until: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Orchestrator:
    """One place that runs attempts: a scheduler with a fleet, in one region.

    Shapes: `zones` maps each zone to whether an operator has it switched on. `scheduler_address` is the base URL of the
    scheduler's API; `project` the provider's project of the fleet.
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
    idle_s: int = 60
    max_instances: int = 1000
    max_grow_per_tick: int = 100
    stock_outs: tuple[StockOut, ...] = field(default=())

    @property
    def enabled_zones(self) -> list[str]:
        """The zones that may take new work, in order of name."""
        return sorted(zone for zone, enabled in self.zones.items() if enabled and self.is_enabled)


class InstanceStatus(StrEnum):
    """What a machine does, as fleet and scheduler together see it."""

    BOOTING = "booting"  # asked for, not registered with the scheduler
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"  # takes no new attempt
    RETIRING = "retiring"  # being deleted
    DEAD = "dead"  # registered once, silent now


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One machine; its name is never used again."""

    name: str
    pool: PoolKey
    status: InstanceStatus
    created_at: datetime
    idle_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FleetInstance:
    """A machine as the provider lists it."""

    name: str
    pool: PoolKey
    is_retiring: bool
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine as the scheduler lists it; `name` is the instance's."""

    name: str
    node_id: str
    pool: PoolKey
    is_up: bool
    is_eligible: bool
    attempt_ids: tuple[str, ...]


class Stage(StrEnum):
    """Where the scheduler has an attempt."""

    WAITING = "waiting"  # no machine for it yet
    STARTED = "started"
    ENDED = "ended"  # its process is gone, whatever it reported
    LOST = "lost"  # its machine is gone


@dataclass(frozen=True, kw_only=True)
class Placement:
    """An attempt as the scheduler sees it."""

    attempt_id: str
    shape: Shape
    stage: Stage
    instance: str = ""
    submitted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FleetProblem:
    """Something the provider could not do for a pool lately, e.g. a stock-out."""

    pool: PoolKey
    code: str
    message: str
    at: datetime


class ProblemCode(StrEnum):
    """The provider's troubles, in our words."""

    STOCK_OUT = "stock_out"
    QUOTA = "quota"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one tick wants for one pool, and why."""

    pool: PoolKey
    grow: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    reason: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
