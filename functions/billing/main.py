"""The function `billing`: days summed from the ledger (Pub/Sub and schedule), and the audit of the books (schedule)."""

from datetime import datetime
from typing import Any

import functions_framework
from flask import Request, Response

from shared import wiring
from shared.errors import InvalidRequest
from shared.http import Reply, Routes, answer_push, check_schedule
from shared.log import log
from shared.services.audit import audit
from shared.services.meter import meter, meter_all


def _meter(message: dict[str, Any]) -> None:
    account_id, date = message.get("account_id"), message.get("date")
    if not isinstance(account_id, str) or not isinstance(date, str):
        raise InvalidRequest({"message": "must name account_id and date"})
    try:
        is_day = datetime.strptime(date, "%Y-%m-%d").strftime("%Y-%m-%d") == date  # noqa: DTZ007  a day, no moment
    except ValueError:
        is_day = False
    if not is_day:
        raise InvalidRequest({"date": "must be a day, YYYY-MM-DD"})
    ports = wiring.ports()
    ports.accounts.account(account_id)
    meter(account_id, date, ports)


def _pushed(request: Request, **_: str) -> Reply:
    """Pub/Sub only: the push endpoint carries the shared token."""
    return answer_push(request, {"meter": _meter}, wiring.push_token())


def _rollup(request: Request) -> Reply:
    """The scheduler only: sum the days that may still change."""
    check_schedule(request, wiring.push_token())
    return {"account_count": meter_all(wiring.ports())}


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
        ("POST", "/audit", _audit),
        ("GET", "/healthz", wiring.healthz),
    ]
)


@functions_framework.http
def billing(request: Request) -> Response:
    """Answer Pub/Sub and the scheduler."""
    return ROUTES.answer(request)
