"""One tick of the autoscaler for one orchestrator, and what follows from what it saw."""

import secrets
from collections.abc import Collection
from typing import Any

from shared import wiring
from shared.core.admission import awaited_count, is_admissible
from shared.core.blocking import Awaited
from shared.core.replay import PlannedTick
from shared.log import log, reason_of
from shared.models.farm import Orchestrator
from shared.models.job import JobRef
from shared.services.autoscale import TickReport, tick
from shared.services.explain import explain
from shared.services.kept_ticks import keep_tick
from shared.services.reconcile import reconcile
from shared.services.trust import trust_agents


def scale(orchestrator: Orchestrator) -> dict[str, Any]:
    """Run a tick, settle and explain by what each round saw; at last, keep what the rounds were planned from."""
    scheduler = wiring.scheduler(orchestrator)
    lost_counts: list[int] = []
    planned: list[PlannedTick] = []

    def follow_up(report: TickReport) -> None:
        if report.planned is not None:
            planned.append(report.planned)
        if report.observation is not None:
            placements = report.observation.placements
            lost_counts.append(reconcile(placements, scheduler, wiring.ports()))
            explain(placements, report.reasons, wiring.job_store(), wiring.now())

    def ask_again() -> None:
        wiring.bus().publish("scale", [{"orchestrator_id": orchestrator.orchestrator_id}])

    def pending(jobs: Collection[JobRef]) -> dict[JobRef, Awaited]:
        found = wiring.job_store().jobs(jobs)
        return {
            job.ref: Awaited(awaited_count(job), job.blocked_instances)
            for job in found
            if is_admissible(job)
        }

    try:
        report = tick(
            orchestrator.orchestrator_id,
            orchestrators=wiring.orchestrator_store(),
            scheduler=scheduler,
            fleet=wiring.fleet(orchestrator),
            clock=wiring.now,
            new_token=lambda: secrets.token_hex(4),
            follow_up=follow_up,
            ask_again=ask_again,
            pending=pending,
            trust=lambda seen: trust_agents(seen, wiring.job_store()),
        )
    finally:  # once the lease is given back: storage may hang
        for each in planned:
            keep_tick(each, wiring.blobs())
    if report is None:
        return {"is_busy": True}
    return {
        "grow_count": sum(len(each.grow) for each in report.decisions),
        "retire_count": sum(len(each.retire) for each in report.decisions),
        "lost_count": sum(lost_counts),
        "errors": list(report.errors),
    }


def scale_alone(orchestrator: Orchestrator) -> dict[str, Any]:
    """Run a tick whose trouble is not that of the other orchestrators."""
    try:
        return scale(orchestrator)
    except Exception as error:  # noqa: BLE001  logged, and tried again by the next tick
        return {"errors": [log_failure("orchestrator not scaled", orchestrator, error)]}


def log_failure(event: str, orchestrator: Orchestrator, error: Exception) -> str:
    """Log what went wrong at one orchestrator; returns the reason."""
    reason = reason_of(error)
    log("ERROR", event, orchestrator_id=orchestrator.orchestrator_id, reason=reason)
    return reason
