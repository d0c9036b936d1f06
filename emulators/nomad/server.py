"""Nomad's HTTP API over the tables: which call does what, the token, faults on order.

Own endpoints: `POST /faults` (see engine.faults), `GET` and `DELETE /faults`, `POST /reset`,
`GET /healthz`, and `/v1/client/...`, which the emulated machines call.

Source: https://developer.hashicorp.com/nomad/api-docs, read 2026-11.
"""

from emulators.engine.faults import CallFaults
from emulators.engine.http import App, Reply, Request, json_reply, text_reply
from emulators.nomad import jobs, wire
from emulators.nomad.errors import NomadError
from emulators.nomad.nodes import Nodes
from emulators.nomad.routing import Routes, by_prefix, window
from emulators.nomad.scheduling import Scheduler
from emulators.nomad.state import State, Wire

_OPEN_PATHS = ("/healthz", "/v1/status/leader", "/v1/agent/health")


class NomadServer:
    """The API of one region with one leader."""

    def __init__(
        self, state: State, scheduler: Scheduler, nodes: Nodes, *, token: str = ""
    ) -> None:
        self._state = state
        self._scheduler = scheduler
        self._nodes = nodes
        self._token = token
        self._faults = CallFaults(lambda status, reason: text_reply(reason or "injected", status))
        self.app = App(before=self._before)
        self._routes = Routes(self.app, state)
        self._route_jobs()
        self._route_allocs_and_evals()
        self._route_nodes()
        self._route_clients()
        self._route_service()

    async def _before(self, request: Request) -> Reply | None:
        if request.path in ("/faults", "/reset", "/healthz"):
            return None
        if (fault := await self._faults.apply(request)) is not None:
            return fault
        if self._token and request.path not in _OPEN_PATHS:
            bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self._token not in (request.headers.get("x-nomad-token"), bearer):
                return text_reply("Permission denied", 403)
        if "filter" in request.query:
            return text_reply("filter expressions are not offered by this stand-in", 501)
        return None

    def _route_jobs(self) -> None:
        state, scheduler = self._state, self._scheduler
        self._routes.read("/v1/jobs", "jobs", "jobs", self._list_jobs, is_by_id=True)
        self._routes.write(
            "POST PUT", "/v1/jobs", lambda r: jobs.register(state, scheduler, r.json_object())
        )
        self._routes.read(
            "/v1/job/:id/allocations", "job-allocs:{}", "allocs",
            lambda r: [wire.alloc_stub(a, r.query) for a in state.job_allocs(r.args["id"])],
        )  # fmt: skip
        self._routes.read(
            "/v1/job/:id/evaluations", "job-evals:{}", "evals",
            lambda r: state.job_evals(r.args["id"]),
        )  # fmt: skip
        self._routes.read(
            "/v1/job/:id/summary", "summary:{}", "allocs",
            lambda r: wire.job_summary(state, state.job(r.args["id"])),
        )  # fmt: skip
        self._routes.write("POST PUT", "/v1/job/:id/dispatch", self._dispatch)
        self._routes.write("POST PUT", "/v1/job/:id/evaluate", self._evaluate)
        self._routes.read("/v1/job/:id", "job:{}", "jobs", lambda r: state.job(r.args["id"]))
        self._routes.write("POST PUT", "/v1/job/:id", self._register_at)
        self._routes.write(
            "DELETE", "/v1/job/:id",
            lambda r: jobs.deregister(
                state, scheduler, r.args["id"], purge=r.query.get("purge") in ("true", "1")
            ),
        )  # fmt: skip

    def _list_jobs(self, request: Request) -> list[Wire]:
        prefix = request.query.get("prefix", "")
        found = sorted(id_ for id_ in self._state.jobs if id_.startswith(prefix))
        if (request.query.get("namespace") or "default") not in ("default", "*"):
            return []
        wanted = window(request, found)
        return [wire.job_stub(self._state, self._state.jobs[id_], request.query) for id_ in wanted]

    def _register_at(self, request: Request) -> Wire:
        body = request.json_object()
        if (body.get("Job") or {}).get("ID") != request.args["id"]:
            raise NomadError(400, "Job ID does not match name")
        return jobs.register(self._state, self._scheduler, body)

    def _dispatch(self, request: Request) -> Wire:
        token = request.query.get("idempotency_token", "")
        return jobs.dispatch(
            self._state, self._scheduler, request.args["id"], request.json_object(), token
        )

    def _evaluate(self, request: Request) -> Wire:
        job = self._state.job(request.args["id"])
        eval_ = self._scheduler.evaluate(job, "job-register")
        return {
            "EvalID": eval_["ID"], "EvalCreateIndex": eval_["CreateIndex"],
            "JobModifyIndex": job["JobModifyIndex"], "Index": self._state.index,
        }  # fmt: skip

    def _route_allocs_and_evals(self) -> None:
        state, scheduler = self._state, self._scheduler
        self._routes.read("/v1/allocations", "allocs", "allocs", lambda r: [
            wire.alloc_stub(alloc, r.query) for alloc in by_prefix(state.allocs, r)
        ])  # fmt: skip
        self._routes.write(
            "POST PUT", "/v1/allocation/:id/stop",
            lambda r: jobs.stop_alloc(state, scheduler, r.args["id"]),
        )  # fmt: skip
        self._routes.read(
            "/v1/allocation/:id", "alloc:{}", "allocs",
            lambda r: wire.alloc_full(state.alloc(r.args["id"])),
        )  # fmt: skip
        self._routes.read("/v1/evaluations", "evals", "evals", self._list_evals)
        self._routes.read("/v1/evaluation/:id/allocations", "allocs", "allocs", lambda r: [
            wire.alloc_stub(alloc, r.query)
            for alloc in state.job_allocs(state.eval(r.args["id"])["JobID"])
            if alloc["EvalID"] == r.args["id"]
        ])  # fmt: skip
        self._routes.read(
            "/v1/evaluation/:id", "eval:{}", "evals", lambda r: state.eval(r.args["id"])
        )

    def _list_evals(self, request: Request) -> list[Wire]:
        query = request.query
        return [
            eval_
            for eval_ in by_prefix(self._state.evals, request)
            if query.get("job") in (None, eval_["JobID"])
            and query.get("status") in (None, eval_["Status"])
        ]

    def _route_nodes(self) -> None:
        state, nodes = self._state, self._nodes
        self._routes.read("/v1/nodes", "nodes", "nodes", lambda r: [
            wire.node_stub(node, r.query) for node in by_prefix(state.nodes, r)
        ])  # fmt: skip
        self._routes.read("/v1/node/:id/allocations", "node-allocs:{}", "allocs", self._node_allocs)
        self._routes.write("POST PUT", "/v1/node/:id/drain", self._drain)
        self._routes.write("POST PUT", "/v1/node/:id/eligibility", self._eligibility)
        self._routes.write("POST PUT", "/v1/node/:id/purge", self._purge)
        self._routes.read("/v1/node/:id", "node:{}", "nodes", lambda r: {
            **state.node(r.args["id"]), "SecretID": "", "ComputedClass": "",
        })  # fmt: skip
        self._nodes = nodes

    def _node_allocs(self, request: Request) -> list[Wire]:
        self._state.node(request.args["id"])
        return [wire.alloc_full(alloc) for alloc in self._state.node_allocs(request.args["id"])]

    def _changed_node(self, node: Wire) -> Wire:
        return {
            "NodeModifyIndex": node["ModifyIndex"], "EvalIDs": [], "EvalCreateIndex": 0,
            "Index": self._state.index,
        }  # fmt: skip

    def _drain(self, request: Request) -> Wire:
        body = request.json_object()
        node = self._nodes.drain(
            request.args["id"], body.get("DrainSpec"), mark_eligible=bool(body.get("MarkEligible"))
        )
        return self._changed_node(node)

    def _eligibility(self, request: Request) -> Wire:
        eligibility = request.json_object().get("Eligibility")
        return self._changed_node(self._nodes.set_eligibility(request.args["id"], eligibility))

    def _purge(self, request: Request) -> Wire:
        self._nodes.purge(request.args["id"])
        return {
            "EvalIDs": [],
            "EvalCreateIndex": 0,
            "NodeModifyIndex": 0,
            "Index": self._state.index,
        }

    def _route_clients(self) -> None:
        """The calls of our own nodes, in place of Nomad's RPC between clients and servers."""
        state, nodes = self._state, self._nodes
        self._routes.write(
            "PUT", "/v1/client/register", lambda r: nodes.register(r.json_object()["Node"])
        )
        self._routes.write(
            "PUT", "/v1/client/:id/heartbeat", lambda r: nodes.heartbeat(r.args["id"])
        )
        self._routes.write("PUT", "/v1/client/:id/update", self._update)

        async def work(request: Request) -> Reply:
            topic = f"client:{request.args['id']}"
            try:
                await self._routes.block(request, topic)
                value = nodes.work_of(request.args["id"])
            except NomadError as exc:
                return text_reply(exc.message, exc.status)
            index = max(state.topics.version(topic), 1)
            return json_reply(value, headers={"X-Nomad-Index": str(index)})

        self.app.route("GET", "/v1/client/:id/allocations", work)

    def _update(self, request: Request) -> Wire:
        self._nodes.update(request.args["id"], request.json_object()["Allocs"])
        return {"Index": self._state.index}

    def _route_service(self) -> None:
        self.app.route("GET", "/v1/status/leader", lambda _: json_reply("127.0.0.1:4647"))
        self.app.route("GET", "/v1/agent/health", lambda _: json_reply(
            {"server": {"ok": True, "message": "ok"}}
        ))  # fmt: skip
        self._routes.write("PUT POST", "/v1/system/gc", self._collect)
        self.app.route("GET", "/healthz", lambda _: json_reply({"status": "ok"}))
        self.app.route("POST", "/reset", self._reset)
        self._faults.route(self.app)

    def _collect(self, _: Request) -> None:
        jobs.collect_garbage(self._state, job_age_s=0, node_age_s=0)

    def _reset(self, _: Request) -> Reply:
        """Forget jobs, nodes and faults; machines that are on register again by themselves."""
        self._faults.clear()
        self._scheduler.reset()
        self._state.clear()
        self._nodes.recover()
        return json_reply({})
