"""Nomad's HTTP API: what it promises to a driver, with nodes that this test plays itself."""

import base64
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.emulators.farm import StandIn, stand_in
from tests.waiting import until

SECOND = 1_000_000_000
Wire = dict[str, Any]


class Nomad(StandIn):
    """The stand-in, and nodes which do what the test says."""

    def register(self, job: Wire, **more: Any) -> requests.Response:
        return requests.post(self.url + "/v1/jobs", json={"Job": job, **more}, timeout=10)

    def put(self, path: str, body: object = None) -> Any:
        reply = requests.put(self.url + path, json=body, timeout=10)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def node(self, name: str = "n1", **given: Any) -> str:
        """Register a node; return its id."""
        node = {
            "ID": str(uuid.uuid4()), "Name": name, "Datacenter": "zone-a",
            "NodeClass": "n1-standard-4", "NodePool": "default",
            "Attributes": {"driver.raw_exec": "1"},
            "Meta": {"instance_type": "n1-standard-4", "preemptible": "true"},
            "Drivers": {}, "NodeMaxAllocs": 1,
            "NodeResources": {
                "Cpu": {"CpuShares": 8000, "TotalCpuCores": 4}, "Memory": {"MemoryMB": 15000},
            },
            **given,
        }  # fmt: skip
        self.put("/v1/client/register", {"Node": node})
        return str(node["ID"])

    def work(self, node_id: str) -> list[str]:
        """Return the jobs that a node must run."""
        return [alloc["JobID"] for alloc in self.get(f"/v1/client/{node_id}/allocations")]

    def report(self, job_id: str, status: str) -> None:
        """Have the node of a job's newest allocation report `status`."""
        alloc = self.allocs(job_id)[-1]
        report = {
            "ID": alloc["ID"], "ClientStatus": status, "ClientDescription": "", "TaskStates": {},
        }  # fmt: skip
        self.put(f"/v1/client/{alloc['NodeID']}/update", {"Allocs": [report]})

    def allocs(self, job_id: str) -> list[Wire]:
        return list(self.get(f"/v1/job/{job_id}/allocations"))

    def statuses(self, job_id: str) -> list[str]:
        return [alloc["ClientStatus"] for alloc in self.allocs(job_id)]

    def refusal(self, path: str, method: str = "GET", body: object = None) -> tuple[int, str]:
        reply = requests.request(method, self.url + path, json=body, timeout=10)
        return reply.status_code, reply.text


def a_task(**given: Any) -> Wire:
    """A task as Baton's driver writes it."""
    return {
        "Name": "render", "Driver": "raw_exec", "Config": {"command": "baton-agent"},
        "Resources": {"Cores": 4, "MemoryMB": 1000}, "KillTimeout": 20 * SECOND, **given,
    }  # fmt: skip


def a_job(id_: str = "acme-00012-017-1", **given: Any) -> Wire:
    """A job as Baton's driver registers it."""
    group = {
        "Name": "attempt", "Count": 1, "Tasks": [a_task()],
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        **given.pop("group", {}),
    }  # fmt: skip
    return {
        "ID": id_, "Type": "batch", "Datacenters": ["zone-a", "zone-b"], "TaskGroups": [group],
        "Constraints": [
            {"LTarget": "${meta.instance_type}", "Operand": "=", "RTarget": "n1-standard-4"},
        ],
        **given,
    }  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nomad]:
    nomad = Nomad("emulators.nomad", tmp_path_factory.mktemp("nomad"))
    with stand_in(nomad):
        yield nomad


@pytest.fixture
def nomad(started: Nomad) -> Nomad:
    started.post("/reset")
    return started


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Nomad]:
    """A server that soon gives nodes up."""
    nomad = Nomad("emulators.nomad", tmp_path, "--heartbeat-ttl-s", "0.3")
    with stand_in(nomad):
        yield nomad


