"""One handler a topic. A message holds ids only; docs/protocol.md lists them."""

from collections.abc import Callable, Mapping
from typing import Any

from shared import wiring
from shared.errors import InvalidRequest
from shared.schemas.days import read_day
from shared.services.meter import meter
from shared.services.storage import measure


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise InvalidRequest({name: "must be a string"})
    return value


def _meter(message: dict[str, Any]) -> None:
    """Sum a day of an account that is there."""
    account_id, day = _text(message, "account_id"), read_day("date", _text(message, "date"))
    ports = wiring.ports()
    ports.accounts.account(account_id)
    meter(account_id, day, ports)


def _measure(message: dict[str, Any]) -> None:
    """Measure what an account that is there has stored."""
    account_id = _text(message, "account_id")
    ports = wiring.ports()
    ports.accounts.account(account_id)
    measure(account_id, ports, wiring.storage_price())


HANDLERS: Mapping[str, Callable[[dict[str, Any]], None]] = {"meter": _meter, "measure": _measure}
