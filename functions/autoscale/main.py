"""The function `autoscale`: a tick per orchestrator (schedule; Pub/Sub when something waits), a sweep per account."""

from typing import Any

import functions_framework
from flask import Request, Response

from functions.autoscale.sweeps import sweep_asked
from functions.autoscale.ticks import scale, scale_alone
from shared import wiring
from shared.http import Reply, Routes, answer_push, check_schedule
from shared.messages import read_id
from shared.services.kept_ticks import forget_ticks
from shared.services.observe import at_once
from shared.services.sweep import ask_to_sweep


def _tick(request: Request) -> Reply:
    """The scheduler only: every orchestrator, or the one that the query names."""
    check_schedule(request, wiring.push_token())
    store = wiring.orchestrator_store()
    wanted = request.args.get("orchestrator_id")
    found = [store.orchestrator(wanted)] if wanted else store.orchestrators()
    # All at once: one whose provider does not answer takes no time from the others.
    answers = at_once(scale_alone, found)
    return {each.orchestrator_id: answer for each, answer in zip(found, answers, strict=True)}


def _asked(message: dict[str, Any]) -> None:
    """Something began to wait for an orchestrator, or nothing waits there any more."""
    orchestrator_id = read_id(message, "orchestrator_id")
    scale(wiring.orchestrator_store().orchestrator(orchestrator_id))


def _pushed(request: Request, **_: str) -> Reply:
    """Pub/Sub only: the push endpoint carries the shared token."""
    return answer_push(request, {"scale": _asked, "sweep": sweep_asked}, wiring.push_token())


def _sweep(request: Request) -> Reply:
    """The scheduler only: have what was interrupted found and finished, account by account."""
    check_schedule(request, wiring.push_token())
    return {"job_count": ask_to_sweep(wiring.ports())}


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
