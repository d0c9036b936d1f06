"""`baton autoscale`: what was decided for pools, why, and what another policy would have decided."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from shared import wiring
from shared.core.replay import counts
from shared.models.farm import KeptDecision
from shared.services import orchestrators
from shared.services.replay import Difference, Sums, replay
from tools.baton.answers import Answer, answers
from tools.baton.orchestrators import read_fields
from tools.baton.pools import does, listed, orchestrator_option


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
    """Show what was decided for POOL lately, from which facts, why, and how long it took; kept for 14 days."""
    store = wiring.orchestrator_store()
    found = orchestrators.find_pool(pool, orchestrator_id, store)
    decided = orchestrators.explain_pool(found, limit, store)
    return listed(found) | {"decisions": [_decision(each) for each in decided]}


@autoscale.command("replay")
@click.argument("day", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]))
@click.option(
    "--policy",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file with the fields of an orchestrator to replace; {} replaces none.",
)
@orchestrator_option
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="So many ticks in which the policies differ; --json tells all.",
)
@answers
def replay_day(day: datetime, file: Path, orchestrator_id: str, limit: int) -> Answer:
    """Plan the ticks of a UTC DAY, one of the last 14, again through another policy.

    Each tick is planned by itself, from what was really seen then: what the other policy decides in one changes nothing
    for the next, and the same wish may count in many. This tells where two policies differ. What a policy comes to in
    the long run, the simulator tells.

    Started, drained and retired is what was planned, then and now: what the provider refused then counts as well.

    Wished is how many instances there would be once a tick is carried out, on average over the ticks that saw anything.
    """
    found = replay(day.date(), read_fields(file), orchestrator_id, wiring.blobs())
    differences = found.differences
    if not click.get_current_context().params["as_json"]:
        differences = differences[:limit]
    pools: list[dict[str, Any]] = [
        {"orchestrator_id": owner, "pool": pool.pool_id, "tick_count": sums.tick_count}
        | _sums(sums, found.ticks[owner])
        for (owner, pool), sums in sorted(found.pools.items())
    ]
    totals = {name: round(sum(each[name] for each in pools), 1) for name in _SUMMED}
    return {
        "day": day.date().isoformat(),
        "tick_count": found.ticks.total(),
        **totals,
        "pools": pools,
        "difference_count": len(found.differences),
        "differences": [_difference(each) for each in differences],
    }


_COUNTED = {"started": "grow", "drained": "drain", "retired": "retire"}
_SUMMED = [f"{name}_{when}" for name in (*_COUNTED, "wished") for when in ("then", "now")]


def _sums(sums: Sums, tick_count: int) -> dict[str, Any]:
    """Return what was planned then and now, side by side."""
    result: dict[str, Any] = {}
    for name, each in _COUNTED.items():
        result |= {f"{name}_then": sums.then[each], f"{name}_now": sums.now[each]}
    return result | {
        "wished_then": round(sums.then["wished"] / tick_count, 1),
        "wished_now": round(sums.now["wished"] / tick_count, 1),
    }


def _difference(found: Difference) -> dict[str, Any]:
    then, now = found.compared.then, found.compared.now
    return {
        "at": found.at,
        "orchestrator_id": found.orchestrator_id,
        "pool": found.compared.pool.pool_id,
        "then": does(then),
        "now": does(now),
        "reason_then": then.reason if then else "",
        "reason_now": now.reason if now else "",
    }


def _decision(kept: KeptDecision) -> dict[str, Any]:
    said = kept.decision
    return {
        "at": kept.at,
        "does": does(said),
        "reason": said.reason,
        "plan_ms": kept.took.plan_ms if kept.took else None,
        "tick_s": kept.took.tick_s if kept.took else None,
        **{f"{name}_count": count for name, count in counts(said).items()},
        "facts": dict(said.facts),
    }
