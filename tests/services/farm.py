"""A farm for tests of dispatch and billing: real emulators, shared by the whole run, and an account for each test.

The test plays Pub/Sub's pushes, the agents and the clock; nothing comes by itself.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import functions_framework
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from deploy.functions import load_functions
from emulators.up.client import Stack, stack
from shared import wiring
from shared.models.account import Account
from shared.models.farm import Orchestrator, Placement
from shared.models.job import AttemptRef, Block, Job, JobRef, TaskRef
from shared.models.task import TASKS_PER_PAGE, Page, Task
from shared.ports import Ports, Scheduler
from shared.services.attempts import blob_name, spec_name
from shared.services.audit import audit
from shared.services.expand import payload_name
from shared.services.submit import PAGES_PER_BLOCK
from shared.services.sweep import sweep
from tests.builders import a_job

ROOT = Path(__file__).parents[2]
TOPICS = {topic.name: function.name for function in load_functions() for topic in function.topics}
# Of the stack's own project every message is pushed to functions that do not run here.
PROJECT = "played-by-tests"
INSTANCE = "instance-1"
ZONE = "z-a"

Message = dict[str, Any]

_STACK = pytest.StashKey[Stack]()


def shared_stack(config: pytest.Config) -> Stack:
    """Return the stack of this run; the first to ask starts it."""
    if _STACK not in config.stash:
        exits = ExitStack()
        config.add_cleanup(exits.close)
        needed = ("firestore", "pubsub", "storage", "nomad")
        config.stash[_STACK] = exits.enter_context(stack(only=needed))
        inbox = Inbox(config.stash[_STACK])
        for topic in TOPICS:
            inbox.create(topic)
    return config.stash[_STACK]


@dataclass
class Inbox:
    """What was published: one subscription a topic."""

    stack: Stack
    pending: list[tuple[str, Message]] = field(default_factory=list)
    session: requests.Session = field(default_factory=requests.Session)

    def create(self, topic: str) -> None:
        name = f"projects/{PROJECT}/topics/{topic}"
        self._call("PUT", name, {})
        self._call("PUT", name.replace("/topics/", "/subscriptions/"), {"topic": name})

    def take(self, account_id: str, *topics: str) -> list[tuple[str, Message]]:
        """Return what was published for an account on these topics, all when none is named, and forget it."""
        for topic in topics or TOPICS:
            self._pull(topic)
        wanted = [
            each
            for each in self.pending
            if each[1].get("account_id") == account_id and each[0] in (topics or TOPICS)
        ]
        self.pending = [each for each in self.pending if each not in wanted]
        return wanted

    def _pull(self, topic: str) -> None:
        """Take what is there now: whoever published has been answered already."""
        name = f"projects/{PROJECT}/subscriptions/{topic}"
        wanted = {"maxMessages": 1000, "returnImmediately": True}
        while received := self._call("POST", f"{name}:pull", wanted).get("receivedMessages"):
            ids = [each["ackId"] for each in received]
            self._call("POST", f"{name}:acknowledge", {"ackIds": ids})
            for each in received:
                self.pending.append((topic, json.loads(base64.b64decode(each["message"]["data"]))))

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        url = f"{self.stack.url('pubsub')}/v1/{path}"
        answer = self.session.request(method, url, json=body, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@dataclass(kw_only=True)
class Agent:
    """One process with the token of an attempt."""

    web: FlaskClient
    token: str
    claim_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def call(self, name: str, **body: Any) -> TestResponse:
        return self.send(name, {"claim": self.claim_id} | body)

    def send(self, name: str, body: object) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.web.post(f"/agent/v1/{name}", headers=headers, data=json.dumps(body))

    def claim(self) -> TestResponse:
        return self.call("claim", instance=INSTANCE, zone=ZONE)

    def heartbeat(self, memory_peak_mib: int = 0) -> TestResponse:
        return self.call("heartbeat", phase="rendering", memory_peak_mib=memory_peak_mib)

    def finish(self, outcome: str = "success", **said: Any) -> TestResponse:
        body = {"outcome": outcome, "exit_code": 0, "reason": "", "memory_peak_mib": 0}
        return self.call("finish", **(body | {"outputs": []} | said))

    def another_process(self) -> "Agent":
        """Return an agent that was started with the same token."""
        return Agent(web=self.web, token=self.token)


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
        spec = {"environment": {"A": "B"}, "inputs": self.upload(inputs or {})}
        blobs.write(spec_name(job), json.dumps(spec).encode(), "application/json")
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

    def expand(self, ref: JobRef, first_page: int = 0, page_count: int = PAGES_PER_BLOCK) -> int:
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

    def sweep(self, **after: float) -> int:
        """Sweep, a minute from now unless told otherwise; returns how many active jobs there are."""
        placements = {self.account_id: self.scheduler.placements()}
        return sweep(placements, self.ports_in(**after or {"minutes": 1}))

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
        self, ref: JobRef, task_id: str = "000", number: int = 1, outcome: str = "success"
    ) -> Agent:
        """Claim and finish an attempt, whose process then ends."""
        agent = self.agent(ref, task_id, number)
        for answer in (agent.claim(), agent.finish(outcome)):
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
            "Meta": {"zone": ZONE, "orchestrator": self.account_id},
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

    def state(self) -> dict[str, Any]:
        """Return every document of the account but for the times at which things were looked at."""
        found: dict[str, Any] = {}
        account = wiring.firestore_client().document("accounts", self.account_id)
        _read_below(account, found)
        return found | {"placed": [each.attempt_id for each in self.placements()]}


def _blocks(lines: Sequence[str]) -> tuple[Block, ...]:
    blocks = []
    for first in range(0, len(lines), PAGES_PER_BLOCK * TASKS_PER_PAGE):
        start = len("".join(lines[:first]))
        size = len("".join(lines[first : first + PAGES_PER_BLOCK * TASKS_PER_PAGE]))
        blocks.append(Block(first_page=first // TASKS_PER_PAGE, start=start, end=start + size))
    return tuple(blocks)


_TIMES_OF_LOOKING = ("settled_at", "metered_at", "lease_id", "lease_until")


def _read_below(document: Any, found: dict[str, Any]) -> None:
    for collection in document.collections():
        for each in collection.stream():
            fields = each.to_dict()
            found[each.reference.path] = {
                name: value for name, value in fields.items() if name not in _TIMES_OF_LOOKING
            }
            _read_below(each.reference, found)


def md5_of(content: bytes) -> str:
    """Return a content's MD5 as the wire has it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def ago(seconds: float) -> datetime:
    """Return the moment that was so many seconds ago."""
    return wiring.now() - timedelta(seconds=seconds)


