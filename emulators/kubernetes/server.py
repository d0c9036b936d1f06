"""The API server: paths, verbs, pages, patches, watches, the bearer token, faults on order.

Own endpoints: `POST /faults` (see engine.faults), `GET` and `DELETE /faults`, `POST /reset`.
Kubelets use the API as everybody does. A watch ends with its first changes, as any watch may.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/, read 2026-11.
"""

import base64
import binascii
import copy
import json
import re
from collections.abc import Callable
from typing import Any

from emulators.engine.faults import CallFaults
from emulators.engine.http import App, Reply, Request, json_reply, text_reply
from emulators.kubernetes.errors import KubernetesError
from emulators.kubernetes.jobs import Jobs
from emulators.kubernetes.nodes import Nodes
from emulators.kubernetes.scheduling import Scheduler
from emulators.kubernetes.selectors import field_selector, label_selector
from emulators.kubernetes.state import KINDS, Kind, State, Wire, key_of
from emulators.kubernetes.validation import check, check_change

_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<version>[a-z0-9.]+/v1))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<status>status))?"
)
_OPEN_PATHS = ("/healthz", "/livez", "/readyz")
_OWN_PATHS = ("/faults", "/reset")
_WATCH_S = 30.0
_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")


class KubernetesServer:
    """The API of one cluster."""

    def __init__(
        self, state: State, scheduler: Scheduler, jobs: Jobs, nodes: Nodes, *, token: str = ""
    ) -> None:
        self._state = state
        self._scheduler = scheduler
        self._jobs = jobs
        self._nodes = nodes
        self._token = token
        self._namespaces = [each["metadata"]["name"] for each in state.all("namespaces")]
        self._faults = CallFaults(_fault)
        self.app = App(before=self._before)
        for path in _OPEN_PATHS:
            self.app.route("GET", path, lambda _: text_reply("ok"))
        self.app.route("POST", "/reset", self._reset)
        self._faults.route(self.app)
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self.app.route(method, "/api:rest", self._answer)

    async def _before(self, request: Request) -> Reply | None:
        if request.path in _OWN_PATHS or request.path in _OPEN_PATHS:
            return None
        if (fault := await self._faults.apply(request)) is not None:
            return fault
        given = request.headers.get("authorization", "")
        if self._token and given != f"Bearer {self._token}":
            return json_reply(KubernetesError(401, "Unauthorized").status, 401)
        return None

    async def _answer(self, request: Request) -> Reply:
        try:
            return await self._routed(request)
        except KubernetesError as exc:
            return json_reply(exc.status, exc.code)
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            # Go's decoder refuses a body of the wrong shape; ours finds it while reading.
            error = KubernetesError(400, f"cannot be handled as an object of its kind: {exc!r}")
            return json_reply(error.status, 400)
        finally:
            self._state.flush()  # what was changed is durable before it is answered

    async def _routed(self, request: Request) -> Reply:
        found = _PATH.fullmatch(request.path)
        kind = KINDS.get(found["plural"]) if found is not None else None
        if found is None or kind is None or kind.version != (found["core"] or found["version"]):
            raise KubernetesError(404, "the server could not find the requested resource")
        namespace, name = found["namespace"] or "", found["name"]
        if name is None and request.method == "GET":
            if request.query.get("watch") in ("true", "1"):
                return await self._watch(kind, namespace, request)
            return self._list(kind, namespace, request)
        if name is None and request.method == "POST":
            return self._create(kind, namespace, request.json_object())
        if name is None:
            raise KubernetesError(405, "the server does not allow this method on the resource")
        resource = self._state.get(kind.plural, namespace, name)
        if request.method == "PATCH":
            return self._patch(kind, resource, request, is_status=found["status"] is not None)
        if request.method == "DELETE":
            return self._delete(kind, resource, request)
        return json_reply(resource)

    def _selected(self, kind: Kind, namespace: str, request: Request) -> Callable[[Wire], bool]:
        has_labels = label_selector(request.query.get("labelSelector", ""))
        has_fields = field_selector(request.query.get("fieldSelector", ""))

        def matches(resource: Wire) -> bool:
            is_here = not namespace or resource["metadata"].get("namespace") == namespace
            return is_here and has_labels(resource) and has_fields(resource)

        return matches

    def _list(self, kind: Kind, namespace: str, request: Request) -> Reply:
        """Return a page of a list; a token names the key that the next page begins with."""
        matches = self._selected(kind, namespace, request)
        start, version = _start_of(request.query.get("continue", ""), self._state.version)
        limit = int(request.query.get("limit") or 0)
        found = [
            each for each in self._state.all(kind.plural) if key_of(each) >= start and matches(each)
        ]
        metadata: Wire = {"resourceVersion": str(version)}
        if 0 < limit < len(found):
            place = json.dumps(
                {"v": "meta.k8s.io/v1", "rv": version, "start": key_of(found[limit])}
            )
            metadata["continue"] = base64.urlsafe_b64encode(place.encode()).decode()
            metadata["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        # Items of a list do not say their kind.
        items = [
            {k: v for k, v in each.items() if k not in ("kind", "apiVersion")} for each in found
        ]
        return json_reply(
            {
                "kind": f"{kind.name}List",
                "apiVersion": kind.version,
                "metadata": metadata,
                "items": items,
            }
        )

    async def _watch(self, kind: Kind, namespace: str, request: Request) -> Reply:
        matches = self._selected(kind, namespace, request)
        version = int(request.query.get("resourceVersion") or self._state.version)
        node = re.fullmatch(r"spec\.nodeName=([^,]+)", request.query.get("fieldSelector", ""))
        topic = kind.plural if node is None else f"{kind.plural}@{node[1]}"
        timeout_s = float(request.query.get("timeoutSeconds") or _WATCH_S)
        await self._state.topics.wait(topic, version, timeout_s)
        lines = [
            json.dumps({"type": change, "object": resource})
            for change, resource in self._state.changes(kind.plural, version)
            if matches(resource)
        ]
        return Reply(body="".join(f"{line}\n" for line in lines).encode())

    def _create(self, kind: Kind, namespace: str, resource: Wire) -> Reply:
        metadata = resource.get("metadata") or {}
        if kind.is_namespaced:
            self._state.get("namespaces", "", namespace)
            metadata["namespace"] = namespace
        check(kind, resource)
        resource = copy.deepcopy(resource)
        if kind.plural == "secrets":
            for name, text in resource.pop("stringData", {}).items():
                encoded = base64.b64encode(text.encode()).decode()
                resource.setdefault("data", {})[name] = encoded
        resource.setdefault("spec", {})
        self._state.add(kind.plural, resource)
        if kind.plural == "jobs":
            self._jobs.sync(resource)
        elif kind.plural == "nodes":
            self._nodes.heard(resource)
            self._nodes.changed(resource)
        elif kind.plural == "priorityclasses":
            for job in self._state.all("jobs"):
                self._jobs.sync(job)
        return json_reply(resource, 201)

    def _patch(self, kind: Kind, resource: Wire, request: Request, *, is_status: bool) -> Reply:
        if request.headers.get("content-type", "").partition(";")[0] not in _MERGES:
            raise KubernetesError(415, "the body of the request was in an unknown format")
        given = request.json_object()
        part = {"status": given.get("status") or {}} if is_status else given
        if not is_status:
            part.pop("status", None)
        changed = _merged(resource, part)
        check_change(kind, resource, changed)
        resource.clear()
        resource |= changed
        self._state.save(kind.plural, resource)
        if kind.plural == "jobs":
            self._jobs.sync(resource)
        elif kind.plural == "pods":
            self._jobs.pod_changed(resource)
        elif kind.plural == "nodes":
            if is_status:
                self._nodes.heard(resource)
            self._nodes.changed(resource)
        return json_reply(resource)

    def _delete(self, kind: Kind, resource: Wire, request: Request) -> Reply:
        options = {**request.json_object(), **request.query}
        if kind.plural == "jobs":
            is_orphaning = options.get("propagationPolicy") == "Orphan"
            self._jobs.delete_job(resource, is_orphaning=is_orphaning)
        elif kind.plural == "pods":
            grace = options.get("gracePeriodSeconds")
            self._jobs.delete_pod(resource, None if grace is None else int(grace))
        elif kind.plural == "nodes":
            self._nodes.remove(resource)
        else:
            self._state.remove(kind.plural, resource)
        metadata = resource["metadata"]
        details = {"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]}
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return json_reply({**success, "details": details})

    def ensure_namespaces(self, names: list[str]) -> None:
        """Have namespaces, after every reset too."""
        self._namespaces = names
        for name in names:
            if self._state.find("namespaces", "", name) is None:
                self._state.add("namespaces", {"metadata": {"name": name}})
        self._state.flush()

    def _reset(self, _: Request) -> Reply:
        """Forget every object and fault; nodes that are on register again by themselves."""
        self._faults.clear()
        self._state.clear()
        self._scheduler.recover()
        self._nodes.recover()
        self.ensure_namespaces(self._namespaces)
        return json_reply({})


def _fault(status: int, reason: str) -> Reply:
    headers = {"Retry-After": "1"} if status == 429 else {}
    return json_reply(KubernetesError(status, reason or "injected").status, status, headers)


def _start_of(token: str, version: int) -> tuple[str, int]:
    """Return the key that a page begins with, and the list's version. Raises: KubernetesError 400."""
    if not token:
        return "", version
    try:
        place: Wire = json.loads(base64.urlsafe_b64decode(token))
        return str(place["start"]), int(place["rv"])
    except (binascii.Error, ValueError, KeyError) as exc:
        raise KubernetesError(400, "continue key is not valid") from exc


def _merged(before: Any, patch: Any) -> Any:
    """Return an object after a merge patch: null removes, conditions merge by type, other lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif name == "conditions":
            given = {each["type"] for each in value}
            kept = [each for each in result.get(name) or [] if each["type"] not in given]
            result[name] = [*kept, *value]
        else:
            result[name] = _merged(result.get(name), value)
    return result