def test_a_job_is_registered_once_by_compare_and_set(nomad: Nomad) -> None:
    first = nomad.register(a_job(), EnforceIndex=True, JobModifyIndex=0)
    assert first.status_code == 200
    index = first.json()["JobModifyIndex"]
    again = nomad.register(a_job(), EnforceIndex=True, JobModifyIndex=0)
    assert (again.status_code, again.text) == (
        500, "Enforcing job modify index 0: job already exists",
    )  # fmt: skip
    stale = nomad.register(a_job(Priority=60), EnforceIndex=True, JobModifyIndex=index + 7)
    assert stale.text == (
        f"Enforcing job modify index {index + 7}: job exists with conflicting job modify index: "
        f"{index}"
    )
    absent = nomad.register(a_job("other"), EnforceIndex=True, JobModifyIndex=3)
    assert absent.text == "Enforcing job modify index 3: job does not exist"
    changed = nomad.register(a_job(Priority=60), EnforceIndex=True, JobModifyIndex=index)
    assert changed.status_code == 200
    assert nomad.get("/v1/job/acme-00012-017-1")["Version"] == 1


@pytest.mark.parametrize(
    ("job", "status", "text"),
    [
        (None, 400, "Job must be specified"),
        ({"Type": "batch"}, 400, "Job ID hasn't been provided"),
        (a_job(TaskGroups=[]), 500, "Missing job task groups"),
        (a_job(Type="service"), 500, "batch"),
        (a_job(Priority=101), 500, "Job priority must be between [1, 100]"),
        (a_job(group={"Tasks": []}), 500, "Missing tasks for task group"),
        (a_job(Constraints=[{"Operand": "about"}]), 500, "Unknown constraint type"),
        (a_job(group={"Tasks": [a_task(Env={"A": 1})]}), 500, "Env must map strings to strings"),
        (a_job(group={"Tasks": [a_task(KillSignal="SIGWHAT")]}), 500, "unknown signal"),
        (
            a_job(group={"Tasks": [a_task(Resources={"MemoryMB": 500, "MemoryMaxMB": 400})]}),
            500,
            "MemoryMaxMB must not be less than MemoryMB",
        ),
        (a_job(group={"Tasks": [a_task(Resources={"Cores": "4"})]}), 500, "Cores must be a whole"),
        (a_job(group={"Tasks": [a_task(Config={"command": 7})]}), 500, "missing command"),
    ],
)
def test_a_job_that_cannot_run_is_refused_and_not_kept(
    nomad: Nomad, job: Wire | None, status: int, text: str
) -> None:
    reply = requests.post(nomad.url + "/v1/jobs", json={"Job": job}, timeout=10)
    assert reply.status_code == status
    assert text in reply.text
    assert nomad.get("/v1/jobs") == []


def test_bodies_that_are_not_what_they_should_be_are_refused(nomad: Nomad) -> None:
    for body in (b"{", b"[]", b'{"Job": {"ID": "x", "Type": "batch", "TaskGroups": [7]}}'):
        reply = requests.post(nomad.url + "/v1/jobs", data=body, timeout=10)
        assert reply.status_code == 400, (body, reply.text)
    assert nomad.get("/v1/jobs") == []


def test_a_body_may_come_in_chunks_on_a_connection_that_is_kept(nomad: Nomad) -> None:
    with requests.Session() as session:
        for number in range(3):
            text = json.dumps({"Job": a_job(f"job-{number}")}).encode()
            reply = session.post(nomad.url + "/v1/jobs", data=iter([text[:7], text[7:]]), timeout=5)
            assert (reply.status_code, reply.headers["Connection"]) == (200, "keep-alive")
    assert len(nomad.get("/v1/jobs")) == 3


