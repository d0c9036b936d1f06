"""Which orchestrator runs a job: one that can, and of those the cheapest, nearest to its data, with the most stock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.core.breaker import standing
from shared.models.account import Provider
from shared.models.farm import Breaker, BreakerState, Orchestrator, PoolKey, ProblemCode, Shape
from shared.models.job import Job
from shared.models.task import WaitingFor

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What counts for how much. Units: all terms of the score are micro-dollars, and the lowest score wins.

    A job is weighed as if it ran `expected_minutes`; data that is not there yet costs its transfer; a region in which
    every other zone fails costs half of `stock_micros`.
    """

    expected_minutes: int = 60
    transfer_micros_per_gib: int = 20_000
    stock_micros: int = 500_000


WEIGHTS = Weights()

_TROUBLES: Mapping[str, str] = {
    ProblemCode.STOCK_OUT: "has none left",
    ProblemCode.QUOTA: "is over its quota",
    ProblemCode.DEAD_BOOTS: "starts machines that never join",
    ProblemCode.FAILING_STARTS: "fails to start them",
    ProblemCode.PREEMPTIONS: "takes them back",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Where a job runs, or what it waits for. `scores` holds the terms of each candidate's score, by the `weights`."""

    orchestrator_id: str | None
    waiting_for: WaitingFor | None = None
    note: str = ""
    scores: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    weights: Weights = WEIGHTS


def choose(
    orchestrators: Sequence[Orchestrator],
    shape: Shape,
    *,
    provider: Provider = Provider.GCP,
    operating_system: str = "linux",
    holds_data: Mapping[str, int],
    data_bytes: int,
    prices: Mapping[PoolKey, int],
    now: datetime,
    weights: Weights = WEIGHTS,
) -> Choice:
    """Return the orchestrator for a job of this shape, which is of `provider` and `operating_system`.

    Shapes: `holds_data` maps an orchestrator's id to how many of the job's `data_bytes` its region has already;
    `prices` are micro-dollars a minute, a pool without one counts as free.
    """
    offering = [
        each
        for each in orchestrators
        if each.provider is provider
        and each.operating_system == operating_system
        and each.offers(shape.instance_type)
    ]
    if not offering:
        note = f"no orchestrator offers {shape.instance_type}"
        return Choice(orchestrator_id=None, waiting_for=WaitingFor.ZONE_OFF, note=note)
    zones = {each.orchestrator_id: _zones(each, shape) for each in offering}
    if not any(zones.values()):
        note = f"every zone that offers {shape.instance_type} is switched off"
        return Choice(orchestrator_id=None, waiting_for=WaitingFor.ZONE_OFF, note=note)
    scores, troubles = {}, dict[str, Breaker]()
    for each in offering:
        enabled = zones[each.orchestrator_id]
        failing = standing(each, shape, now)
        usable = [zone for zone in enabled if not _is_open(failing.get(zone), now)]
        if not usable:
            troubles.update({zone: failing[zone] for zone in enabled})
            continue
        price = min(prices.get(PoolKey(zone, *shape), 0) for zone in usable)
        missing_bytes = max(data_bytes - holds_data.get(each.orchestrator_id, 0), 0)
        failing_share = sum(zone in failing for zone in enabled) / len(enabled)
        scores[each.orchestrator_id] = {
            "price": price * weights.expected_minutes,
            "data": missing_bytes * weights.transfer_micros_per_gib // GIB,
            "stock": round(weights.stock_micros * failing_share),
        }
    if not scores:
        reason, note = why_none(troubles)
        return Choice(orchestrator_id=None, waiting_for=reason, note=note)
    best = min(scores, key=lambda id_: (sum(scores[id_].values()), id_))
    return Choice(orchestrator_id=best, scores=scores, weights=weights)


def home_for(
    job: Job, orchestrators: Sequence[Orchestrator], *, store_region: str, now: datetime
) -> Choice:
    """Return the orchestrator for a job, whose inputs are in `store_region`, as near to all when that is not known."""
    shape = Shape(job.instance_type, job.is_preemptible)
    return choose(
        orchestrators,
        shape,
        provider=job.provider,
        operating_system=job.operating_system,
        holds_data={
            each.orchestrator_id: job.input_bytes
            for each in orchestrators
            if store_region in ("", each.region)
        },
        data_bytes=job.input_bytes,
        prices={
            PoolKey(zone, *shape): job.price_micros_per_minute * each.price_percent(zone) // 100
            for each in orchestrators
            for zone in each.zones
        },
        now=now,
    )


def why_none(failing: Mapping[str, Breaker]) -> tuple[WaitingFor, str]:
    """Return what is waited for where no zone that is on can have machines: all their breakers are open."""
    causes = {each.cause for each in failing.values()}
    if causes == {ProblemCode.QUOTA}:
        said = "the provider's quota is used up in every zone"
        return WaitingFor.QUOTA, f"{said}; {_tried_again(failing)}"
    if causes == {ProblemCode.STOCK_OUT}:
        said = "no zone has such a machine left for now"
        return WaitingFor.STOCK_OUT, f"{said}; {_tried_again(failing)}"
    return why_failing(failing)


def why_failing(failing: Mapping[str, Breaker]) -> tuple[WaitingFor, str]:
    """Return what is waited for in zones whose breakers are open, zone by zone."""
    is_quota = all(each.cause == ProblemCode.QUOTA for each in failing.values())
    said = ", ".join(f"{zone} {_TROUBLES[failing[zone].cause]}" for zone in sorted(failing))
    code = WaitingFor.QUOTA if is_quota else WaitingFor.STOCK_OUT
    return code, f"{said}; {_tried_again(failing)}"


def _tried_again(failing: Mapping[str, Breaker]) -> str:
    first = min(each.until for each in failing.values())
    return f"tried again from {first:%H:%M:%S} UTC on"


def _zones(orchestrator: Orchestrator, shape: Shape) -> list[str]:
    """Return the zones that operators let have machines of a shape."""
    zones = orchestrator.enabled_zones
    return [zone for zone in zones if orchestrator.is_on(PoolKey(zone, *shape))]


def _is_open(breaker: Breaker | None, now: datetime) -> bool:
    return breaker is not None and breaker.state(now) is BreakerState.OPEN
