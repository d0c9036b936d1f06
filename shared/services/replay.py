"""Replay: a day's kept ticks through another policy."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from shared.core.replay import Compared, compare, counts
from shared.errors import InvalidRequest, NotFound
from shared.models.farm import Orchestrator, PoolKey
from shared.ports import Blobs
from shared.schemas.catalog import OrchestratorSchema
from shared.schemas.loading import load
from shared.services.kept_ticks import kept_ticks
from shared.services.orchestrators import described

# What an orchestrator is; nothing of it is decided upon.
NO_POLICY = (
    "orchestrator_id",
    "scheduler",
    "scheduler_address",
    "fleet",
    "project",
    "region",
    "provider",
)


@dataclass
class Sums:
    """What the ticks of a pool come to: how many were started, drained... and, summed over ticks, were wished for."""

    tick_count: int = 0
    then: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)

    def add(self, compared: Compared) -> None:
        """Take one tick in."""
        self.tick_count += 1
        self.then.update(counts(compared.then), wished=compared.wished_then)
        self.now.update(counts(compared.now), wished=compared.wished_now)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A tick in which the policies differ about a pool."""

    at: datetime
    orchestrator_id: str
    compared: Compared


@dataclass
class Replay:
    """What both policies decided. Shapes: `ticks` by orchestrator, `pools` by orchestrator and pool."""

    ticks: Counter[str] = field(default_factory=Counter)
    pools: defaultdict[tuple[str, PoolKey], Sums] = field(default_factory=lambda: defaultdict(Sums))
    differences: list[Difference] = field(default_factory=list)


def replay(day: date, fields: Mapping[str, Any], orchestrator_id: str, blobs: Blobs) -> Replay:
    """Plan a UTC day's kept ticks again, each by itself, with some fields of their orchestrators replaced.

    `fields` are as an orchestrator's file names them; all orchestrators are replayed when none is named. Raises:
    InvalidRequest for a field that is wrong or no policy; NotFound when nothing of that day is kept; Conflict.
    """
    result = Replay()
    for tick in kept_ticks(day, orchestrator_id, blobs):
        orchestrator = with_policy(tick.inputs.orchestrator, fields)
        owner = orchestrator.orchestrator_id
        result.ticks[owner] += 1
        for each in compare(tick, orchestrator):
            result.pools[owner, each.pool].add(each)
            if each.differs:
                found = Difference(at=tick.inputs.now, orchestrator_id=owner, compared=each)
                result.differences.append(found)
    if not result.ticks:
        whose = f" of orchestrator {orchestrator_id}" if orchestrator_id else ""
        raise NotFound(f"no tick of {day}{whose} is kept")
    return result


def with_policy(orchestrator: Orchestrator, fields: Mapping[str, Any]) -> Orchestrator:
    """Return the orchestrator with these fields of its file; the rest, what it has learnt too, stays.

    Raises: InvalidRequest.
    """
    if wrong := [name for name in fields if name in NO_POLICY]:
        raise InvalidRequest(dict.fromkeys(wrong, "is no part of a policy"))
    asked = load(OrchestratorSchema(), described(orchestrator) | dict(fields))
    return replace(orchestrator, **{name: getattr(asked, name) for name in fields})
