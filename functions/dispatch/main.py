"""The function `dispatch`: what Pub/Sub pushes (expand, sync, admit, place, settle, command) and what agents call."""

import functions_framework
from flask import Request, Response

from functions.dispatch import agents, messages
from shared import wiring
from shared.http import Reply, Routes, answer_push


def _pushed(request: Request, **_: str) -> Reply:
    """Pub/Sub only: the push endpoint carries the shared token."""
    return answer_push(request, messages.HANDLERS, wiring.push_token())


ROUTES = Routes(
    [
        ("POST", "/projects/<project>/topics/<topic>", _pushed),
        ("POST", "/agent/v1/claim", agents.claim),
        ("POST", "/agent/v1/inputs", agents.inputs),
        ("POST", "/agent/v1/heartbeat", agents.heartbeat),
        ("POST", "/agent/v1/logs", agents.logs),
        ("POST", "/agent/v1/outputs", agents.outputs),
        ("POST", "/agent/v1/finish", agents.finish),
        ("GET", "/healthz", wiring.healthz),
    ]
)


@functions_framework.http
def dispatch(request: Request) -> Response:
    """Answer Pub/Sub and agents."""
    return ROUTES.answer(request)
