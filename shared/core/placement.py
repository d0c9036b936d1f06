"""Which orchestrator runs a job: one that can, and of those the cheapest, nearest to its data, with the most stock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.models.farm import Orchestrator, PoolKey, ProblemCode, Shape
from shared.models.task import WaitingFor

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What counts for how much. Units: all terms of the score are micro-dollars, and the lowest score wins.

    A job is weighed as if it ran `expected_minutes`; data that is not there yet costs its transfer; a region in which
    every other zone is out of stock costs half of `stock_micros`.
    """

    expected_minutes: int = 60
    transfer_micros_per_gib: int = 20_000
    stock_micros: int = 500_000


WEIGHTS = Weights()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Where a job runs, or what it waits for. `scores` holds the terms of each candidate's score."""

    orchestrator_id: str | None
    waiting_for: WaitingFor | None = None
    note: str = ""
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def paused_zones(orchestrator: Orchestrator, shape: Shape, now: datetime) -> dict[str, ProblemCode]:
    """Return the zones where machines of this shape cannot be had for now, and why."""
    return {
        each.pool.zone: ProblemCode(each.reason)
        for each in orchestrator.stock_outs
        if each.until > now and each.reason != ProblemCode.UNUSED and Shape(*each.pool[1:]) == shape
    }


def choose(
    orchestrators: Sequence[Orchestrator],
    shape: Shape,
    *,
    holds_data: Mapping[str, int],
    data_bytes: int,
    prices: Mapping[PoolKey, int],
    now: datetime,
    weights: Weights = WEIGHTS,
) -> Choice:
    """Return the orchestrator for a job of this shape.

    Shapes: `holds_data` maps an orchestrator's id to how many of the job's `data_bytes` its region has already;
    `prices` are micro-dollars a minute, a pool without one counts as free.
    """
    offering = [each for each in orchestrators if each.offers(shape.instance_type)]
    if not offering:
        note = f"no orchestrator offers {shape.instance_type}"
        return Choice(orchestrator_id=None, waiting_for=WaitingFor.ZONE_OFF, note=note)
    enabled = [each for each in offering if each.enabled_zones]
    if not enabled:
        note = f"every zone that offers {shape.instance_type} is switched off"
        return Choice(orchestrator_id=None, waiting_for=WaitingFor.ZONE_OFF, note=note)
    scores, troubles = {}, set[ProblemCode]()
    for each in enabled:
        paused = paused_zones(each, shape, now)
        usable = [zone for zone in each.enabled_zones if zone not in paused]
        if not usable:
            troubles.update(paused[zone] for zone in each.enabled_zones)
            continue
        price = min(prices.get(PoolKey(zone, *shape), 0) for zone in usable)
        missing_bytes = max(data_bytes - holds_data.get(each.orchestrator_id, 0), 0)
        paused_share = 1 - len(usable) / len(each.enabled_zones)
        scores[each.orchestrator_id] = {
            "price": price * weights.expected_minutes,
            "data": missing_bytes * weights.transfer_micros_per_gib // GIB,
            "stock": round(weights.stock_micros * paused_share),
        }
    if not scores:
        return Choice(orchestrator_id=None, waiting_for=_reason(troubles), note=_note(troubles))
    best = min(scores, key=lambda id_: (sum(scores[id_].values()), id_))
    return Choice(orchestrator_id=best, scores=scores)


def _reason(troubles: set[ProblemCode]) -> WaitingFor:
    return WaitingFor.QUOTA if troubles == {ProblemCode.QUOTA} else WaitingFor.STOCK_OUT


def _note(troubles: set[ProblemCode]) -> str:
    if troubles == {ProblemCode.QUOTA}:
        return "the provider's quota is used up in every zone"
    return "no zone has such a machine left for now"
