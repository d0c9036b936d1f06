"""The servers' tables, with an index that grows with every write, and the topics watchers wait on.

Objects are kept in their wire form. Nothing here decides; see `scheduling` and `nodes`.
"""

import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from emulators.engine.placement import Placement, Quantity
from emulators.engine.records import Records
from emulators.engine.watch import Topics
from emulators.nomad.constraints import facts_of
from emulators.nomad.errors import not_found

Wire = dict[str, Any]
TERMINAL = ("complete", "failed", "lost")


def quantity_of_node(node: Wire) -> Quantity:
    """Return all that a node has."""
    resources = node["NodeResources"]
    return Quantity(
        cpu_mhz=resources["Cpu"]["CpuShares"],
        cores=resources["Cpu"]["TotalCpuCores"],
        memory_mib=resources["Memory"]["MemoryMB"],
        slots=node.get("NodeMaxAllocs") or 1_000_000,
    )


def holds_resources(alloc: Wire) -> bool:
    """Return whether an allocation still occupies its node: until the client says it is over."""
    return bool(alloc["ClientStatus"] not in TERMINAL)


def is_live(alloc: Wire) -> bool:
    """Return whether an allocation runs or shall run."""
    return bool(alloc["DesiredStatus"] == "run" and alloc["ClientStatus"] not in TERMINAL)


