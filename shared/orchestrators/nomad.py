"""The Scheduler of shared/ports.py on Nomad: one batch job per attempt, over Nomad's HTTP API.

Source: https://developer.hashicorp.com/nomad/api-docs, read 2026-11.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import urllib3

from shared.errors import CloudError, NotFound, RateLimited, Unreachable
from shared.models.farm import Node, Placement, Shape, Stage
from shared.models.task import Outcome
from shared.orchestrators.joins import Joins
from shared.ports import SubmittedAttempt

# Status code -> error; everything else is a CloudError.
ERRORS: Mapping[int, type[CloudError]] = {
    429: RateLimited,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}

TIMEOUT = urllib3.Timeout(connect=3, read=30)
PER_PAGE = 1000
AT_ONCE = 8

# How long an agent may take to end after SIGTERM, before it is killed.
KILL_TIMEOUT_NS = 15 * 1_000_000_000

# An attempt gets a machine of its own by asking for all cores. It reserves a little less memory than it may use: a
# machine registers what its kernel leaves, on small ones of Amazon's 91 percent of what its type says, and more than it
# registered is never placed there. What is reserved is also the limit, unless the cluster lets tasks have more.
MEMORY_SHARE = 0.95

# Go's zero time, as JSON shows a moment that has not come yet.
NEVER = "0001-01-01T00:00:00Z"

STAGES: Mapping[str, Stage] = {
    "pending": Stage.STARTED,
    "running": Stage.STARTED,
    "complete": Stage.ENDED,
    "failed": Stage.ENDED,
    "lost": Stage.LOST,
    "unknown": Stage.LOST,
}
# Its node is not heard of; it runs on when the node is, because we let Nomad put nothing in its place.
DISCONNECTED = "unknown"

# What a node in an avoided zone is worth less than others: the most there is, and more than Nomad gives for a good fit.
AVOIDED_WEIGHT = -100

Wire = Mapping[str, Any]


class NomadScheduler:
    """The attempts of one orchestrator on a Nomad cluster, which others may use too."""

    def __init__(self, address: str, *, token: str, orchestrator_id: str) -> None:
        self._address = address.rstrip("/")
        self._orchestrator_id = orchestrator_id
        # Not `requests`: its sessions take as long for a submission as all the rest of it.
        self._pool = urllib3.PoolManager(
            num_pools=1, maxsize=4 * AT_ONCE, timeout=TIMEOUT, retries=False
        )
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["X-Nomad-Token"] = token
        self._joins = Joins()

    def submit(self, attempt: SubmittedAttempt) -> None:
        body = {
            "Job": job_of(attempt, self._orchestrator_id),
            "EnforceIndex": True,
            "JobModifyIndex": 0,  # must not exist yet
        }
        try:
            self._call("POST", "/v1/jobs", json=body)
        except CloudError as error:
            # Nomad answers 500 to a registration whose precondition fails: the job is there, from an earlier call.
            if "Enforcing job modify index" not in str(error):
                raise

    def cancel(self, attempt_id: str) -> None:
        self._delete(attempt_id, purge=False)

    def placements(self) -> list[Placement]:
        # Jobs first: one that is placed between the two calls then shows its allocation.
        jobs: dict[str, Placement] = {}
        others: set[str] = set()
        for job in self._list("/v1/jobs", meta="true"):
            if (job.get("Meta") or {}).get("orchestrator") == self._orchestrator_id:
                jobs[job["ID"]] = _of_job(job)
            else:
                others.add(job["ID"])
        # Of each only what counts is kept: Nomad lists many that ended long ago, and with all that happened to them.
        latest: dict[str, tuple[int, Placement]] = {}
        for alloc in self._list("/v1/allocations", task_states="true"):
            known = latest.get(alloc["JobID"])
            if known is not None and known[0] >= alloc["CreateIndex"]:
                continue
            if (shape := _shape_of_group(alloc["TaskGroup"])) is not None:
                latest[alloc["JobID"]] = alloc["CreateIndex"], _of_alloc(alloc, shape)
        found = [
            _placed(job, latest[job_id][1]) if job_id in latest else job
            for job_id, job in jobs.items()
        ]
        return found + [
            _leftover(placement)
            for job_id, (_, placement) in latest.items()
            if job_id not in jobs and job_id not in others
        ]

    def nodes(self) -> list[Node]:
        # The list has no time of anything: only nodes that are read one by one say since when they are ready.
        found = [
            Node(
                name=node["Name"],
                node_id=node["ID"],
                zone=node["Datacenter"],
                is_up=node["Status"] == "ready",
                is_joining=node["Status"] == "initializing",
                is_eligible=node["SchedulingEligibility"] == "eligible",
            )
            for node in self._list("/v1/nodes")
        ]
        return self._joins.noted(found, datetime.now(UTC))

    def joined_at(self, node_ids: Sequence[str]) -> Mapping[str, datetime]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            told = zip(node_ids, pool.map(self._ready_since, node_ids), strict=True)
            known = {node_id: since for node_id, since in told if since is not None}
        self._joins.learn(known)
        return known

    def _ready_since(self, node_id: str) -> datetime | None:
        """Return when a node's status changed, or it registered anew, for the last time; None when it is gone."""
        with suppress(NotFound):
            node = _json(self._call("GET", f"/v1/node/{quote(node_id, safe='')}"))
            return datetime.fromtimestamp(node["StatusUpdatedAt"], UTC)
        return None

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        eligibility = "eligible" if is_eligible else "ineligible"
        path = f"/v1/node/{quote(node_id, safe='')}/eligibility"
        with suppress(NotFound):
            self._call("POST", path, json={"Eligibility": eligibility})

    def forget(self, attempt_ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda attempt_id: self._delete(attempt_id, purge=True), attempt_ids))

    def _delete(self, attempt_id: str, *, purge: bool) -> None:
        path = f"/v1/job/{quote(attempt_id, safe='')}"
        with suppress(NotFound):
            self._call("DELETE", path, params={"purge": str(purge).lower()})

    def _list(self, path: str, **params: str) -> Iterator[Wire]:
        """Yield what a paged list holds."""
        params = {**params, "per_page": str(PER_PAGE)}
        while True:
            try:
                answer = self._call("GET", path, params=params)
            except NotFound as exc:  # a list is always there, so this is not Nomad
                raise CloudError(str(exc)) from exc
            yield from _json(answer)
            token = answer.headers.get("X-Nomad-Nexttoken", "")
            if not token:
                return
            params["next_token"] = token

    def _call(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> urllib3.BaseHTTPResponse:
        """Call the API. Raises: NotFound, CloudError."""
        query = f"?{urlencode(params)}" if params else ""
        body = None if json is None else orjson.dumps(json)
        try:
            answer = self._pool.request(
                method, f"{self._address}{path}{query}", body=body, headers=self._headers
            )
        except urllib3.exceptions.HTTPError as exc:
            raise Unreachable(f"nomad: {method} {path}: {exc}") from exc
        if answer.status == 404:
            raise NotFound(f"nomad: {method} {path}: {_text(answer)}")
        if answer.status >= 300:  # a redirection too: nothing of ours is elsewhere
            error = ERRORS.get(answer.status, CloudError)
            raise error(f"nomad: {method} {path}: {answer.status} {_text(answer)}")
        return answer


def job_of(attempt: SubmittedAttempt, orchestrator_id: str) -> dict[str, Any]:
    """Return the job, in Nomad's JSON, that runs an attempt once and never again by itself."""
    shape = attempt.shape
    meta = {
        "attempt": attempt.ref.attempt_id,
        "orchestrator": orchestrator_id,
        "instance_type": shape.instance_type,
        "preemptible": str(shape.is_preemptible).lower(),
    }
    if attempt.avoided_zones:  # lists of jobs show this, and no affinities
        meta["avoided_zones"] = ",".join(attempt.avoided_zones)
    wanted = [
        {"LTarget": f"${{meta.{name}}}", "RTarget": meta[name], "Operand": "="}
        for name in ("orchestrator", "instance_type", "preemptible")
    ]
    wanted += [
        {"LTarget": "${node.unique.name}", "RTarget": name, "Operand": "!="}
        for name in attempt.avoided_instances
    ]
    task = {
        "Name": "agent",
        "Driver": "raw_exec",
        "Config": {"command": "baton-agent"},
        "Env": dict(attempt.environment),
        "KillSignal": "SIGTERM",
        "KillTimeout": KILL_TIMEOUT_NS,
        "Resources": {
            "Cores": attempt.cores,
            "MemoryMB": max(int(attempt.memory_mib * MEMORY_SHARE), 1),
            "MemoryMaxMB": max(attempt.memory_mib, 1),
        },
    }
    group = {
        "Name": _group_of_shape(shape),
        "Count": 1,
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        "Disconnect": {"Replace": False},
        "Tasks": [task],
    }
    return {
        "ID": attempt.ref.attempt_id,
        "Name": attempt.ref.attempt_id,
        "Type": "batch",
        "Priority": min(max(attempt.priority * 10, 1), 100),
        "Datacenters": list(attempt.zones),
        "Constraints": wanted,
        "Affinities": _affinities(attempt.avoided_zones),
        "Meta": meta,
        "TaskGroups": [group],
    }


def _affinities(avoided_zones: Sequence[str]) -> list[dict[str, Any]]:
    """Return what has Nomad take a node of an avoided zone only where nothing is free elsewhere.

    Source: https://developer.hashicorp.com/nomad/docs/job-specification/affinity, read 2026-11.
    """
    if not avoided_zones:
        return []
    avoided = {
        "LTarget": "${node.datacenter}",
        "RTarget": ",".join(avoided_zones),
        "Operand": "set_contains_any",
        "Weight": AVOIDED_WEIGHT,
    }
    return [avoided]


def _of_job(job: Wire) -> Placement:
    """Return an attempt by its job alone."""
    meta = job["Meta"]
    return Placement(
        attempt_id=job["ID"],
        shape=Shape(meta["instance_type"], meta["preemptible"] == "true"),
        stage=Stage.ENDED if job["Status"] == "dead" else Stage.WAITING,
        submitted_at=_at(job["SubmitTime"]),
        avoided_zones=tuple(sorted(filter(None, meta.get("avoided_zones", "").split(",")))),
    )


def _of_alloc(alloc: Wire, shape: Shape) -> Placement:
    """Return an attempt by its allocation alone."""
    started_at, ended_at = _times(alloc)
    return Placement(
        attempt_id=alloc["JobID"],
        shape=shape,
        stage=STAGES[alloc["ClientStatus"]],
        instance=alloc["NodeName"],
        started_at=started_at,
        ended_at=ended_at,
        cause=_cause(alloc),
    )


def _placed(job: Placement, alloc: Placement) -> Placement:
    return replace(
        alloc,
        shape=job.shape,
        submitted_at=job.submitted_at,
        avoided_zones=job.avoided_zones,
    )


def _leftover(alloc: Placement) -> Placement:
    """Return what is left of an attempt whose job is gone: its allocation, until Nomad collects its garbage."""
    return alloc if alloc.stage is Stage.STARTED else replace(alloc, stage=Stage.FORGOTTEN)


def _cause(alloc: Wire) -> Outcome | None:
    """Return how an allocation's process ended where its machine knows: that the kernel took it for its memory.

    Source: https://developer.hashicorp.com/nomad/api-docs/allocations, events of `TaskStates`, read 2026-11.
    """
    state = (alloc.get("TaskStates") or {}).get("agent") or {}
    ends = [event for event in state.get("Events") or () if event["Type"] == "Terminated"]
    is_oom = bool(ends) and (ends[-1].get("Details") or {}).get("oom_killed") == "true"
    return Outcome.OUT_OF_MEMORY if is_oom and alloc["ClientStatus"] == "failed" else None


def _times(alloc: Wire) -> tuple[datetime | None, datetime | None]:
    """Return when an allocation's process started and ended, as far as it did."""
    state = (alloc.get("TaskStates") or {}).get("agent") or {}
    started_at, ended_at = _moment(state.get("StartedAt")), _moment(state.get("FinishedAt"))
    is_over = STAGES[alloc["ClientStatus"]] is not Stage.STARTED
    if alloc["ClientStatus"] == DISCONNECTED:
        return started_at, None
    if is_over and ended_at is None:  # its machine never told
        ended_at = _at(alloc["ModifyTime"])
    return started_at, ended_at if is_over else None


def _moment(text: str | None) -> datetime | None:
    return None if text is None or text == NEVER else datetime.fromisoformat(text)


def _at(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _group_of_shape(shape: Shape) -> str:
    """Return the name of an attempt's task group: allocations show it even when their job is gone."""
    return f"baton.{shape.instance_type}.{'preemptible' if shape.is_preemptible else 'standard'}"


def _shape_of_group(name: str) -> Shape | None:
    prefix, _, rest = name.partition(".")
    instance_type, _, price_class = rest.rpartition(".")
    if prefix != "baton" or price_class not in ("preemptible", "standard") or not instance_type:
        return None
    return Shape(instance_type, price_class == "preemptible")


def _json(answer: urllib3.BaseHTTPResponse) -> Any:
    """Return an answer's JSON. Raises: CloudError when it is none."""
    try:
        return orjson.loads(answer.data)
    except orjson.JSONDecodeError as exc:
        raise CloudError(f"nomad: an answer is not JSON: {_text(answer)}") from exc


def _text(answer: urllib3.BaseHTTPResponse) -> str:
    return answer.data[:300].decode(errors="replace")
