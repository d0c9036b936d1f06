"""One handler a topic. A message holds ids only; docs/protocol.md lists them."""

from collections.abc import Callable, Mapping
from typing import Any

from shared import wiring
from shared.messages import read_id
from shared.schemas.days import read_day
from shared.services.meter import meter
from shared.services.storage import measure


def _meter(message: dict[str, Any]) -> None:
    """Sum a day of an account that is there."""
    account_id, day = read_id(message, "account_id"), read_day("date", read_id(message, "date"))
    ports = wiring.ports()
    ports.accounts.account(account_id)
    meter(account_id, day, ports)


def _measure(message: dict[str, Any]) -> None:
    """Measure what an account that is there has stored."""
    account_id = read_id(message, "account_id")
    ports = wiring.ports()
    ports.accounts.account(account_id)
    measure(account_id, ports, wiring.storage_price())


HANDLERS: Mapping[str, Callable[[dict[str, Any]], None]] = {"meter": _meter, "measure": _measure}
