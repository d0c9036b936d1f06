"""One handler a topic. A message holds ids only; docs/protocol.md lists them."""

from collections.abc import Callable, Mapping
from typing import Any

from shared import wiring
from shared.errors import InvalidRequest
from shared.messages import read_id, read_job, read_number
from shared.services.admit import admit
from shared.services.ask import ask_to_scale
from shared.services.control import carry_out
from shared.services.expand import expand
from shared.services.place import place
from shared.services.settle import settle
from shared.services.sync import sync

Message = Mapping[str, Any]


def _attempts(message: Message) -> dict[str, int]:
    value = message.get("attempts")
    if not isinstance(value, dict) or not all(isinstance(n, int) for n in value.values()):
        raise InvalidRequest({"attempts": "must map task ids to numbers"})
    return value


def _expand(message: Message) -> None:
    first, count = read_number(message, "first_page"), read_number(message, "page_count")
    expand(read_job(message), first, count, wiring.ports())


def _sync(message: Message) -> None:
    sync(read_job(message), wiring.ports())


def _admit(message: Message) -> None:
    admit(read_id(message, "account_id"), wiring.ports())


def _place(message: Message) -> None:
    ref, ports = read_job(message), wiring.ports()
    place(ref, read_number(message, "page"), _attempts(message), ports)
    if message.get("is_last"):
        ask_to_scale(ports.jobs.job(ref).orchestrator_id, ports)


def _settle(message: Message) -> None:
    settle(read_job(message), wiring.ports())


def _command(message: Message) -> None:
    first, count = read_number(message, "first_page"), read_number(message, "page_count")
    ref, ports = read_job(message), wiring.ports()
    carry_out(ref, first, count, ports)
    settle(ref, ports)
    admit(ref.account_id, ports)


HANDLERS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "expand": _expand,
    "sync": _sync,
    "admit": _admit,
    "place": _place,
    "settle": _settle,
    "command": _command,
}
