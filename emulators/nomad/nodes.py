"""Client nodes: registration, heartbeats, drains, and what clients report of their allocations."""

import time
from datetime import UTC, datetime, timedelta

from emulators.nomad.errors import NomadError, not_found, refused
from emulators.nomad.scheduling import Scheduler, group_of, may_be_replaced_when_lost
from emulators.nomad.state import TERMINAL, State, Wire, holds_resources, is_live

_NS = 1_000_000_000
_EVENTS_KEPT = 10


def _timestamp(after_s: float = 0) -> str:
    at = datetime.now(UTC) + timedelta(seconds=after_s)
    return at.isoformat().replace("+00:00", "Z")


class Nodes:
    """The life of nodes. `heartbeat_ttl_s` without a heartbeat and a node is down."""

    def __init__(self, state: State, scheduler: Scheduler, heartbeat_ttl_s: float) -> None:
        self._state = state
        self._scheduler = scheduler
        self._ttl_s = heartbeat_ttl_s
        self._due: dict[str, float] = {}
        self.recover()

    def recover(self) -> None:
        """Give every node that was up its whole time to live from now."""
        now = time.monotonic()
        self._due = {
            node["ID"]: now + self._ttl_s
            for node in self._state.nodes.values()
            if node["Status"] == "ready"
        }

    def register(self, given: Wire) -> Wire:
        """Add a node, or take it back; return what its client must know."""
        known = self._state.nodes.get(given["ID"])
        node = {
            "SchedulingEligibility": "eligible", "Drain": False, "DrainStrategy": None,
            "LastDrain": None, "Events": [], **(known or {}), **given,
            "Status": "ready", "StatusDescription": "", "StatusUpdatedAt": int(time.time()),
        }  # fmt: skip
        message = "Node registered" if known is None else "Node re-registered"
        _add_event(node, message, "Cluster")
        self._due[node["ID"]] = time.monotonic() + self._ttl_s
        self._state.save_node(node)
        self._state.seat(node)
        self._scheduler.use_node(node["ID"])
        return {"HeartbeatTTL": int(self._ttl_s * _NS), "NodeModifyIndex": node["ModifyIndex"]}

    def heartbeat(self, node_id: str) -> Wire:
        """Keep a node up, or bring it back up. Raises: NomadError 404."""
        node = self._state.node(node_id)
        self._due[node_id] = time.monotonic() + self._ttl_s
        if node["Status"] == "down":
            self._set_status(node, "ready", "Node reregistered by heartbeat")
            for alloc in self._state.node_allocs(node_id):
                if alloc["ClientStatus"] == "unknown":
                    alloc["ClientStatus"] = "running"
                    self._state.save_alloc(alloc, is_by_server=True)
            self._state.seat(node)
            self._scheduler.use_node(node_id)
        return {"HeartbeatTTL": int(self._ttl_s * _NS)}

    def expire(self) -> None:
        """Take down the nodes whose time is over, and end drains whose deadline has come."""
        now = time.monotonic()
        for node_id in [id_ for id_, due in self._due.items() if due <= now]:
            del self._due[node_id]
            if node_id in self._state.nodes:
                self._take_down(self._state.nodes[node_id])
        for node in list(self._state.nodes.values()):
            if node["DrainStrategy"] is not None:
                self._advance_drain(node)

    def _take_down(self, node: Wire) -> None:
        self._set_status(node, "down", "Node heartbeat missed")
        self._state.placement.open_node(node["ID"], False)
        self._lose_allocs(node)

    def _lose_allocs(self, node: Wire, *, is_for_good: bool = False) -> None:
        """Give up what ran on a node, and replace what may be replaced."""
        for alloc in self._state.node_allocs(node["ID"]):
            if alloc["ClientStatus"] in TERMINAL:
                continue
            is_replaced = may_be_replaced_when_lost(group_of(alloc))
            if is_replaced or is_for_good or alloc["DesiredStatus"] != "run":
                alloc |= {"ClientStatus": "lost", "DesiredStatus": "stop"}
                alloc["DesiredDescription"] = "alloc is lost since its node is down"
                alloc["ClientDescription"] = "alloc is lost since its node is down"
                self._state.placement.release(node["ID"], self._state.taken_by(alloc))
            elif alloc["ClientStatus"] == "unknown":
                continue
            else:
                alloc["ClientStatus"] = "unknown"
                alloc["ClientDescription"] = "alloc is unknown since its node is disconnected"
            self._state.save_alloc(alloc, is_by_server=True)
            self._evaluate(alloc["JobID"], "node-update", node["ID"])

    def _evaluate(self, job_id: str, triggered_by: str, node_id: str = "") -> None:
        job = self._state.jobs.get(job_id)
        if job is not None and not job["Stop"]:
            self._scheduler.evaluate(job, triggered_by, node_id=node_id)
        else:
            self._scheduler.settle(job_id)

    def _set_status(self, node: Wire, status: str, message: str) -> None:
        node |= {"Status": status, "StatusUpdatedAt": int(time.time())}
        _add_event(node, message, "Cluster")
        self._state.save_node(node)

    def purge(self, node_id: str) -> None:
        """Forget a node; what ran on it is lost. Raises: NomadError 404."""
        node = self._state.node(node_id)
        self._due.pop(node_id, None)
        self._state.placement.open_node(node_id, False)
        self._lose_allocs(node, is_for_good=True)
        self._state.drop_node(node_id)

    def set_eligibility(self, node_id: str, eligibility: object) -> Wire:
        """Allow or forbid new work on a node. Raises: NomadError."""
        node = self._state.node(node_id)
        if eligibility not in ("eligible", "ineligible"):
            raise NomadError(400, f"invalid scheduling eligibility {eligibility!r}")
        if node["DrainStrategy"] is not None and eligibility == "eligible":
            raise refused(
                "can not set node's scheduling eligibility to eligible while it is draining"
            )
        self._set_eligibility(node, str(eligibility))
        _add_event(node, f"Node marked as {eligibility} for scheduling", "Cluster")
        self._state.save_node(node)
        self._scheduler.use_node(node_id)
        return node

    def _set_eligibility(self, node: Wire, eligibility: str) -> None:
        node["SchedulingEligibility"] = eligibility
        is_open = eligibility == "eligible" and node["Status"] == "ready"
        self._state.placement.open_node(node["ID"], is_open)

    def drain(self, node_id: str, specification: Wire | None, *, mark_eligible: bool) -> Wire:
        """Start, change or (without a specification) cancel a drain. Raises: NomadError 404."""
        node = self._state.node(node_id)
        if specification is None:
            node |= {"DrainStrategy": None, "Drain": False}
            if node["LastDrain"] is not None:
                node["LastDrain"] |= {"Status": "canceled", "UpdatedAt": _timestamp()}
            if mark_eligible:
                self._set_eligibility(node, "eligible")
            _add_event(node, "Node drain canceled", "Drain")
            self._state.save_node(node)
            self._scheduler.use_node(node_id)
            return node
        deadline_ns = specification.get("Deadline") or 0
        node["DrainStrategy"] = {
            "Deadline": deadline_ns,
            "IgnoreSystemJobs": bool(specification.get("IgnoreSystemJobs")),
            "StartedAt": _timestamp(),
            "ForceDeadline": (
                _timestamp(deadline_ns / _NS) if deadline_ns > 0 else "0001-01-01T00:00:00Z"
            ),
        }
        node["Drain"] = True
        node["LastDrain"] = {
            "StartedAt": _timestamp(), "UpdatedAt": _timestamp(), "Status": "draining",
            "AccessorID": "", "Meta": None,
        }  # fmt: skip
        self._set_eligibility(node, "ineligible")
        _add_event(node, "Node drain strategy set", "Drain")
        self._state.save_node(node)
        self._advance_drain(node)
        return node

    def _advance_drain(self, node: Wire) -> None:
        """Complete a drain when nothing is left; at its deadline move what is left elsewhere."""
        left = [alloc for alloc in self._state.node_allocs(node["ID"]) if holds_resources(alloc)]
        if not left:
            node |= {"DrainStrategy": None, "Drain": False}
            node["LastDrain"] |= {"Status": "complete", "UpdatedAt": _timestamp()}
            _add_event(node, "Node drain complete", "Drain")
            self._state.save_node(node)
            return
        strategy = node["DrainStrategy"]
        is_due = strategy["Deadline"] < 0 or (
            strategy["Deadline"] > 0
            and datetime.fromisoformat(strategy["ForceDeadline"]) <= datetime.now(UTC)
        )
        if is_due:
            for alloc in filter(is_live, left):
                self._scheduler.stop_alloc(alloc, "alloc is being migrated", replace=True)
                self._evaluate(alloc["JobID"], "node-drain", node["ID"])

    def work_of(self, node_id: str) -> list[Wire]:
        """Return what a node's client must run; everything else it must end."""
        self._state.node(node_id)
        return [alloc for alloc in self._state.node_allocs(node_id) if is_live(alloc)]

    def update(self, node_id: str, reports: list[Wire]) -> None:
        """Take a client's reports on its allocations; unknown and finished ones change nothing."""
        if node_id not in self._state.nodes:
            raise not_found("node")
        for report in reports:
            alloc = self._state.allocs.get(report["ID"])
            if alloc is None or alloc["NodeID"] != node_id or alloc["ClientStatus"] in TERMINAL:
                continue
            for name in ("ClientStatus", "ClientDescription", "TaskStates"):
                alloc[name] = report[name]
            is_over = alloc["ClientStatus"] in TERMINAL
            self._state.save_alloc(alloc, is_by_server=is_over)
            if not is_over:
                continue
            self._scheduler.free(alloc)
            if alloc["ClientStatus"] == "failed":
                self._evaluate(alloc["JobID"], "alloc-failure")
            else:
                self._scheduler.settle(alloc["JobID"])


def _add_event(node: Wire, message: str, subsystem: str) -> None:
    event = {
        "Message": message, "Subsystem": subsystem, "Timestamp": _timestamp(), "Details": None,
        "CreateIndex": 0,
    }  # fmt: skip
    node["Events"] = [*node["Events"], event][-_EVENTS_KEPT:]
