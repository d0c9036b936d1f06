"""Faults on order for every HTTP call of a stand-in: errors for N calls, and delays until faults are cleared."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from emulators.engine.http import App, Reply, Request, json_reply, text_reply


@dataclass
class CallFault:
    """Answer the next `calls` matching calls with `status` (None: normally) after `delay_s`."""

    calls: int
    status: int | None
    reason: str
    delay_s: float
    path: re.Pattern[str]
    method: str | None


class CallFaults:
    """The faults that wait for a call. `render` words an error as the provider does."""

    def __init__(self, render: Callable[[int, str], Reply]) -> None:
        self._faults: list[CallFault] = []
        self._render = render
        self._cleared = asyncio.Event()

    def route(self, app: App) -> None:
        """Add `POST`, `GET` and `DELETE /faults` to `app`."""

        def order(request: Request) -> Reply:
            try:
                self.order(request.json_object())
            except ValueError as exc:
                return text_reply(str(exc), 400)
            return json_reply({})

        def clear(_: Request) -> Reply:
            self.clear()
            return json_reply({})

        app.route("POST", "/faults", order)
        app.route("GET", "/faults", lambda _: json_reply(self.listed()))
        app.route("DELETE", "/faults", clear)

    def order(self, order: dict[str, object]) -> None:
        """Add `{"calls", "status", "reason", "delay_s", "path", "method"}`. Raises: ValueError."""
        try:
            status = order.get("status")
            fault = CallFault(
                calls=int(str(order.get("calls", 1))),
                status=None if status is None else int(str(status)),
                reason=str(order.get("reason", "")),
                delay_s=float(str(order.get("delay_s", 0))),
                path=re.compile(str(order.get("path", ""))),
                method=str(order["method"]).upper() if "method" in order else None,
            )
        except re.error as exc:
            raise ValueError(f"path: {exc}") from exc
        if fault.calls < 1 or fault.delay_s < 0:
            raise ValueError("calls must be positive and delay_s must not be negative")
        if fault.status is not None and not 400 <= fault.status <= 599:
            raise ValueError("status must be between 400 and 599")
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget every fault; calls that are delayed go on at once."""
        self._faults.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    def listed(self) -> list[dict[str, object]]:
        """Return the faults which still wait, in the form of their orders."""
        return [
            {"calls": f.calls, "status": f.status, "reason": f.reason, "delay_s": f.delay_s,
             "path": f.path.pattern, "method": f.method}
            for f in self._faults
        ]  # fmt: skip

    async def apply(self, request: Request) -> Reply | None:
        """Return the error this call must get, if any, after its delay."""
        for fault in self._faults:
            if fault.method in (None, request.method) and fault.path.search(request.path):
                break
        else:
            return None
        fault.calls -= 1
        if fault.calls == 0:
            self._faults.remove(fault)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cleared.wait(), fault.delay_s)
        return None if fault.status is None else self._render(fault.status, fault.reason)
