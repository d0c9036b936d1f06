"""One tick of the autoscaler for one orchestrator, and what follows from what it saw."""

import secrets
from typing import Any

from shared import wiring
from shared.errors import BatonError
from shared.log import log
from shared.models.farm import Orchestrator
from shared.services.autoscale import tick
from shared.services.explain import explain
from shared.services.reconcile import reconcile


def scale(orchestrator: Orchestrator) -> dict[str, Any]:
    """Run a tick, and settle and explain by what it saw."""
    scheduler = wiring.scheduler(orchestrator)
    report = tick(
        orchestrator.orchestrator_id,
        orchestrators=wiring.orchestrator_store(),
        scheduler=scheduler,
        fleet=wiring.fleet(orchestrator),
        clock=wiring.now,
        new_token=lambda: secrets.token_hex(4),
    )
    if report is None:
        return {"is_busy": True}
    lost_count = 0
    if report.observation is not None:
        placements = report.observation.placements
        explain(placements, report.reasons, wiring.job_store())
        lost_count = reconcile(placements, scheduler, wiring.ports())
    return {
        "grow_count": sum(len(each.grow) for each in report.decisions),
        "retire_count": sum(len(each.retire) for each in report.decisions),
        "lost_count": lost_count,
        "errors": list(report.errors),
    }


def scale_alone(orchestrator: Orchestrator) -> dict[str, Any]:
    """Run a tick whose trouble is not that of the other orchestrators."""
    try:
        return scale(orchestrator)
    except BatonError as error:
        name, reason = orchestrator.orchestrator_id, str(error)
        log("ERROR", "orchestrator not scaled", orchestrator_id=name, reason=reason)
        return {"errors": [reason]}
