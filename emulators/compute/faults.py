"""Faults on order: what the cloud does to instances.

Orders (`POST /faults`), all filters optional:
  {"kind": "stockout", "zone", "machine_type", "preemptible", "capacity": 0, "retries": true}
  {"kind": "slow_boot", "zone", "pool", "instance", "boot_s": 60, "count"}
  {"kind": "slow_ready", "zone", "pool", "instance", "ready_s": 60, "count"}   on Kubernetes: registered, not ready yet
  {"kind": "dead_boot", "zone", "pool", "instance", "count"}
  {"kind": "operation", "operation_type": "createInstances", "code", "message", "status": 503, "count"}
  {"kind": "preempt", "instance", "notice_s": 0..30}   {"kind": "lose", "instance"}
  {"kind": "calls", "calls", "status", "reason", "delay_s", "path", "method"}   see engine.faults
`count` is how often the order applies, for ever without it. `capacity` instances still fit.
`retries` false makes groups try each creation once (CREATING_WITHOUT_RETRIES).
"""

import uuid
from collections.abc import Iterator

from emulators.compute.state import Document, State
from emulators.compute.wire import is_spot

LASTING = ("stockout", "slow_boot", "slow_ready", "dead_boot", "operation")
_STATUS_TEXTS = {400: "BAD REQUEST", 403: "FORBIDDEN", 409: "CONFLICT", 503: "SERVICE UNAVAILABLE"}


class Faults:
    """The lasting orders; they survive a restart of the stand-in."""

    def __init__(self, state: State) -> None:
        self._state = state

    def order(self, order: Document) -> Document:
        """Add a lasting order. Raises: ValueError when it says nothing sensible."""
        for name in ("count", "capacity", "boot_s", "ready_s"):
            value = order.get(name)
            if value is not None and (not isinstance(value, int | float) or value < 0):
                raise ValueError(f"{name} must be a number and not negative")
        if order["kind"] == "slow_boot" and "boot_s" not in order:
            raise ValueError("slow_boot needs boot_s")
        if order["kind"] == "slow_ready" and "ready_s" not in order:
            raise ValueError("slow_ready needs ready_s")
        if order["kind"] == "operation" and "code" not in order:
            raise ValueError("operation needs code")
        saved = {**order, "id": uuid.uuid4().hex}
        self._state.save_order(saved)
        return saved

    def clear(self, kind: str = "") -> None:
        """Take back the orders of a kind, or all."""
        for order in list(self._state.orders.values()):
            if kind in ("", order["kind"]):
                self._state.drop_order(order)

    def listed(self) -> list[Document]:
        """Return the orders in force."""
        return list(self._state.orders.values())

    def stockout(self, instance: Document) -> Document | None:
        """Return the order that keeps an instance from being created now."""
        for order in self._matching("stockout", instance):
            alike = sum(
                other["status"] is not None and other is not instance
                for other in self._state.instances.values()
                if _matches(order, other)
            )
            if alike >= order.get("capacity", 0):
                return order
        return None

    def has_retries(self, instance: Document) -> bool:
        """Return whether a failed creation of the instance is tried again."""
        return all(order.get("retries", True) for order in self._matching("stockout", instance))

    def boot_s(self, instance: Document, normal_s: float) -> float | None:
        """Return how long an instance boots, None when it never will."""
        for order in self._matching("dead_boot", instance):
            self._use(order)
            return None
        for order in self._matching("slow_boot", instance):
            self._use(order)
            return float(order["boot_s"])
        return normal_s

    def ready_s(self, instance: Document) -> float:
        """Return how long an instance's node is there before it is ready."""
        for order in self._matching("slow_ready", instance):
            self._use(order)
            return float(order["ready_s"])
        return 0.0

    def operation_error(self, kind: str) -> Document | None:
        """Return the error that an operation of `kind` must end with."""
        for order in self._state.orders.values():
            wanted = order.get("operation_type", "")
            if order["kind"] == "operation" and wanted in ("", kind.rpartition(".")[2]):
                self._use(order)
                status = int(order.get("status", 503))
                return {
                    "code": order["code"],
                    "message": order.get("message", order["code"]),
                    "status": status,
                    "status_text": _STATUS_TEXTS.get(status, "ERROR"),
                }
        return None

    def _matching(self, kind: str, instance: Document) -> Iterator[Document]:
        for order in list(self._state.orders.values()):
            if order["kind"] == kind and _matches(order, instance):
                yield order

    def _use(self, order: Document) -> None:
        if "count" in order:
            order["count"] -= 1
            self._state.save_order(order)
            if order["count"] <= 0:
                self._state.drop_order(order)


def _matches(order: Document, instance: Document) -> bool:
    facts = {
        "zone": instance["zone"],
        "machine_type": instance["properties"]["machineType"],
        "preemptible": is_spot(instance["properties"].get("scheduling") or {}),
        "pool": instance["group"].rpartition("/")[2],
        "instance": instance["name"],
    }
    return all(order[name] == value for name, value in facts.items() if name in order)
