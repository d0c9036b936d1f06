"""Faults on order: what Amazon does to calls and machines.

Orders (`POST /faults`; `DELETE /faults` takes all back), all filters optional:
  {"kind": "calls", "calls": 1, "status", "code", "service", "action"}   the next matching calls fail
  {"kind": "stockout", "zone", "instance_type", "preemptible", "capacity": 0}   so many more machines can be had
  {"kind": "launch", "code", "message", "count": 1}   the next launches are refused
  {"kind": "slow_boot", "zone", "boot_s": 60, "count"}   for ever without a count
  {"kind": "interrupt", "instance"}   a machine, by its id or its Name, is taken back at once
"""

from collections.abc import Iterator
from typing import Any

Order = dict[str, Any]

KINDS = ("calls", "stockout", "launch", "slow_boot")


class Faults:
    """The orders in force."""

    def __init__(self) -> None:
        self._orders: list[Order] = []

    def order(self, order: Order) -> None:
        """Add an order. Raises: ValueError when it says nothing sensible."""
        if order.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, or interrupt")
        for name in ("calls", "count", "capacity", "boot_s"):
            value = order.get(name, 0)
            if not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} must be a number and not negative")
        if order["kind"] == "calls" and not 400 <= order.get("status", 0) <= 599:
            raise ValueError("status must be between 400 and 599")
        if order["kind"] == "launch" and not order.get("code"):
            raise ValueError("launch needs code")
        if order["kind"] in ("calls", "launch"):
            order = {**order, "count": order.get("calls", order.get("count", 1))}
        self._orders.append(dict(order))

    def clear(self) -> None:
        """Take all orders back."""
        self._orders.clear()

    def call(self, service: str, action: str) -> tuple[int, str] | None:
        """Return the status and code that this call must get."""
        for order in self._matching("calls", service=service, action=action):
            self._use(order)
            return order["status"], str(order.get("code", ""))
        return None

    def refusal(self, facts: Order, running: int) -> tuple[int | None, str, str]:
        """Return how many machines can be had, None for any number, and the code and message for the others."""
        for order in self._matching("launch", **facts):
            self._use(order)
            return 0, str(order["code"]), str(order.get("message", order["code"]))
        for order in self._matching("stockout", **facts):
            said = (
                f"We currently do not have sufficient {facts['instance_type']} capacity in the "
                f"Availability Zone you requested ({facts['zone']})."
            )
            left = max(int(order.get("capacity", 0)) - running, 0)
            return left, "InsufficientInstanceCapacity", said
        return None, "", ""

    def boot_s(self, facts: Order, normal_s: float) -> float:
        """Return how long a machine is pending."""
        for order in self._matching("slow_boot", **facts):
            self._use(order)
            return float(order.get("boot_s", 60))
        return normal_s

    def _matching(self, kind: str, **facts: object) -> Iterator[Order]:
        for order in list(self._orders):
            known = (name for name in facts if name in order)
            if order["kind"] == kind and all(order[name] == facts[name] for name in known):
                yield order

    def _use(self, order: Order) -> None:
        if "count" in order:
            order["count"] -= 1
            if order["count"] <= 0:
                self._orders.remove(order)
