"""The function `autoscale`: a tick per orchestrator (schedule, and Pub/Sub when something starts to wait), and the sweep."""

import secrets
from typing import Any

import functions_framework
from flask import Request, Response

from shared import wiring
from shared.errors import BatonError, CloudError, InvalidRequest
from shared.http import Reply, Routes, answer_push, check_schedule
from shared.log import log
from shared.models.farm import Orchestrator, Placement
from shared.services.autoscale import tick
from shared.services.explain import explain
from shared.services.reconcile import reconcile
from shared.services.sweep import sweep


def _scale(orchestrator: Orchestrator) -> dict[str, Any]:
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


def _tick(request: Request) -> Reply:
    """The scheduler only: every orchestrator, or the one that the query names."""
    check_schedule(request, wiring.push_token())
    store = wiring.orchestrator_store()
    wanted = request.args.get("orchestrator_id")
    found = [store.orchestrator(wanted)] if wanted else store.orchestrators()
    return {each.orchestrator_id: _scale_alone(each) for each in found}


def _scale_alone(orchestrator: Orchestrator) -> dict[str, Any]:
    """Run a tick whose trouble is not that of the other orchestrators."""
    try:
        return _scale(orchestrator)
    except BatonError as error:
        name, reason = orchestrator.orchestrator_id, str(error)
        log("ERROR", "orchestrator not scaled", orchestrator_id=name, reason=reason)
        return {"errors": [reason]}


def _asked(message: dict[str, Any]) -> None:
    """Something began to wait for an orchestrator, or nothing waits there any more."""
    orchestrator_id = message.get("orchestrator_id")
    if not isinstance(orchestrator_id, str):
        raise InvalidRequest({"message": "must name orchestrator_id"})
    _scale(wiring.orchestrator_store().orchestrator(orchestrator_id))


def _pushed(request: Request, **_: str) -> Reply:
    """Pub/Sub only: the push endpoint carries the shared token."""
    return answer_push(request, {"scale": _asked}, wiring.push_token())


def _sweep(request: Request) -> Reply:
    """The scheduler only: find and finish what was interrupted."""
    check_schedule(request, wiring.push_token())
    placements: dict[str, list[Placement]] = {}
    for each in wiring.orchestrator_store().orchestrators():
        try:
            placements[each.orchestrator_id] = wiring.scheduler(each).placements()
        except CloudError as error:
            reason, name = str(error), each.orchestrator_id
            log("ERROR", "orchestrator not swept", orchestrator_id=name, reason=reason)
    return {"job_count": sweep(placements, wiring.ports())}


ROUTES = Routes(
    [
        ("POST", "/projects/<project>/topics/<topic>", _pushed),
        ("POST", "/tick", _tick),
        ("POST", "/sweep", _sweep),
        ("GET", "/healthz", wiring.healthz),
    ]
)


@functions_framework.http
def autoscale(request: Request) -> Response:
    """Answer Pub/Sub and the scheduler."""
    return ROUTES.answer(request)
