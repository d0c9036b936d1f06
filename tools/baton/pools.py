"""`baton pool` and `baton autoscale`: what each pool is like, and why."""

from typing import Any

import click

from shared import wiring
from shared.models.farm import InstanceStatus, KeptDecision, PoolState
from shared.services import orchestrators
from tools.baton.answers import Answer, answers

S = InstanceStatus

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
    return {"pools": [_listed(each) for each in found]}


@pool.command("show")
@click.argument("pool")
@orchestrator_option
@answers
def show_pool(pool: str, orchestrator_id: str) -> Answer:
    """Show POOL (ZONE:INSTANCE_TYPE:p, or :s for standard machines)."""
    return _listed(orchestrators.find_pool(pool, orchestrator_id, wiring.orchestrator_store()))


@click.group()
def autoscale() -> None:
    """How pools grow and shrink."""


@autoscale.command("explain")
@click.argument("pool")
@orchestrator_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="So many decisions.",
)
@answers
def explain_pool(pool: str, orchestrator_id: str, limit: int) -> Answer:
    """Show what was decided for POOL lately, from which facts and why; decisions are kept for 14 days."""
    store = wiring.orchestrator_store()
    found = orchestrators.find_pool(pool, orchestrator_id, store)
    decided = orchestrators.explain_pool(found, limit, store)
    return _listed(found) | {"decisions": [_decision(each) for each in decided]}


def _listed(found: PoolState) -> dict[str, Any]:
    counts = {status: found.counts.get(status, 0) for status in S}
    return {
        "orchestrator_id": found.orchestrator_id,
        "pool": found.pool.pool_id,
        "size": sum(counts.values()),
        **{status.value: count for status, count in counts.items()},
        "seen_at": found.seen_at,
        "decided_at": found.last.at if found.last else None,
        "decision": _does(found.last) if found.last else "",
        "reason": found.last.decision.reason if found.last else "",
    }


def _decision(kept: KeptDecision) -> dict[str, Any]:
    said = kept.decision
    return {
        "at": kept.at,
        "does": _does(kept),
        "reason": said.reason,
        "grow_count": len(said.grow),
        "drain_count": len(said.drain),
        "retire_count": len(said.retire),
        "resume_count": len(said.resume),
        "facts": dict(said.facts),
    }


def _does(kept: KeptDecision) -> str:
    """Return what a decision does, in words."""
    names = ("grow", "drain", "retire", "resume")
    counts = ((name, len(getattr(kept.decision, name))) for name in names)
    return ", ".join(f"{name} {count}" for name, count in counts if count) or "nothing"
