"""One handler a topic. A message holds ids only; docs/protocol.md lists them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from shared import wiring
from shared.errors import InvalidRequest
from shared.models.job import JobRef
from shared.services.admit import admit
from shared.services.ask import ask_to_scale
from shared.services.control import carry_out
from shared.services.expand import expand
from shared.services.place import place
from shared.services.settle import settle
from shared.services.sync import sync

Message = Mapping[str, Any]

# What Baton makes ids of; anything else names no document of ours.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def _job(message: Message) -> JobRef:
    return JobRef(_text(message, "account_id"), _text(message, "job_id"))


def _text(message: Message, name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidRequest({name: "must be an id"})
    return value


def _number(message: Message, name: str) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest({name: "must be a whole number"})
    return value


def _attempts(message: Message) -> dict[str, int]:
    value = message.get("attempts")
    if not isinstance(value, dict) or not all(isinstance(n, int) for n in value.values()):
        raise InvalidRequest({"attempts": "must map task ids to numbers"})
    return value


def _expand(message: Message) -> None:
    first, count = _number(message, "first_page"), _number(message, "page_count")
    expand(_job(message), first, count, wiring.ports())


def _sync(message: Message) -> None:
    sync(_job(message), wiring.ports())


def _admit(message: Message) -> None:
    admit(_text(message, "account_id"), wiring.ports())


def _place(message: Message) -> None:
    ref, ports = _job(message), wiring.ports()
    place(ref, _number(message, "page"), _attempts(message), ports)
    if message.get("is_last"):
        ask_to_scale(ports.jobs.job(ref).orchestrator_id, ports)


def _settle(message: Message) -> None:
    settle(_job(message), wiring.ports())


def _command(message: Message) -> None:
    first, count = _number(message, "first_page"), _number(message, "page_count")
    ref, ports = _job(message), wiring.ports()
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
