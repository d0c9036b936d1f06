"""`baton pool`: what each pool is like, and why."""

from typing import Any

import click

from shared import wiring
from shared.core.replay import counts
from shared.models.farm import Breaker, BreakerState, Decision, InstanceStatus, PoolState
from shared.services import orchestrators
from tools.baton.answers import Answer, answers
from tools.baton.orchestrators import ask_for_ticks

S = InstanceStatus
_POSITIONS = {True: "on", False: "off", None: "auto"}

orchestrator_option = click.option(
    "--orchestrator", "orchestrator_id", default="", help="Only this orchestrator."
)


@click.group()
def pool() -> None:
    """The instances of one zone, instance type and price class."""


@pool.command("list")
@orchestrator_option
@answers
def list_pools(orchestrator_id: str) -> Answer:
    """List pools as the last tick saw them, each with the last decision for it and the reason."""
    found = orchestrators.pools(orchestrator_id, wiring.orchestrator_store())
    return {"pools": [listed(each) for each in found]}


@pool.command("show")
@click.argument("pool")
@orchestrator_option
@answers
def show_pool(pool: str, orchestrator_id: str) -> Answer:
    """Show POOL (ZONE:INSTANCE_TYPE:p, or :s for standard machines)."""
    return listed(orchestrators.find_pool(pool, orchestrator_id, wiring.orchestrator_store()))


@pool.command("switch")
@click.argument("pool")
@click.argument("position", type=click.Choice(["on", "off", "auto"]))
@orchestrator_option
@answers
def switch_pool(pool: str, position: str, orchestrator_id: str) -> Answer:
    """Switch POOL on whatever its breaker says, off so that nothing starts there, or leave it to its breaker."""
    is_on = next(value for value, name in _POSITIONS.items() if name == position)
    changed = orchestrators.switch_pool(pool, is_on, orchestrator_id, wiring.orchestrator_store())
    ask_for_ticks([changed])
    return {
        "orchestrator_id": changed.orchestrator_id,
        "pool_switches": dict(changed.pool_switches),
    }


def listed(found: PoolState) -> dict[str, Any]:
    """Return a pool as a list shows it."""
    sizes = {status: found.counts.get(status, 0) for status in S}
    return {
        "orchestrator_id": found.orchestrator_id,
        "pool": found.pool.pool_id,
        "size": sum(sizes.values()),
        "switch": _POSITIONS[found.switch],
        **_breaker(found.breaker),
        "waiting_for": found.waiting_for,
        "waiting_note": found.waiting_note,
        **{status.value: count for status, count in sizes.items()},
        "seen_at": found.seen_at,
        "decided_at": found.last.at if found.last else None,
        "decision": does(found.last.decision) if found.last else "",
        "reason": found.last.decision.reason if found.last else "",
    }


def _breaker(found: Breaker | None) -> dict[str, Any]:
    state = found.state(wiring.now()) if found else BreakerState.CLOSED
    if found is None or state is BreakerState.CLOSED:
        return {"breaker": state.value, "breaker_cause": None, "breaker_until_at": None}
    return {"breaker": state.value, "breaker_cause": found.cause, "breaker_until_at": found.until}


def does(decision: Decision | None) -> str:
    """Return what a decision does, in words."""
    counted = counts(decision).items()
    return ", ".join(f"{name} {count}" for name, count in counted if count) or "nothing"