def test_what_is_no_http_is_refused(nomad: Nomad) -> None:
    port = int(nomad.url.rpartition(":")[2])
    for raw in (b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(raw)
            assert connection.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_job_without_a_node_waits_and_says_why(nomad: Nomad) -> None:
    node_id = nomad.node(Meta={"instance_type": "n1-standard-8"})
    nomad.register(a_job())
    assert nomad.get("/v1/job/acme-00012-017-1")["Status"] == "pending"
    registered, blocked = nomad.get("/v1/job/acme-00012-017-1/evaluations")
    assert registered["Status"] == "complete"
    assert registered["TriggeredBy"] == "job-register"
    assert registered["BlockedEval"] == blocked["ID"]
    assert registered["QueuedAllocations"] == {"attempt": 1}
    metrics = registered["FailedTGAllocs"]["attempt"]
    assert metrics["NodesEvaluated"] == metrics["NodesFiltered"] == 1
    assert metrics["ConstraintFiltered"] == {"${meta.instance_type} = n1-standard-4": 1}
    assert (blocked["Status"], blocked["TriggeredBy"]) == ("blocked", "queued-allocs")
    assert blocked["PreviousEval"] == registered["ID"]
    summary = nomad.get("/v1/job/acme-00012-017-1/summary")
    assert summary["Summary"]["attempt"]["Queued"] == 1
    assert nomad.work(node_id) == []


def test_a_waiting_job_is_placed_as_soon_as_a_node_joins(nomad: Nomad) -> None:
    nomad.register(a_job())
    node_id = nomad.node()
    assert nomad.work(node_id) == ["acme-00012-017-1"]
    statuses = {e["Status"] for e in nomad.get("/v1/job/acme-00012-017-1/evaluations")}
    assert statuses == {"complete"}
    alloc = nomad.allocs("acme-00012-017-1")[0]
    assert (alloc["NodeName"], alloc["ClientStatus"]) == ("n1", "pending")
    assert nomad.get("/v1/job/acme-00012-017-1")["Status"] == "running"


def test_a_node_runs_one_job_at_a_time_and_takes_the_most_urgent_next(nomad: Nomad) -> None:
    node_id = nomad.node()
    for name, priority in (("first", 50), ("second", 50), ("third", 50), ("urgent", 90)):
        nomad.register(a_job(name, Priority=priority))
    order = []
    for _ in range(4):
        (name,) = nomad.work(node_id)
        order.append(name)
        nomad.report(name, "running")
        nomad.report(name, "complete")
    assert order == ["first", "urgent", "second", "third"]
    assert {job["Status"] for job in nomad.get("/v1/jobs")} == {"dead"}


def test_resources_decide_where_several_allocations_are_allowed(nomad: Nomad) -> None:
    node_id = nomad.node(NodeMaxAllocs=10)
    for number in range(5):
        resources = {"CPU": 3000, "MemoryMB": 1000}
        nomad.register(a_job(f"job-{number}", group={"Tasks": [a_task(Resources=resources)]}))
    assert nomad.work(node_id) == ["job-0", "job-1"]
    evaluation = nomad.get("/v1/job/job-2/evaluations")[0]
    metrics = evaluation["FailedTGAllocs"]["attempt"]
    assert metrics["DimensionExhausted"] == {"cpu": 1}
    assert metrics["NodesExhausted"] == 1


@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_with_no_attempts_left_a_finished_job_is_never_run_again(
    nomad: Nomad, outcome: str
) -> None:
    node_id = nomad.node()
    nomad.register(a_job())
    nomad.report("acme-00012-017-1", outcome)
    assert nomad.work(node_id) == []
    assert nomad.statuses("acme-00012-017-1") == [outcome]
    assert nomad.get("/v1/job/acme-00012-017-1")["Status"] == "dead"


def test_a_failed_allocation_is_rescheduled_as_often_as_its_policy_says(nomad: Nomad) -> None:
    node_id = nomad.node()
    policy = {"Attempts": 1, "Interval": 3600 * SECOND, "Delay": SECOND // 10, "Unlimited": False}
    nomad.register(a_job(group={"ReschedulePolicy": policy}))
    nomad.report("acme-00012-017-1", "failed")
    until(lambda: nomad.work(node_id) == ["acme-00012-017-1"])
    first, second = nomad.allocs("acme-00012-017-1")
    assert (first["NextAllocation"], second["PreviousAllocation"]) == (second["ID"], first["ID"])
    nomad.report("acme-00012-017-1", "failed")
    assert nomad.statuses("acme-00012-017-1") == ["failed", "failed"]
    assert nomad.get("/v1/job/acme-00012-017-1")["Status"] == "dead"


def test_a_late_report_on_a_finished_allocation_changes_nothing(nomad: Nomad) -> None:
    nomad.node()
    nomad.register(a_job())
    nomad.report("acme-00012-017-1", "complete")
    nomad.report("acme-00012-017-1", "running")
    assert nomad.statuses("acme-00012-017-1") == ["complete"]


def test_a_stopped_job_is_taken_from_its_node_and_from_the_queue(nomad: Nomad) -> None:
    node_id = nomad.node()
    nomad.register(a_job("running"))
    nomad.register(a_job("waiting"))
    for name in ("waiting", "running"):
        reply = requests.delete(f"{nomad.url}/v1/job/{name}", timeout=10)
        assert reply.json()["EvalID"]
        job = nomad.get(f"/v1/job/{name}")
        assert (job["Stop"], job["Status"]) == (True, "dead")
    assert nomad.work(node_id) == []
    alloc = nomad.allocs("running")[0]
    assert (alloc["DesiredStatus"], alloc["ClientStatus"]) == ("stop", "pending")
    nomad.report("running", "complete")
    assert nomad.work(node_id) == []
    assert {e["Status"] for e in nomad.get("/v1/job/waiting/evaluations")} == {
        "complete", "canceled",
    }  # fmt: skip


def test_a_purged_job_is_gone_and_its_id_is_free(nomad: Nomad) -> None:
    nomad.register(a_job())
    requests.delete(f"{nomad.url}/v1/job/acme-00012-017-1?purge=true", timeout=10)
    assert nomad.refusal("/v1/job/acme-00012-017-1") == (404, "job not found")
    assert nomad.register(a_job(), EnforceIndex=True, JobModifyIndex=0).status_code == 200


def test_stopping_a_job_that_does_not_exist_is_no_error(nomad: Nomad) -> None:
    reply = requests.delete(f"{nomad.url}/v1/job/ghost", timeout=10)
    assert (reply.status_code, reply.json()["EvalID"]) == (200, "")


def test_a_stopped_allocation_is_replaced(nomad: Nomad) -> None:
    nomad.node()
    nomad.register(a_job())
    first = nomad.allocs("acme-00012-017-1")[0]["ID"]
    other = nomad.node("n2")
    nomad.post(f"/v1/allocation/{first}/stop")
    assert nomad.work(other) == ["acme-00012-017-1"]
    assert nomad.get(f"/v1/allocation/{first}")["DesiredStatus"] == "stop"


def test_a_drained_node_takes_nothing_and_moves_its_work_at_the_deadline(nomad: Nomad) -> None:
    node_id, other = nomad.node(), nomad.node("n2")
    nomad.register(a_job())
    spec = {"DrainSpec": {"Deadline": SECOND // 2, "IgnoreSystemJobs": True}}
    nomad.post(f"/v1/node/{node_id}/drain", spec)
    nomad.register(a_job("second"))
    nomad.register(a_job("third"))
    node = nomad.get(f"/v1/node/{node_id}")
    assert (node["Drain"], node["SchedulingEligibility"]) == (True, "ineligible")
    assert nomad.work(node_id) == ["acme-00012-017-1"], "batch work may go on until the deadline"
    assert nomad.work(other) == ["second"]
    until(lambda: nomad.work(node_id) == [])
    alloc = nomad.allocs("acme-00012-017-1")[0]
    assert alloc["DesiredTransition"]["Migrate"] is True
    report = {
        "ID": alloc["ID"], "ClientStatus": "complete", "ClientDescription": "", "TaskStates": {},
    }  # fmt: skip
    nomad.put(f"/v1/client/{node_id}/update", {"Allocs": [report]})
    until(lambda: nomad.get(f"/v1/node/{node_id}")["DrainStrategy"] is None)
    assert nomad.get(f"/v1/node/{node_id}")["SchedulingEligibility"] == "ineligible"


def test_an_idle_node_is_drained_at_once_and_can_be_taken_back(nomad: Nomad) -> None:
    node_id = nomad.node()
    nomad.post(f"/v1/node/{node_id}/drain", {"DrainSpec": {"Deadline": 60 * SECOND}})
    assert nomad.get(f"/v1/node/{node_id}")["LastDrain"]["Status"] == "complete"
    nomad.register(a_job())
    assert nomad.work(node_id) == []
    nomad.post(f"/v1/node/{node_id}/drain", {"DrainSpec": None, "MarkEligible": True})
    assert nomad.work(node_id) == ["acme-00012-017-1"]


def test_an_ineligible_node_keeps_its_work_and_gets_no_more(nomad: Nomad) -> None:
    node_id = nomad.node()
    nomad.register(a_job("running"))
    path = f"/v1/node/{node_id}/eligibility"
    nomad.post(path, {"Eligibility": "ineligible"})
    nomad.register(a_job("waiting"))
    assert nomad.work(node_id) == ["running"]
    nomad.report("running", "complete")
    assert nomad.work(node_id) == []
    nomad.post(path, {"Eligibility": "eligible"})
    assert nomad.work(node_id) == ["waiting"]
    assert nomad.refusal(path, "POST", {"Eligibility": "perhaps"})[0] == 400


def test_a_node_without_heartbeats_is_down_and_its_work_is_lost_and_replaced(hasty: Nomad) -> None:
    node_id = hasty.node()
    hasty.register(a_job())
    hasty.report("acme-00012-017-1", "running")
    until(lambda: hasty.get(f"/v1/node/{node_id}")["Status"] == "down")
    assert hasty.statuses("acme-00012-017-1") == ["lost"]
    assert hasty.allocs("acme-00012-017-1")[0]["DesiredStatus"] == "stop"
    assert hasty.get("/v1/job/acme-00012-017-1")["Status"] == "pending"
    other = hasty.node("n2")
    assert hasty.work(other) == ["acme-00012-017-1"], (
        "as Nomad does, whatever ReschedulePolicy says"
    )


@pytest.mark.parametrize(
    "group", [{"PreventRescheduleOnLost": True}, {"Disconnect": {"Replace": False}}]
)
def test_work_that_must_not_be_replaced_is_unknown_while_its_node_is_down(
    hasty: Nomad, group: Wire
) -> None:
    node_id = hasty.node()
    hasty.register(a_job(group=group))
    hasty.report("acme-00012-017-1", "running")
    until(lambda: hasty.get(f"/v1/node/{node_id}")["Status"] == "down")
    assert hasty.statuses("acme-00012-017-1") == ["unknown"]
    assert hasty.work(hasty.node("n2")) == []
    hasty.put(f"/v1/client/{node_id}/heartbeat")
    assert hasty.statuses("acme-00012-017-1") == ["running"]
    assert hasty.work(node_id) == ["acme-00012-017-1"]


def test_unknown_work_is_lost_when_its_node_is_purged(hasty: Nomad) -> None:
    node_id = hasty.node()
    hasty.register(a_job(group={"PreventRescheduleOnLost": True}))
    until(lambda: hasty.statuses("acme-00012-017-1") == ["unknown"])
    hasty.post(f"/v1/node/{node_id}/purge")
    assert hasty.statuses("acme-00012-017-1") == ["lost"]
    assert hasty.get("/v1/job/acme-00012-017-1")["Status"] == "dead"


def test_a_purged_node_is_gone_and_its_work_lost(nomad: Nomad) -> None:
    node_id = nomad.node()
    nomad.register(a_job())
    nomad.post(f"/v1/node/{node_id}/purge")
    assert nomad.refusal(f"/v1/node/{node_id}") == (404, "node not found")
    assert nomad.statuses("acme-00012-017-1") == ["lost"]


def test_a_blocking_query_returns_when_what_it_asks_for_changes(nomad: Nomad) -> None:
    nomad.node()
    nomad.register(a_job())
    reply = requests.get(nomad.url + "/v1/job/acme-00012-017-1/allocations", timeout=10)
    index = reply.headers["X-Nomad-Index"]
    found: list[requests.Response] = []

    def ask() -> None:
        path = f"/v1/job/acme-00012-017-1/allocations?index={index}&wait=20s"
        found.append(requests.get(nomad.url + path, timeout=30))

    asking = threading.Thread(target=ask)
    asking.start()
    nomad.register(a_job("another"))  # does not concern it
    assert not found
    nomad.report("acme-00012-017-1", "running")
    asking.join(10)
    assert found[0].json()[0]["ClientStatus"] == "running"
    assert int(found[0].headers["X-Nomad-Index"]) > int(index)


def test_a_blocking_query_returns_after_its_wait_when_nothing_changes(nomad: Nomad) -> None:
    index = requests.get(nomad.url + "/v1/jobs", timeout=10).headers["X-Nomad-Index"]
    start = time.monotonic()
    reply = requests.get(f"{nomad.url}/v1/jobs?index={index}&wait=300ms", timeout=10)
    assert reply.json() == []
    assert reply.headers["X-Nomad-Index"] == index
    assert time.monotonic() - start >= 0.3
    assert nomad.refusal(f"/v1/jobs?index={index}&wait=soon")[0] == 400


def test_a_blocking_query_on_a_job_that_does_not_exist_yet_sees_it_come(nomad: Nomad) -> None:
    index = requests.get(nomad.url + "/v1/jobs", timeout=10).headers["X-Nomad-Index"]
    found: list[requests.Response] = []
    path = f"/v1/job/acme-00012-017-1?index={index}&wait=20s"
    asking = threading.Thread(
        target=lambda: found.append(requests.get(nomad.url + path, timeout=30))
    )
    asking.start()
    nomad.register(a_job())
    asking.join(10)
    assert found[0].json()["ID"] == "acme-00012-017-1"


def test_jobs_are_listed_by_prefix_and_in_pages(nomad: Nomad) -> None:
    for number in range(5):
        nomad.register(a_job(f"acme-{number}", Meta={"n": str(number)}))
    nomad.register(a_job("other"))
    listed = nomad.get("/v1/jobs", prefix="acme-", meta="true")
    assert [(job["ID"], job["Meta"]["n"]) for job in listed] == [
        (f"acme-{n}", str(n)) for n in range(5)
    ]
    pages, token = [], ""
    while True:
        query = {"prefix": "acme-", "per_page": "2", "next_token": token}
        reply = requests.get(nomad.url + "/v1/jobs", params=query, timeout=10)
        pages.append([job["ID"] for job in reply.json()])
        if not (token := reply.headers.get("X-Nomad-Nexttoken", "")):
            break
    assert pages == [["acme-0", "acme-1"], ["acme-2", "acme-3"], ["acme-4"]]


def test_a_page_begins_where_it_should_though_its_first_job_has_gone(nomad: Nomad) -> None:
    for number in range(4):
        nomad.register(a_job(f"acme-{number}"))
    token = requests.get(nomad.url + "/v1/jobs?per_page=2", timeout=10).headers["X-Nomad-Nexttoken"]
    requests.delete(f"{nomad.url}/v1/job/{token}?purge=true", timeout=10)
    assert [job["ID"] for job in nomad.get("/v1/jobs", per_page=2, next_token=token)] == ["acme-3"]


def test_allocations_are_listed_in_pages_with_or_without_task_states(nomad: Nomad) -> None:
    for number in range(3):
        nomad.node(f"n{number}")
        nomad.register(a_job(f"job-{number}"))
    first = requests.get(nomad.url + "/v1/allocations?per_page=2", timeout=10)
    rest = nomad.get("/v1/allocations", per_page=2, next_token=first.headers["X-Nomad-Nexttoken"])
    assert [a["JobID"] for a in first.json() + rest] == ["job-0", "job-1", "job-2"]
    (one,) = nomad.get("/v1/allocations", prefix=rest[0]["ID"][:8], task_states="false")
    assert one["JobID"] == "job-2"
    assert "TaskStates" not in one
    assert nomad.refusal("/v1/allocations?prefix=abc")[0] == 500


def test_nodes_are_listed_with_what_a_driver_needs(nomad: Nomad) -> None:
    node_id = nomad.node("farm-7")
    (node,) = nomad.get("/v1/nodes", resources="true", prefix=node_id[:8])
    assert (node["Name"], node["Datacenter"], node["Status"]) == ("farm-7", "zone-a", "ready")
    assert node["SchedulingEligibility"] == "eligible"
    assert node["NodeResources"]["Memory"]["MemoryMB"] == 15000
    nomad.register(a_job())
    (alloc,) = nomad.get(f"/v1/node/{node_id}/allocations")
    assert alloc["Job"]["ID"] == "acme-00012-017-1"
    assert nomad.refusal("/v1/node/ghost/allocations") == (404, "node not found")


def test_a_dispatch_makes_one_child_for_each_token(nomad: Nomad) -> None:
    node_id = nomad.node()
    rules = {"Payload": "optional", "MetaRequired": ["frame"], "MetaOptional": ["show"]}
    nomad.register(a_job("render", ParameterizedJob=rules))
    assert nomad.get("/v1/job/render")["Status"] == "running"
    payload = base64.b64encode(b"scene").decode()
    body = {"Payload": payload, "Meta": {"frame": "7"}}
    path = "/v1/job/render/dispatch?idempotency_token=acme-1"
    child = nomad.post(path, body)["DispatchedJobID"]
    assert nomad.post(path, body)["DispatchedJobID"] == child
    assert child.startswith("render/dispatch-")
    assert nomad.work(node_id) == [child]
    job = nomad.get(f"/v1/job/{child}")
    assert (job["Meta"], job["ParentID"], job["Dispatched"]) == ({"frame": "7"}, "render", True)
    assert [a["JobID"] for a in nomad.allocs(child)] == [child], "ids may hold a slash"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Meta": {}}, "Dispatch did not provide required meta keys: [frame]"),
        ({"Meta": {"frame": "1", "x": "1"}}, "unpermitted metadata keys: [x]"),
        (
            {"Meta": {"frame": "1"}, "Payload": base64.b64encode(bytes(16385)).decode()},
            "Payload exceeds maximum size; 16385 > 16384",
        ),
    ],
)
def test_a_dispatch_that_breaks_the_rules_is_refused(nomad: Nomad, body: Wire, text: str) -> None:
    nomad.register(a_job("render", ParameterizedJob={"MetaRequired": ["frame"]}))
    status, message = nomad.refusal("/v1/job/render/dispatch", "POST", body)
    assert status == 500
    assert text in message
    assert [job["ID"] for job in nomad.get("/v1/jobs")] == ["render"]


def test_everything_survives_kill_9(tmp_path: Path) -> None:
    nomad = Nomad("emulators.nomad", tmp_path)
    with stand_in(nomad):
        node_id = nomad.node()
        for number in range(5):
            nomad.register(a_job(f"done-{number}"))
            nomad.report(f"done-{number}", "complete")
        nomad.register(a_job("running"))
        nomad.register(a_job("low", Priority=40))
        nomad.register(a_job("high", Priority=70))
        nomad.report("running", "running")
        before = {path: nomad.get(path) for path in ("/v1/jobs", "/v1/allocations", "/v1/nodes")}
        index = requests.get(nomad.url + "/v1/jobs", timeout=10).headers["X-Nomad-Index"]
        nomad.kill()
        nomad.start()
        assert {path: nomad.get(path) for path in before} == before
        nomad.put(f"/v1/client/{node_id}/heartbeat")
        assert nomad.work(node_id) == ["running"]
        nomad.report("running", "complete")
        assert nomad.work(node_id) == ["high"], "what waited still waits, in its order"
        later = requests.get(nomad.url + "/v1/jobs", timeout=10).headers["X-Nomad-Index"]
        assert int(later) > int(index)


def test_a_token_is_demanded_where_one_is_set(tmp_path: Path) -> None:
    nomad = Nomad("emulators.nomad", tmp_path, "--token", "secret")
    with stand_in(nomad):
        assert nomad.refusal("/v1/jobs") == (403, "Permission denied")
        for headers in ({"X-Nomad-Token": "secret"}, {"Authorization": "Bearer secret"}):
            reply = requests.get(nomad.url + "/v1/jobs", headers=headers, timeout=10)
            assert reply.status_code == 200
        wrong = {"X-Nomad-Token": "guess"}
        assert requests.get(nomad.url + "/v1/jobs", headers=wrong, timeout=10).status_code == 403
        assert nomad.get("/v1/agent/health")["server"]["ok"] is True


def test_garbage_is_collected_when_asked_and_nothing_else_is(nomad: Nomad) -> None:
    nomad.node()
    for name in ("over", "running"):
        nomad.register(a_job(name))
        if name == "over":
            nomad.report(name, "complete")
    requests.put(nomad.url + "/v1/system/gc", timeout=10)
    assert [job["ID"] for job in nomad.get("/v1/jobs")] == ["running"]
    assert [alloc["JobID"] for alloc in nomad.get("/v1/allocations")] == ["running"]
    assert nomad.allocs("over") == []


def test_dead_jobs_are_collected_when_they_are_old(tmp_path: Path) -> None:
    nomad = Nomad("emulators.nomad", tmp_path, "--job-gc-s", "0.2", "--gc-interval-s", "0.1")
    with stand_in(nomad):
        nomad.node()
        nomad.register(a_job())
        nomad.report("acme-00012-017-1", "failed")
        until(lambda: nomad.get("/v1/jobs") == [])


def test_calls_fail_for_as_long_as_ordered(nomad: Nomad) -> None:
    nomad.post("/faults", {"calls": 2, "status": 500, "path": "^/v1/jobs$", "method": "POST"})
    nomad.post("/faults", {"calls": 1, "status": 429, "path": "^/v1/nodes"})
    assert [nomad.register(a_job()).status_code for _ in range(3)] == [500, 500, 200]
    assert nomad.refusal("/v1/nodes")[0] == 429
    assert nomad.get("/faults") == []
    assert nomad.refusal("/faults", "POST", {"calls": 0})[0] == 400


def test_a_delayed_call_goes_on_at_once_when_faults_are_cleared(nomad: Nomad) -> None:
    nomad.post("/faults", {"calls": 1, "delay_s": 3600, "path": "^/v1/nodes"})
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(nomad.get, "/v1/nodes")
        until(lambda: nomad.get("/faults") == [])
        assert not answer.done()
        requests.delete(nomad.url + "/faults", timeout=10).raise_for_status()
        assert answer.result() == []


def test_what_is_not_offered_says_so(nomad: Nomad) -> None:
    assert nomad.refusal("/v1/jobs?filter=x")[0] == 501
    assert nomad.refusal("/v1/nothing")[0] == 404
    assert nomad.refusal("/v1/nodes", "DELETE")[0] == 405
