"""Compute Engine's REST API (`/compute/v1`) over the rules."""

import asyncio
import time
from collections.abc import Callable

from emulators.compute import wire
from emulators.compute.control import OWN_PATHS, Control
from emulators.compute.errors import ApiError, error_reply, injected
from emulators.compute.faults import Faults
from emulators.compute.groups import Groups, new_template
from emulators.compute.lifecycle import Lifecycle
from emulators.compute.machines import Machines
from emulators.compute.operations import Operations
from emulators.compute.state import Document, State
from emulators.engine.faults import CallFaults
from emulators.engine.http import App, HttpError, Reply, Request, json_reply

_ROOT = "/compute/v1/projects/:project"
_ZONE = f"{_ROOT}/zones/:zone"
_GROUP = f"{_ZONE}/instanceGroupManagers/:group"
_WAIT_S = 120.0

Answer = Callable[[Request], Document]
#: A change returns what it changed: the target's URL and its id.
Change = Callable[[Request], tuple[str, str]]


class ComputeServer:
    """The API; every change is durable before it is answered."""

    def __init__(
        self, state: State, groups: Groups, lifecycle: Lifecycle, machines: Machines,
        faults: Faults, operations: Operations,
    ) -> None:  # fmt: skip
        self._state = state
        self._groups = groups
        self._lifecycle = lifecycle
        self._faults = faults
        self._operations = operations
        self._calls = CallFaults(injected)
        self.app = App(before=self._before, not_found=_unknown)
        Control(state, lifecycle, machines, faults, self._calls).route(self.app)
        self._route_operations()
        self._route_templates()
        self._route_groups()
        self._route_instances()

    async def _before(self, request: Request) -> Reply | None:
        return None if request.path in OWN_PATHS else await self._calls.apply(request)

    def _read(self, method: str, path: str, answer: Answer) -> None:
        def handle(request: Request) -> Reply:
            try:
                return json_reply(answer(request))
            except ApiError as exc:
                return error_reply(exc.code, exc.reason, exc.message)

        self.app.route(method, path, handle)

    def _change(self, method: str, path: str, kind: str, change: Change) -> None:
        """Route a change that answers with an operation of type `kind`."""

        def handle(request: Request) -> Reply:
            try:
                return json_reply(wire.operation(self._started(request, kind, change)))
            except ApiError as exc:
                return error_reply(exc.code, exc.reason, exc.message)
            except (TypeError, AttributeError, ValueError) as exc:
                return error_reply(400, "parseError", f"Invalid JSON payload received. {exc}")
            finally:
                self._state.flush()

        self.app.route(method, path, handle)

    def _started(self, request: Request, kind: str, change: Change) -> Document:
        project = request.args["project"]
        request_id = request.query.get("requestId", "")
        if (earlier := self._operations.replayed(project, request_id)) is not None:
            return earlier
        scope = f"zones/{request.args['zone']}" if "zone" in request.args else "global"
        error = self._faults.operation_error(kind)
        if error is not None:  # accepted, and fails later, without effect
            path = request.path.removeprefix("/compute/v1/").split("/", 2)[2]
            target, target_id = wire.link(project, path), "0"
        else:
            target, target_id = change(request)
        return self._operations.start(
            project, scope, kind,
            target=target, target_id=target_id, request_id=request_id, error=error,
        )  # fmt: skip

    def _route_operations(self) -> None:
        for scope_path, scope_of in (
            (f"{_ZONE}/operations", lambda r: f"zones/{r.args['zone']}"),
            (f"{_ROOT}/global/operations", lambda _: "global"),
        ):
            self._route_operations_of(scope_path, scope_of)

    def _route_operations_of(self, path: str, scope_of: Callable[[Request], str]) -> None:
        def get(request: Request) -> Document:
            args = request.args
            return self._state.operation(args["project"], scope_of(request), args["operation"])

        async def wait(request: Request) -> Reply:
            try:
                found = get(request)
            except ApiError as exc:
                return error_reply(exc.code, exc.reason, exc.message)
            await asyncio.sleep(min(max(found["ended_at"] - time.time(), 0), _WAIT_S))
            return json_reply(wire.operation(found))

        def listed(request: Request) -> Document:
            where = (request.args["project"], scope_of(request))
            found = [
                (o, wire.operation(o))
                for o in self._state.operations.values()
                if (o["project"], o["scope"]) == where
            ]
            return _list(found, request, "compute#operationList")

        self.app.route("POST", f"{path}/:operation/wait", wait)
        self._read("GET", f"{path}/:operation", lambda r: wire.operation(get(r)))
        self._read("GET", path, listed)

    def _route_templates(self) -> None:
        path = f"{_ROOT}/global/instanceTemplates"

        def insert(request: Request) -> tuple[str, str]:
            template = new_template(request.args["project"], request.json_object())
            self._state.add_template(template)
            return wire.template(template)["selfLink"], template["id"]

        def delete(request: Request) -> tuple[str, str]:
            args = request.args
            template = self._groups.delete_template(args["project"], args["template"])
            return wire.template(template)["selfLink"], template["id"]

        def listed(request: Request) -> Document:
            project = request.args["project"]
            templates = (t for t in self._state.templates.values() if t["project"] == project)
            found = [(t, wire.template(t)) for t in templates]
            return _list(found, request, "compute#instanceTemplateList")

        self._change("POST", path, "compute.instanceTemplates.insert", insert)
        self._change("DELETE", f"{path}/:template", "compute.instanceTemplates.delete", delete)
        self._read("GET", path, listed)
        self._read("GET", f"{path}/:template", lambda r: wire.template(
            self._state.template(r.args["project"], r.args["template"])
        ))  # fmt: skip

    def _group(self, request: Request) -> Document:
        args = request.args
        return self._state.group(args["project"], args["zone"], args["group"])

    def _on_group(self, change: Callable[[Request, Document], object]) -> Change:
        def changed(request: Request) -> tuple[str, str]:
            group = self._group(request)
            change(request, group)
            return wire.group_link(group), group["id"]

        return changed

    def _route_groups(self) -> None:
        kind = "compute.instanceGroupManagers"
        groups = self._groups

        def insert(request: Request) -> tuple[str, str]:
            args = request.args
            group = groups.insert(args["project"], args["zone"], request.json_object())
            return wire.group_link(group), group["id"]

        changes: dict[str, Callable[[Request, Document], object]] = {
            "createInstances": lambda r, g: groups.create_instances(
                g, r.json_object().get("instances") or []
            ),
            "deleteInstances": lambda r, g: groups.delete_instances(g, r.json_object()),
            "resize": lambda r, g: groups.resize(g, int(r.query.get("size", "-1"))),
        }
        for name, change in changes.items():
            self._change("POST", f"{_GROUP}/{name}", f"{kind}.{name}", self._on_group(change))
        self._read("POST", f"{_GROUP}/listManagedInstances", self._managed)
        self._read("GET", f"{_GROUP}/listErrors", self._errors)
        self._change("POST", f"{_ZONE}/instanceGroupManagers", f"{kind}.insert", insert)
        self._change("DELETE", _GROUP, f"{kind}.delete", self._on_group(
            lambda _, group: groups.delete(group)
        ))  # fmt: skip
        self._change("PATCH", _GROUP, f"{kind}.patch", self._on_group(
            lambda r, group: groups.patch(group, r.json_object())
        ))  # fmt: skip
        self._read("GET", f"{_ZONE}/instanceGroupManagers", lambda r: _list(
            [(g, self._shown(g)) for g in self._in_zone(self._state.groups, r)],
            r, "compute#instanceGroupManagerList",
        ))  # fmt: skip
        self._read("GET", _GROUP, lambda r: self._shown(self._group(r)))
        self._read(
            "GET", f"{_ROOT}/aggregated/instanceGroupManagers",
            lambda r: self._aggregated(r, self._state.groups, self._shown, "instanceGroupManagers"),
        )  # fmt: skip

    def _shown(self, group: Document) -> Document:
        return wire.group(group, self._state.members(group))

    def _in_zone(self, table: dict[str, Document], request: Request) -> list[Document]:
        args = request.args
        return list(self._state.in_zone(table, args["project"], args["zone"]))

    def _aggregated(
        self, request: Request, table: dict[str, Document],
        show: Callable[[Document], Document], field: str,
    ) -> Document:  # fmt: skip
        found = (d for d in table.values() if d["project"] == request.args["project"])
        return wire.aggregated(found, show, request.query, field)

    def _managed(self, request: Request) -> Document:
        group = self._group(request)
        members = [(m, wire.managed_instance(m)) for m in self._state.members(group)]
        shown = [pair[1] for pair in wire.filtered(members, request.query)]
        if group["given"].get("listManagedInstancesResults") != "PAGINATED":
            if request.query.get("pageToken"):
                raise ApiError(
                    400, "invalid",
                    "Invalid value for field 'pageToken': paging needs a group whose "
                    "listManagedInstancesResults is PAGINATED.",
                )  # fmt: skip
            return {"managedInstances": shown}
        return wire.page(shown, request.query, "managedInstances")

    def _errors(self, request: Request) -> Document:
        group = self._group(request)
        errors = [wire.group_error(error, group) for error in reversed(group["errors"])]
        return wire.page(errors, request.query, "items")

    def _route_instances(self) -> None:
        path = f"{_ZONE}/instances"

        def instance(request: Request) -> Document:
            args = request.args
            return self._state.instance(args["project"], args["zone"], args["instance"])

        def on_instance(change: Callable[[Document], None]) -> Change:
            def changed(request: Request) -> tuple[str, str]:
                found = instance(request)
                change(found)
                return wire.instance_link(found), found["id"]

            return changed

        self._change(
            "POST", f"{path}/:instance/simulateMaintenanceEvent",
            "compute.instances.simulateMaintenanceEvent", on_instance(self._lifecycle.maintain),
        )  # fmt: skip
        self._change(
            "DELETE", f"{path}/:instance",
            "delete", on_instance(self._groups.delete_instance),
        )  # fmt: skip
        self._read("GET", f"{path}/:instance", lambda r: wire.instance(instance(r)))
        self._read("GET", path, lambda r: _list(
            [(i, wire.instance(i)) for i in _existing(self._in_zone(self._state.instances, r))],
            r, "compute#instanceList",
        ))  # fmt: skip
        self._read(
            "GET", f"{_ROOT}/aggregated/instances",
            lambda r: wire.aggregated(
                [
                    i for i in _existing(self._state.instances.values())
                    if i["project"] == r.args["project"]
                ],
                wire.instance, r.query, "instances",
            ),
        )  # fmt: skip


def _existing(instances: object) -> list[Document]:
    """Return the instances which are more than a plan of their group."""
    assert hasattr(instances, "__iter__")
    return [instance for instance in instances if instance["status"] is not None]


def _list(found: list[tuple[Document, Document]], request: Request, kind: str) -> Document:
    shown = [pair[1] for pair in wire.filtered(found, request.query)]
    return {**wire.page(shown, request.query, "items", kind), "selfLink": request.path}


def _unknown(request: Request) -> Reply:
    raise HttpError(error_reply(404, "notFound", f"{request.method} {request.path}: not offered"))
