"""The stand-in's own endpoints: faults on order, the log of events, the machines behind instances.

`POST /faults` (orders: see `faults`), `GET /faults`, `DELETE /faults?kind=`, `GET /events?since=N`,
`GET /machines`, `POST /reset`, `GET /healthz`.
"""

from emulators.compute.errors import ApiError, error_reply
from emulators.compute.faults import LASTING, Faults
from emulators.compute.lifecycle import Lifecycle
from emulators.compute.machines import Machines
from emulators.compute.state import Document, State
from emulators.engine.faults import CallFaults
from emulators.engine.http import App, Reply, Request, json_reply

OWN_PATHS = ("/faults", "/events", "/machines", "/reset", "/healthz")


class Control:
    """What no provider offers, for tests and for people who watch."""

    def __init__(
        self,
        state: State,
        lifecycle: Lifecycle,
        machines: Machines,
        faults: Faults,
        calls: CallFaults,
    ) -> None:
        self._state = state
        self._lifecycle = lifecycle
        self._machines = machines
        self._faults = faults
        self._calls = calls

    def route(self, app: App) -> None:
        """Add the endpoints to `app`."""
        app.route("GET", "/healthz", lambda _: json_reply({"status": "ok"}))
        app.route("GET", "/machines", lambda _: json_reply(self._listed_machines()))
        app.route("GET", "/events", self._events)
        app.route("POST", "/faults", self._order)
        app.route("GET", "/faults", lambda _: json_reply(
            {"orders": self._faults.listed(), "calls": self._calls.listed()}
        ))  # fmt: skip
        app.route("DELETE", "/faults", self._clear_faults)
        app.route("POST", "/reset", self._reset)

    def _listed_machines(self) -> list[Document]:
        """Return what the processes behind the instances are, for tests and timelines."""
        machines = []
        for instance in self._state.instances.values():
            status = self._machines.status(instance)
            port = status.get("metadata_port")
            machines.append(
                {
                    "name": instance["name"], "id": instance["id"], "zone": instance["zone"],
                    "status": instance["status"], "action": instance["action"],
                    "pid": self._machines.pid(instance), "machine_pid": status.get("machine_pid"),
                    "metadata_host": None if port is None else f"127.0.0.1:{port}",
                    "directory": str(self._machines.directory(instance)),
                }
            )  # fmt: skip
        return machines

    def _events(self, request: Request) -> Reply:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return error_reply(400, "invalid", "since must be the number of an event")
        return json_reply(self._state.events[int(since) :])

    def _order(self, request: Request) -> Reply:
        order = request.json_object()
        try:
            return json_reply(self._ordered(order))
        except ApiError as exc:
            return error_reply(exc.code, exc.reason, exc.message)
        except (KeyError, ValueError, TypeError) as exc:
            return error_reply(400, "invalid", f"cannot order this fault: {exc!r}")
        finally:
            self._state.flush()

    def _ordered(self, order: Document) -> Document:
        kind = order["kind"]
        if kind in LASTING:
            return self._faults.order(order)
        if kind == "calls":
            self._calls.order(order)
        elif kind == "lose":
            self._lifecycle.lose(self._running(order["instance"]))
        elif kind == "preempt":
            notice_s = float(order["notice_s"]) if "notice_s" in order else None
            if notice_s is not None and not 0 <= notice_s <= 30:
                raise ValueError("notice_s must be between 0 and 30")
            self._lifecycle.preempt(self._running(order["instance"]), notice_s)
        else:
            raise ValueError(f"unknown kind {kind!r}")
        return order

    def _running(self, name: str) -> Document:
        for instance in self._state.instances.values():
            if instance["name"] == name and instance["status"] == "RUNNING":
                return instance
        raise ApiError(404, "notFound", f"no running instance is called {name!r}")

    def _clear_faults(self, request: Request) -> Reply:
        kind = request.query.get("kind", "")
        self._faults.clear(kind)
        if kind in ("", "calls"):
            self._calls.clear()
        self._state.flush()
        return json_reply({})

    async def _reset(self, _: Request) -> Reply:
        """End all machines and forget everything."""
        self._calls.clear()
        self._state.clear()  # first: the clock goes on while machines end
        await self._machines.end_all()
        return json_reply({})
