"""Observe: ask an orchestrator's scheduler and its provider for all that they have."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from shared.core import census
from shared.errors import CloudError
from shared.log import log
from shared.models.farm import (
    FleetInstance,
    FleetProblem,
    Node,
    Orchestrator,
    Placement,
    PoolKey,
)
from shared.ports import Fleet, Scheduler

T = TypeVar("T")
Result = TypeVar("Result")

AT_ONCE = 8
# How far back a look for the provider's problems goes; the same one found twice counts once.
PROBLEMS_SINCE = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What scheduler and provider said.

    Shapes: `failed` are the pools that could not be listed, and why; `fleet_error` is why the provider said nothing.
    """

    at: datetime
    nodes: Sequence[Node]
    placements: Sequence[Placement]
    pools: Sequence[PoolKey] = ()
    listed: Sequence[FleetInstance] = ()
    problems: Sequence[FleetProblem] = ()
    failed: Mapping[PoolKey, str] = field(default_factory=dict)
    fleet_error: str = ""

    @property
    def unlisted_count(self) -> int:
        """How many machines the scheduler sees in zones where the provider could not list all."""
        listed = {each.name for each in self.listed}
        zones = {pool.zone for pool in self.failed}
        return sum(
            (node.is_up or node.is_joining) and node.zone in zones and node.name not in listed
            for node in self.nodes
        )

    @property
    def present(self) -> set[str]:
        """The machines that may be running: the provider says so, or cannot say and the scheduler still lists them."""
        gone = {each.name for each in self.listed if each.is_retiring or each.is_stopped}
        zones = {pool.zone for pool in self.failed}
        is_unknown = bool(self.fleet_error) or not self.pools
        return {
            *(each.name for each in self.listed),
            *(node.name for node in self.nodes if is_unknown or node.zone in zones),
        } - gone


def observe(
    orchestrator: Orchestrator, *, scheduler: Scheduler, fleet: Fleet, now: datetime
) -> Observation:
    """List everything. Raises: CloudError when the scheduler cannot be asked."""
    nodes = scheduler.nodes()  # before the placements, see Scheduler.placements
    placements = scheduler.placements()
    try:
        pools = fleet.pools()
    except CloudError as error:
        return Observation(at=now, nodes=nodes, placements=placements, fleet_error=str(error))
    listed: list[FleetInstance] = []
    problems: list[FleetProblem] = []
    failed: dict[PoolKey, str] = {}

    def look(pool: PoolKey) -> None:
        try:
            listed.extend(fleet.instances(pool))
            problems.extend(fleet.problems(pool, now - PROBLEMS_SINCE))
        except CloudError as error:
            failed[pool] = str(error)
            log_failure(orchestrator.orchestrator_id, pool, error)

    for_each(look, pools)
    undated = census.undated(listed, nodes, placements)
    joined_at = scheduler.joined_at(undated) if undated else {}
    return Observation(
        at=now,
        nodes=[
            replace(each, joined_at=joined_at[each.node_id]) if each.node_id in joined_at else each
            for each in nodes
        ],
        placements=placements,
        pools=pools,
        listed=[each for each in listed if each.pool not in failed],
        problems=problems,
        failed=failed,
    )


def for_each(do: Callable[[T], None], items: Sequence[T]) -> None:
    """Call `do` for every item, several at once. Raises: what it raised first."""
    if len(items) <= 1:
        for item in items:
            do(item)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(do, item) for item in items]:
            done.result()


def at_once(do: Callable[[T], Result], items: Sequence[T]) -> list[Result]:
    """Call `do` for all items at once, however many there are; returns what it returned for each."""
    if len(items) <= 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(do, items))


def log_failure(orchestrator_id: str, pool: PoolKey, error: CloudError) -> None:
    """Log what the provider could not do for a pool."""
    log(
        "WARNING",
        "pool not scaled",
        orchestrator_id=orchestrator_id,
        **pool._asdict(),
        code=type(error).__name__,
        reason=str(error)[:500],
    )
