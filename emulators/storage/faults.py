"""Faults on order: the next matching requests fail, wait or lose their connection."""

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class InvalidFault(ValueError):
    """An order that makes no sense; the message names the field."""


class Drop(StrEnum):
    """When a connection is dropped: before the request is carried out, or instead of its reply."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(kw_only=True)
class Fault:
    """One rule: which requests, how many of them, and what happens to them."""

    method: str | None
    path_prefix: str
    times: int
    status: int | None
    delay_s: float
    drop: Drop | None


class Faults:
    """The rules in force, in the order in which they are tried."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []

    def replace(self, orders: object) -> list[Fault]:
        """Put the rules of a JSON list in place of all others.

        Shapes: `{"method", "path_prefix", "times": 1, "status" | "delay_s" | "drop"}`; drop is
        "before" or "after"; method and path_prefix may be left out and then match everything.
        Raises: InvalidFault.
        """
        if not isinstance(orders, list):
            raise InvalidFault("the faults must be a JSON list")
        rules = [_fault(order) for order in orders]
        with self._lock:
            self._rules = rules
        return rules

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first rule that matches and use it up by one."""
        with self._lock:
            for rule in self._rules:
                if rule.method in (None, method) and path.startswith(rule.path_prefix):
                    rule.times -= 1
                    if rule.times == 0:
                        self._rules.remove(rule)
                    return rule
        return None


def _fault(order: Any) -> Fault:
    if not isinstance(order, dict):
        raise InvalidFault("each fault must be a JSON object")
    unknown = set(order) - {"method", "path_prefix", "times", "status", "delay_s", "drop"}
    if unknown:
        raise InvalidFault(f"unknown field: {', '.join(sorted(unknown))}")
    if len({"status", "delay_s", "drop"} & set(order)) != 1:
        raise InvalidFault("a fault has exactly one of status, delay_s and drop")
    times, status, delay_s = order.get("times", 1), order.get("status"), order.get("delay_s", 0)
    if not isinstance(times, int) or times < 1:
        raise InvalidFault("times must be a positive integer")
    if status is not None and not (isinstance(status, int) and 400 <= status <= 599):
        raise InvalidFault("status must be 400 to 599")
    if not isinstance(delay_s, int | float) or delay_s < 0:
        raise InvalidFault("delay_s must not be negative")
    if order.get("drop") not in (None, *Drop):
        raise InvalidFault("drop must be before or after")
    method = order.get("method")
    return Fault(
        method=None if method is None else str(method).upper(),
        path_prefix=str(order.get("path_prefix", "")),
        times=times,
        status=status,
        delay_s=delay_s,
        drop=Drop(order["drop"]) if "drop" in order else None,
    )