class State:
    """Jobs, evaluations, allocations and nodes by id, and the ways between them."""

    def __init__(self, path: Path) -> None:
        self.records = Records(path)
        self.topics = Topics()
        self._load()

    def _load(self) -> None:
        self.index: int = self.records.all("meta").get("index", {}).get("index", 1)
        self.jobs, self.evals, self.allocs, self.nodes = map(
            self._by_age, ("jobs", "evals", "allocs", "nodes")
        )
        self.evals_of_job: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.allocs_of_job: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.allocs_of_node: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.children: dict[tuple[str, str], str] = {}
        self.placement = Placement(place="node.datacenter")
        for eval_ in self.evals.values():
            self.evals_of_job[eval_["JobID"]][eval_["ID"]] = None
        for alloc in self.allocs.values():
            self.allocs_of_job[alloc["JobID"]][alloc["ID"]] = None
            self.allocs_of_node[alloc["NodeID"]][alloc["ID"]] = None
        for job in self.jobs.values():
            self._remember_child(job)
        for table in ("jobs", "evals", "allocs", "nodes"):
            self.topics.touch(table, self.index)

    def _by_age(self, kind: str) -> dict[str, Wire]:
        """Return a table in the order in which its objects were made."""
        found = self.records.all(kind)
        return dict(sorted(found.items(), key=lambda item: item[1]["CreateIndex"]))

    def _remember_child(self, job: Wire) -> None:
        if job["DispatchIdempotencyToken"]:
            self.children[job["ParentID"], job["DispatchIdempotencyToken"]] = job["ID"]

    def seat(self, node: Wire) -> None:
        """Tell placement of a node, with what its allocations leave free."""
        free = quantity_of_node(node)
        for id_ in self.allocs_of_node[node["ID"]]:
            if holds_resources(self.allocs[id_]):
                free -= self.taken_by(self.allocs[id_])
        is_open = node["Status"] == "ready" and node["SchedulingEligibility"] == "eligible"
        self.placement.set_node(node["ID"], facts_of(node), free, is_open)

    def taken_by(self, alloc: Wire) -> Quantity:
        """Return what an allocation occupies."""
        taken = alloc["AllocatedResources"]["Shared"]["Quantity"]
        return Quantity(*taken)

    def job(self, id_: str) -> Wire:
        """Return a job. Raises: NomadError 404."""
        return self._get(self.jobs, id_, "job")

    def node(self, id_: str) -> Wire:
        """Return a node. Raises: NomadError 404."""
        return self._get(self.nodes, id_, "node")

    def alloc(self, id_: str) -> Wire:
        """Return an allocation. Raises: NomadError 404."""
        return self._get(self.allocs, id_, "alloc")

    def eval(self, id_: str) -> Wire:
        """Return an evaluation. Raises: NomadError 404."""
        return self._get(self.evals, id_, "eval")

    @staticmethod
    def _get(table: dict[str, Wire], id_: str, kind: str) -> Wire:
        if id_ not in table:
            raise not_found(kind)
        return table[id_]

    def job_allocs(self, job_id: str) -> list[Wire]:
        """Return a job's allocations, oldest first."""
        return [self.allocs[id_] for id_ in self.allocs_of_job.get(job_id, ())]

    def node_allocs(self, node_id: str) -> list[Wire]:
        """Return a node's allocations, oldest first."""
        return [self.allocs[id_] for id_ in self.allocs_of_node.get(node_id, ())]

    def job_evals(self, job_id: str) -> list[Wire]:
        """Return a job's evaluations, oldest first."""
        return [self.evals[id_] for id_ in self.evals_of_job.get(job_id, ())]

    def save_job(self, job: Wire, *, is_registered: bool = False) -> None:
        """Write a job; `is_registered` when a caller wrote it, not the servers themselves."""
        self._stamp(job)
        if is_registered:
            job["JobModifyIndex"] = self.index
        self.jobs[job["ID"]] = job
        self._remember_child(job)
        self.records.put("jobs", job["ID"], job)
        self._touch("jobs", f"job:{job['ID']}")

    def save_eval(self, eval_: Wire) -> None:
        """Write an evaluation."""
        self._stamp(eval_)
        eval_["ModifyTime"] = time.time_ns()
        self.evals[eval_["ID"]] = eval_
        self.evals_of_job[eval_["JobID"]].setdefault(eval_["ID"])
        self.records.put("evals", eval_["ID"], eval_)
        self._touch("evals", f"eval:{eval_['ID']}", f"job-evals:{eval_['JobID']}")

    def save_alloc(self, alloc: Wire, *, is_by_server: bool) -> None:
        """Write an allocation; `is_by_server` when its node must hear of it."""
        self._stamp(alloc)
        alloc["ModifyTime"] = time.time_ns()
        job_id, node_id = alloc["JobID"], alloc["NodeID"]
        if is_by_server:
            alloc["AllocModifyIndex"] = self.index
        self.allocs[alloc["ID"]] = alloc
        self.allocs_of_job[job_id].setdefault(alloc["ID"])
        self.allocs_of_node[node_id].setdefault(alloc["ID"])
        self.records.put("allocs", alloc["ID"], alloc)
        topics = [
            "allocs",
            f"alloc:{alloc['ID']}",
            f"job-allocs:{job_id}",
            f"node-allocs:{node_id}",
        ]
        if is_by_server:
            topics.append(f"client:{node_id}")
        self._touch(*topics, f"summary:{job_id}")

    def save_node(self, node: Wire) -> None:
        """Write a node."""
        self._stamp(node)
        self.nodes[node["ID"]] = node
        self.records.put("nodes", node["ID"], node)
        self._touch("nodes", f"node:{node['ID']}")

    def drop_node(self, node_id: str) -> None:
        """Forget a node."""
        del self.nodes[node_id]
        self.allocs_of_node.pop(node_id, None)
        self.records.drop("nodes", node_id)
        self.placement.remove_node(node_id)
        self.index += 1
        self._touch("nodes", f"node:{node_id}")

    def drop_job(self, job_id: str) -> None:
        """Forget a job, but not its evaluations and allocations."""
        job = self.jobs.pop(job_id)
        self.children.pop((job["ParentID"], job["DispatchIdempotencyToken"]), None)
        self.records.drop("jobs", job_id)
        self.index += 1
        self._touch("jobs", f"job:{job_id}")

    def drop_eval(self, eval_id: str) -> None:
        """Forget an evaluation."""
        eval_ = self.evals.pop(eval_id)
        self.evals_of_job[eval_["JobID"]].pop(eval_id)
        self.records.drop("evals", eval_id)
        self.index += 1
        self._touch("evals", f"job-evals:{eval_['JobID']}")
        self.topics.forget(f"eval:{eval_id}")

    def drop_alloc(self, alloc_id: str) -> None:
        """Forget an allocation."""
        alloc = self.allocs.pop(alloc_id)
        self.allocs_of_job[alloc["JobID"]].pop(alloc_id)
        self.allocs_of_node.get(alloc["NodeID"], {}).pop(alloc_id, None)
        self.records.drop("allocs", alloc_id)
        self.index += 1
        self._touch("allocs", f"job-allocs:{alloc['JobID']}", f"node-allocs:{alloc['NodeID']}")
        self.topics.forget(f"alloc:{alloc_id}")

    def forget_topics(self, job_id: str) -> None:
        """Drop the topics of a job that is gone with all that belonged to it."""
        for topic in ("job", "job-evals", "job-allocs", "summary"):
            self.topics.forget(f"{topic}:{job_id}")
        self.evals_of_job.pop(job_id, None)
        self.allocs_of_job.pop(job_id, None)

    def _stamp(self, document: Wire) -> None:
        self.index += 1
        document.setdefault("CreateIndex", self.index)
        document["ModifyIndex"] = self.index

    def _touch(self, *topics: str) -> None:
        for topic in topics:
            self.topics.touch(topic, self.index)
        self.records.put("meta", "index", {"index": self.index})

    def flush(self) -> None:
        """Make everything written so far survive the process."""
        self.records.flush()

    def clear(self) -> None:
        """Forget everything; the index goes on, so that watchers notice."""
        index = self.index + 1
        self.records.clear()
        self.records.put("meta", "index", {"index": index})
        self.records.flush()
        self.topics.touch_all(index)
        self._load()


def new_id() -> str:
    """Return an id as Nomad makes them."""
    return str(uuid.uuid4())
