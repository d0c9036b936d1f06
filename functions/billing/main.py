"""The function `billing`: usage reports (HTTP), what they are drawn from (Pub/Sub, schedule), the audit (schedule)."""

import functions_framework
from flask import Request, Response

from functions.billing import reports
from functions.billing.messages import HANDLERS
from functions.submit.callers import guard
from shared import wiring
from shared.core.permissions import Action
from shared.http import Reply, Route, Routes, answer_push, check_schedule
from shared.log import log
from shared.schemas import answers, queries
from shared.services.audit import audit
from shared.services.meter import meter_all
from shared.services.storage import ask_to_measure


def _pushed(request: Request, **_: str) -> Reply:
    """Pub/Sub only: the push endpoint carries the shared token."""
    return answer_push(request, HANDLERS, wiring.push_token())


def _rollup(request: Request) -> Reply:
    """The scheduler only: sum the days that may still change."""
    check_schedule(request, wiring.push_token())
    return {"account_count": meter_all(wiring.ports())}


def _ask_to_measure(request: Request) -> Reply:
    """The scheduler only: have what every account stores measured."""
    check_schedule(request, wiring.push_token())
    return {"account_count": ask_to_measure(wiring.ports())}


def _audit(request: Request) -> Reply:
    """The scheduler only: check the books of all active jobs, and log each broken invariant."""
    check_schedule(request, wiring.push_token())
    ports = wiring.ports()
    broken = [
        f"account {account_id}: {sentence}"
        for account_id in ports.admission.accounts()
        for sentence in audit(account_id, ports.admission.active_job_ids(account_id), ports)
    ]
    for sentence in broken:
        log("ERROR", "invariant broken", finding=sentence)
    return {"broken": broken}


ROUTES = Routes(
    [
        ("POST", "/projects/<project>/topics/<topic>", _pushed),
        ("POST", "/rollup", _rollup),
        ("POST", "/measure", _ask_to_measure),
        ("POST", "/audit", _audit),
        ("GET", "/healthz", wiring.healthz),
        Route(
            "GET",
            "/billing/get_usage",
            reports.get_usage,
            action=Action.READ_BILLING,
            query=queries.UsageQuerySchema,
            answers={200: answers.UsageSchema},
        ),
        Route(
            "GET",
            "/billing/get_storage_usage",
            reports.get_storage_usage,
            action=Action.READ_BILLING,
            query=queries.StorageUsageQuerySchema,
            answers={200: answers.StorageUsageSchema},
        ),
        Route(
            "GET",
            "/billing/get_budgets",
            reports.get_budgets,
            action=Action.READ_BILLING,
            answers={200: answers.BudgetsSchema},
        ),
    ],
    guard=guard,
)


@functions_framework.http
def billing(request: Request) -> Response:
    """Answer clients, Pub/Sub and the scheduler."""
    return ROUTES.answer(request)
