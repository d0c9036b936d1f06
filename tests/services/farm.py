"""A farm for tests of dispatch and billing: an account, its orchestrator, and all that can be done to them.

The test plays Pub/Sub's pushes, the agents and the clock; nothing comes by itself.
"""

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from flask import Flask

from emulators.up.client import Stack
from shared import wiring
from shared.models.account import Account
from shared.models.farm import Orchestrator, Placement
from shared.models.job import AttemptRef, Block, Job, JobRef, TaskRef
from shared.models.task import TASKS_PER_PAGE, Page, Task
from shared.ports import Ports, Scheduler
from shared.services.admit import admit
from shared.services.attempts import blob_name, spec_name
from shared.services.audit import audit
from shared.services.control import PAGES_TOGETHER
from shared.services.expand import payload_name
from shared.services.inputs import input_list, inputs_name
from shared.services.sweep import ask_to_sweep, cancel_stale, sweep_jobs, sweep_pages
from tests.builders import a_job
from tests.md5 import md5_of
from tests.services.agent import INSTANCE, ZONE, Agent
from tests.services.rig import PROJECT, TOPICS, Inbox, Message, Rig


@dataclass(kw_only=True)
class Farm:
    """An account, and an orchestrator that nobody else's jobs run at."""

    stack: Stack
    apps: Mapping[str, Flask]
    inbox: Inbox
    account_id: str = field(default_factory=lambda: f"studio-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.limit(10)
        self.save_orchestrator()

    # What there is

    @property
    def instance_type(self) -> str:
        return f"type-of-{self.account_id}"

    @property
    def ports(self) -> Ports:
        return wiring.ports()

    def ports_in(self, **after: float) -> Ports:
        """Return the ports of a farm whose clock is ahead by so many `seconds`, `minutes`..."""
        ahead = timedelta(**after)
        return replace(self.ports, now=lambda: wiring.now() + ahead)

    @property
    def scheduler(self) -> Scheduler:
        return wiring.scheduler(wiring.orchestrator_store().orchestrator(self.account_id))

    def save_orchestrator(self, **fields: Any) -> None:
        known = Orchestrator(
            orchestrator_id=self.account_id,
            scheduler="nomad",
            scheduler_address=self.stack.url("nomad"),
            fleet="gce",
            project="render",
            region="us-central1",
            zones={ZONE: True},
            instance_types=(self.instance_type,),
        )
        wiring.orchestrator_store().save_orchestrator(replace(known, **fields))

    def limit(self, max_instances: int) -> None:
        """Let the account run so many instances."""
        account = Account(account_id=self.account_id, name="Otter", max_instances=max_instances)
        wiring.account_store().save_account(account)

    # Jobs

    def create(
        self,
        task_count: int = 1,
        *,
        scouts: Sequence[int] = (),
        inputs: Mapping[str, bytes] | None = None,
        **fields: Any,
    ) -> JobRef:
        """Store a job as a submission leaves it behind, before any message has come."""
        job_id = self.ports.jobs.allocate_job_id(self.account_id)
        lines = [
            json.dumps({"command": f"render {i}", "frames": str(i), "scout": i in scouts}) + "\n"
            for i in range(task_count)
        ]
        given: dict[str, Any] = {
            "account_id": self.account_id,
            "job_id": job_id,
            "created_at": wiring.now(),
            "task_count": task_count,
            "instance_type": self.instance_type,
            "scout_task_ids": tuple(f"{i:03}" for i in scouts),
            "scouts_pending": bool(scouts),
            "blocks": _blocks(lines),
        }
        job = a_job(**given | fields)
        blobs = self.ports.blobs
        blobs.write(payload_name(job.ref), "".join(lines).encode(), "application/jsonl")
        spec: dict[str, Any] = {"environment": {"A": "B"}, "inputs": self.upload(inputs or {})}
        blobs.write(spec_name(job), json.dumps(spec).encode(), "application/json")
        blobs.write(inputs_name(job.ref), input_list(spec["inputs"]), "text/plain")
        self.ports.jobs.create_job(job)
        return job.ref

    def upload(self, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
        """Store the account's files; returns them as a spec lists them."""
        listed = []
        for path, content in files.items():
            name = blob_name(self.account_id, md5_of(content))
            self.ports.blobs.write(name, content, "application/octet-stream")
            listed.append({"path": path, "md5": md5_of(content), "size": len(content)})
        return listed

    def submit(self, task_count: int = 1, **named: Any) -> JobRef:
        """Create a job and have its tasks written; those that may start are at the scheduler then."""
        ref = self.create(task_count, **named)
        assert self.expand(ref) == 204
        return ref

    def expand(self, ref: JobRef, first_page: int = 0, page_count: int = PAGES_TOGETHER) -> int:
        return self.push("expand", ref, first_page=first_page, page_count=page_count)

    def job(self, ref: JobRef) -> Job:
        return self.ports.jobs.job(ref)

    def page(self, ref: JobRef, number: int = 0) -> Page:
        return self.ports.jobs.page(ref, number)

    def task(self, ref: JobRef, task_id: str = "000") -> Task:
        return self.ports.jobs.task(TaskRef(*ref, task_id))

    def tasks(self, ref: JobRef) -> list[Task]:
        ids = [f"{i:03}" for i in range(self.job(ref).task_count)]
        return self.ports.jobs.tasks(ref, ids)

    def ledger(self) -> list[tuple[str, str, int]]:
        """Return task and attempt, outcome and minutes of all entries."""
        entries = wiring.firestore_client().collection(f"accounts/{self.account_id}/ledger")
        found = [each.to_dict() or {} for each in entries.stream()]
        return sorted(
            ("-".join(each["attempt"].split("-")[-2:]), each["outcome"], each["billed_minutes"])
            for each in found
        )

    def findings(self, *refs: JobRef) -> list[str]:
        """Return what the audit says about these jobs."""
        return audit(self.account_id, [ref.job_id for ref in refs], self.ports)

    def backdate(self, ref: JobRef, *, started: float, alive: float, task_id: str = "000") -> None:
        """Have a task's live attempt begun, and been heard of last, so many seconds ago."""
        document = self.document(ref, "tasks", task_id)
        (*older, live) = (document.get().to_dict() or {})["attempts"]
        live["started_at"], live["alive_at"] = ago(started), ago(alive)
        document.update({"attempts": [*older, live]})

    def document(self, ref: JobRef, *path: str) -> Any:
        """Return a reference to a document below a job, to look at or to spoil."""
        return wiring.firestore_client().document(
            "accounts", self.account_id, "jobs", ref.job_id, *path
        )

    # Messages

    def push(self, topic: str, ref: JobRef | None = None, **data: Any) -> int:
        """Push a message as Pub/Sub does; returns the status code."""
        ids = {"account_id": self.account_id} | ({"job_id": ref.job_id} if ref else {})
        return self.push_data(topic, json.dumps(ids | data).encode())

    def push_data(self, topic: str, data: bytes) -> int:
        web = self.apps[TOPICS.get(topic, "dispatch")].test_client()
        return web.post(
            f"/projects/{PROJECT}/topics/{topic}?token={wiring.push_token()}",
            json={"message": {"data": base64.b64encode(data).decode(), "messageId": "1"}},
        ).status_code

    def published(self, *topics: str) -> list[tuple[str, Message]]:
        """Return what was published on these topics and not delivered yet, and forget it."""
        return self.inbox.take(self.account_id, *topics)

    def deliver(self, *topics: str) -> None:
        """Push what was published on these topics, and what follows from it, until nothing is left."""
        wanted = topics or tuple(each for each in TOPICS if each != "scale")
        while messages := self.published(*wanted):
            for topic, message in messages:
                assert self.push(topic, **message) == 204, (topic, message)

    def sweep(self, listed: Sequence[Placement] | None = None, **after: float) -> int:
        """Ask for a sweep and have it done, a minute from now unless told otherwise; returns how many jobs are active.

        `listed` is what the scheduler lists, if it is not what it lists now. What other functions are asked to do is
        not delivered, but for the round of admission.
        """
        placements = self.scheduler.placements() if listed is None else listed
        ports = self.ports_in(**after or {"minutes": 1})
        job_count = ask_to_sweep(ports)
        asked = self.published("admit", "sweep")
        while asked:
            topic, message = asked.pop()
            if topic == "admit":
                admit(self.account_id, ports)
            else:
                self.sweep_part(message, placements, ports)
                asked += self.published("sweep")
        cancel_stale(placements, ports)
        return job_count

    def sweep_part(self, message: Message, listed: Sequence[Placement], ports: Ports) -> None:
        """Do what a message of a sweep asks for."""
        placements = {self.account_id: listed}.get
        if "pages" in message:
            ref = JobRef(self.account_id, message["job_id"])
            sweep_pages(ref, message["pages"], placements, ports)
        else:
            sweep_jobs(self.account_id, message["job_ids"], placements, ports)

    # The scheduler and its agents

    def placements(self) -> list[Placement]:
        return sorted(self.scheduler.placements(), key=lambda each: each.attempt_id)

    def placed(self, ref: JobRef) -> list[str]:
        """Return task and attempt of what waits or runs at the scheduler."""
        return [
            f"{found.task_id}-{found.number}"
            for each in self.placements()
            if each.stage in ("waiting", "started")
            and (found := AttemptRef.parse(each.attempt_id)).task.job == ref
        ]

    def agent(self, ref: JobRef, task_id: str = "000", number: int = 1) -> Agent:
        token = wiring.tokens().issue_attempt(AttemptRef(*ref, task_id, number), wiring.now())
        return Agent(web=self.apps["dispatch"].test_client(), token=token)

    def run(
        self,
        ref: JobRef,
        task_id: str = "000",
        number: int = 1,
        outcome: str = "success",
        instance: str = INSTANCE,
    ) -> Agent:
        """Claim and finish an attempt, whose process then ends."""
        agent = self.agent(ref, task_id, number)
        for answer in (agent.claim(instance), agent.finish(outcome)):
            assert answer.status_code == 200, answer.text
        self.scheduler.cancel(AttemptRef(*ref, task_id, number).attempt_id)
        return agent

    def join(self, name: str) -> None:
        """Have a machine join the scheduler."""
        node = {
            "ID": str(uuid.uuid4()),
            "Name": name,
            "Datacenter": ZONE,
            "NodeClass": self.instance_type,
            "NodePool": "default",
            "HTTPAddr": "",
            "Attributes": {"driver.raw_exec": "1"},
            "Meta": {
                "zone": ZONE,
                "orchestrator": self.account_id,
                "instance_type": self.instance_type,
                "preemptible": "true",
            },
            "Drivers": {"raw_exec": {"Detected": True, "Healthy": True}},
            "NodeResources": {
                "Cpu": {"CpuShares": 4000, "TotalCpuCores": 4},
                "Memory": {"MemoryMB": 15_000},
                "Disk": {"DiskMB": 10_000},
            },
        }
        self._scheduler_call("PUT", "/v1/client/register", {"Node": node})

    def environment(self, attempt_id: str) -> dict[str, str]:
        """Return what an attempt's agent will be told."""
        job = self._scheduler_call("GET", f"/v1/job/{attempt_id}")
        found: dict[str, str] = job["TaskGroups"][0]["Tasks"][0]["Env"]
        return found

    def avoided_zones(self, attempt_id: str) -> list[str]:
        """Return where an attempt is started only if nothing is free elsewhere."""
        job = self._scheduler_call("GET", f"/v1/job/{attempt_id}")
        return [str(each["RTarget"]) for each in job["Affinities"] or () if each["Weight"] < 0]

    def fail_scheduler(self, *, method: str, path: str = "^/v1/job", calls: int = 1) -> None:
        """Have the scheduler answer 500 to the next calls."""
        order = {"calls": calls, "status": 500, "path": path, "method": method}
        self._scheduler_call("POST", "/faults", order)

    def _scheduler_call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"X-Nomad-Token": self.stack.env["NOMAD_TOKEN"]}
        url = self.stack.url("nomad") + path
        answer = requests.request(method, url, json=body, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    # All of it

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return every document of the account, by path."""
        account = wiring.firestore_client().document("accounts", self.account_id)
        found = {account.path: account.get().to_dict() or {}}
        _read_below(account, found)
        return found

    def versions(self) -> dict[str, datetime]:
        """Return when each document of the account and of its orchestrator was written last, by path."""
        client, found = wiring.firestore_client(), dict[str, datetime]()
        for collection in ("accounts", "orchestrators"):
            _versions_below(client.document(collection, self.account_id), found)
        return found

    def restore(self, documents: Mapping[str, dict[str, Any]]) -> None:
        """Put documents back as they were, and delete those that were added."""
        client = wiring.firestore_client()
        batch = client.batch()
        for path in self.documents().keys() - documents.keys():
            batch.delete(client.document(path))
        for path, fields in documents.items():
            batch.set(client.document(path), fields)
        batch.commit()

    def state(self) -> dict[str, Any]:
        """Return what matters of the account and its attempts at the scheduler: not when it was looked at."""
        found: dict[str, Any] = {
            path: {name: value for name, value in fields.items() if name not in _TIMES_OF_LOOKING}
            for path, fields in self.documents().items()
        }
        return found | {"placed": [each.attempt_id for each in self.placements()]}


def _blocks(lines: Sequence[str]) -> tuple[Block, ...]:
    blocks = []
    for first in range(0, len(lines), PAGES_TOGETHER * TASKS_PER_PAGE):
        start = len("".join(lines[:first]))
        size = len("".join(lines[first : first + PAGES_TOGETHER * TASKS_PER_PAGE]))
        blocks.append(Block(first_page=first // TASKS_PER_PAGE, start=start, end=start + size))
    return tuple(blocks)


_TIMES_OF_LOOKING = ("metered_at", "lease_id", "lease_until")


def _read_below(document: Any, found: dict[str, dict[str, Any]]) -> None:
    for collection in document.collections():
        for each in collection.stream():
            found[each.reference.path] = each.to_dict()
            _read_below(each.reference, found)


def _versions_below(document: Any, found: dict[str, datetime]) -> None:
    found[document.path] = document.get().update_time
    for collection in document.collections():
        for each in collection.list_documents():
            _versions_below(each, found)


def ago(seconds: float) -> datetime:
    """Return the moment that was so many seconds ago."""
    return wiring.now() - timedelta(seconds=seconds)


@pytest.fixture(name="new_farm")
def new_farm_fixture(rig: Rig) -> Iterator[Callable[[], Farm]]:
    """Makes farms."""
    yield lambda: Farm(stack=rig.stack, apps=rig.apps, inbox=rig.inbox)
    rig.clear()


@pytest.fixture(name="farm")
def farm_fixture(new_farm: Callable[[], Farm]) -> Farm:
    """One farm."""
    return new_farm()