def _forget_adapters() -> None:
    for each in vars(wiring).values():
        if hasattr(each, "cache_clear"):
            each.cache_clear()


@dataclass(frozen=True)
class Rig:
    """What all farms of a module share."""

    stack: Stack
    apps: Mapping[str, Flask]
    inbox: Inbox

    def clear(self) -> None:
        """Forget every document, everything at the scheduler, and every fault that was ordered."""
        documents = f"projects/{PROJECT}/databases/(default)/documents"
        host = self.stack.env["FIRESTORE_EMULATOR_HOST"]
        requests.delete(f"http://{host}/emulator/v1/{documents}", timeout=30).raise_for_status()
        nomad = self.stack.url("nomad")
        requests.delete(f"{nomad}/faults", timeout=10).raise_for_status()
        requests.post(f"{nomad}/reset", timeout=10).raise_for_status()


@pytest.fixture(scope="module", name="rig")
def rig_fixture(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The functions `dispatch` and `billing`, wired to the stack of this run while a module's tests run."""
    running = shared_stack(request.config)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (running.env | {"GOOGLE_CLOUD_PROJECT": PROJECT}).items():
            patch.setenv(name, value)
        _forget_adapters()
        create_app: Any = functions_framework.create_app
        apps = {name: create_app(name, str(ROOT / "main.py")) for name in ("dispatch", "billing")}
        yield Rig(running, apps, Inbox(running))
    _forget_adapters()


@pytest.fixture(name="new_farm")
def new_farm_fixture(rig: Rig) -> Iterator[Callable[[], Farm]]:
    """Makes farms."""
    yield lambda: Farm(stack=rig.stack, apps=rig.apps, inbox=rig.inbox)
    rig.clear()


@pytest.fixture(name="farm")
def farm_fixture(new_farm: Callable[[], Farm]) -> Farm:
    """One farm."""
    return new_farm()
