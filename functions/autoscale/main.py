"""The function `autoscale`: a tick per orchestrator (schedule, and Pub/Sub when something waits), and the sweep."""

from typing import Any

import functions_framework
from flask import Request, Response

from functions.autoscale.ticks import log_failure, scale, scale_alone
from shared import wiring
from shared.errors import InvalidRequest
from shared.http import Reply, Routes, answer_push, check_schedule
from shared.models.farm import Placement
from shared.services.kept_ticks import forget_ticks
from shared.services.sweep import sweep


def _tick(request: Request) -> Reply:
    """The scheduler only: every orchestrator, or the one that the query names."""
    check_schedule(request, wiring.push_token())
    store = wiring.orchestrator_store()
    wanted = request.args.get("orchestrator_id")
    found = [store.orchestrator(wanted)] if wanted else store.orchestrators()
    return {each.orchestrator_id: scale_alone(each) for each in found}


def _asked(message: dict[str, Any]) -> None:
    """Something began to wait for an orchestrator, or nothing waits there any more."""
    orchestrator_id = message.get("orchestrator_id")
    if not isinstance(orchestrator_id, str):
        raise InvalidRequest({"message": "must name orchestrator_id"})
    scale(wiring.orchestrator_store().orchestrator(orchestrator_id))


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
        except Exception as error:  # noqa: BLE001  logged, and tried again by the next sweep
            log_failure("orchestrator not swept", each, error)
    return {"job_count": sweep(placements, wiring.ports())}


def _forget(request: Request) -> Reply:
    """The scheduler only: delete what ticks of more than 14 days ago were planned from."""
    check_schedule(request, wiring.push_token())
    return {"forgotten_count": forget_ticks(wiring.now(), wiring.blobs())}


ROUTES = Routes(
    [
        ("POST", "/projects/<project>/topics/<topic>", _pushed),
        ("POST", "/tick", _tick),
        ("POST", "/sweep", _sweep),
        ("POST", "/forget", _forget),
        ("GET", "/healthz", wiring.healthz),
    ]
)


@functions_framework.http
def autoscale(request: Request) -> Response:
    """Answer Pub/Sub and the scheduler."""
    return ROUTES.answer(request)
