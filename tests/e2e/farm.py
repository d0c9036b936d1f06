"""A whole farm for scenario tests: the local stack, driven from outside as clients and the provider would."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import requests
from click.testing import CliRunner

from emulators.up.client import Stack
from shared import wiring
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import Task
from shared.services.attempts import manifest_name
from shared.services.audit import audit
from tests.md5 import md5_of
from tools.baton import baton

PATIENCE_S = 90.0
CALL_S = 30


class Farm:
    """One studio on a running stack."""

    def __init__(self, stack: Stack, folder: Path, *, max_instances: int = 20) -> None:
        self.stack = stack
        self.env = stack.env
        self.ports = wiring.ports()
        self.account_id = f"studio{uuid4().hex[:8]}"
        self._folder = folder
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {self._open(max_instances)}"

    def _open(self, max_instances: int) -> str:
        """Create the account as an administrator would, and sign in as a client does; returns the client's token."""
        password, key = self._folder / "password", self._folder / f"{self.account_id}.json"
        password.write_text("a-long-enough-password")
        limit = str(max_instances)
        self._baton("account", "create", self.account_id, "--name", "S", "--max-instances", limit)
        self._baton("project", "create", self.account_id, "relay")
        email = f"owner@{self.account_id}.example"
        words = ("--role", "owner", "--password-file", str(password))
        user = self._baton("user", "create", self.account_id, email, *words)
        self._baton("key", "create", self.account_id, user["user_id"], "--output", str(key))
        secret = json.loads(key.read_text())
        query = {
            "grant_type": "client_credentials",
            "scope": "owner admin user",
            "client_id": secret["client_id"],
            "client_secret": secret["private_key"],
        }
        answer = requests.get(self.url("/api/oauth_jwt"), params=query, timeout=CALL_S)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def _baton(self, *words: str) -> dict[str, Any]:
        done = CliRunner().invoke(baton, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def url(self, path: str) -> str:
        """Return an address of the API."""
        return f"{self.env['CONDUCTOR_URL']}{path}"

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        """Call the API as the studio's owner; a connection that is cut is tried again, as the clients do."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._session.request(method, self.url(path), json=body, timeout=CALL_S)
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except requests.ConnectionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def upload(self, content: bytes) -> str:
        """Put a file into the account's store; returns its MD5."""
        md5 = md5_of(content)
        asked = {"upload_files": [{"path": f"/{uuid4().hex}", "hash": md5, "size": len(content)}]}
        answer = self.call("POST", "/api/v2/files/get_upload_urls", asked | {"project": "relay"})
        if answer.status_code == 200:
            for each in answer.json().get("singlePartURLs", []):
                put = requests.put(
                    each["preSignedURL"],
                    data=content,
                    headers={"Content-MD5": md5, "Content-Type": "application/octet-stream"},
                    timeout=CALL_S,
                )
                put.raise_for_status()
        return md5

    def submit(
        self, commands: Sequence[str], *, files: Mapping[str, bytes] | None = None, **named: Any
    ) -> JobRef:
        """Submit one task a command; `named` overrides fields of the client's body."""
        uploads = [
            {
                "md5": self.upload(content),
                "destination": path,
                "st_mode": 0o100755,
                "st_size": len(content),
                **dict.fromkeys(("st_ino", "st_dev", "st_nlink", "st_uid", "st_gid"), 1),
                **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), 1.5),
            }
            for path, content in (files or {}).items()
        ]
        body = self.body(commands) | {"upload_files": uploads} | named
        answer = self.call("POST", "/jobs/", body)
        assert answer.status_code == 201, answer.text
        return JobRef(self.account_id, answer.json()["jobid"])

    def body(self, commands: Sequence[str]) -> dict[str, Any]:
        """Return a submission as the clients send it."""
        return {
            "instance_type": "cpu-2-8",
            "project": "relay",
            "tasks_data": [
                {"command": command, "frames": str(index + 1)}
                for index, command in enumerate(commands)
            ],
            "output_path": "/vol/relay/renders",
            "autoretry_policy": {"preempted": {"max_retries": 5}},
            "docker_image": "",
            "environment": {"MARK": uuid4().hex},
            "job_title": "scenario",
            "local_upload": True,
            "location": "",
            "preemptible": True,
            "metadata": {},
            "priority": 5,
            "scout_frames": "",
            "software_package_ids": [],
            "max_instances": 0,
            "chunk_size": 1,
            "owner": "ines",
            "notify": {"emails": []},
            "upload_files": [],
            "upload_size": 0,
        }

    def job(self, ref: JobRef) -> Job:
        """Return the job as it is."""
        return self.ports.jobs.job(ref)

    def tasks(self, ref: JobRef) -> list[Task]:
        """Return those of the job's tasks that exist."""
        count = self.job(ref).task_count
        return self.ports.jobs.tasks(ref, [str(index).zfill(3) for index in range(count)])

    def wait(
        self, what: str, is_so: Callable[[], object], *, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait until something is so. Raises: AssertionError with every function's last words."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > deadline:
                logs = {name: self.stack.log(name)[-3000:] for name in ("dispatch", "autoscale")}
                raise AssertionError(f"not within {patience_s:.0f} s: {what}\n{logs}")
            time.sleep(0.05)

    def wait_for_end(self, ref: JobRef, status: str, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until a job has ended like this, then check every invariant."""
        self.wait(
            f"end of job {ref}: {status}", lambda: self.job(ref).is_ended, patience_s=patience_s
        )
        job = self.job(ref)
        assert job.status == status, (job.status, job.counts, self.story(ref))
        self.wait("books at rest", lambda: not self.broken([ref]), patience_s=10)

    def broken(self, refs: Sequence[JobRef]) -> list[str]:
        """Return what the audit finds."""
        return audit(self.account_id, [ref.job_id for ref in refs], self.ports)

    def story(self, ref: JobRef) -> list[str]:
        """Return one line for each attempt of a job."""
        return [
            f"{task.task_id} {task.status}: {each.number} {each.instance} {each.outcome} {each.reason}"
            for task in self.tasks(ref)
            for each in task.attempts
        ]

    def outputs(self, ref: JobRef) -> dict[str, bytes]:
        """Return every file that the job's successful attempts made, by path."""
        found: dict[str, bytes] = {}
        for task in self.tasks(ref):
            attempt = AttemptRef(*ref, task.task_id, task.attempts[-1].number)
            if not task.attempts[-1].output_count:
                continue
            for each in json.loads(self.ports.blobs.read(manifest_name(attempt))):
                folder = manifest_name(attempt).rpartition("/")[0]
                name = f"{folder}/files/{each['relative_path']}"
                found[each["relative_path"]] = self.ports.blobs.read(name)
        return found

    def running_instances(self, ref: JobRef) -> list[str]:
        """Return the instances that run a task of the job now."""
        return [task.live.instance for task in self.tasks(ref) if task.live]

    def order_fault(self, **fault: object) -> None:
        """Have the provider do something to its machines."""
        answer = requests.post(self.stack.url("compute") + "/faults", json=fault, timeout=CALL_S)
        assert answer.status_code < 300, answer.text

    def clear_faults(self) -> None:
        """Take all lasting faults back."""
        requests.delete(self.stack.url("compute") + "/faults", timeout=CALL_S)

    def held_back(self) -> list[Any]:
        """Return the faults of the provider's calls that no call has met yet."""
        faults = requests.get(self.stack.url("compute") + "/faults", timeout=CALL_S).json()
        found: list[Any] = faults["calls"]
        return found

    @contextmanager
    def nobody_joins(self) -> Iterator[None]:
        """Have the scheduler refuse machines that want to register, until the block ends."""
        faults = self.stack.url("nomad") + "/faults"
        refusal = {"status": 503, "calls": 1_000_000, "path": "^/v1/client/register"}
        requests.post(faults, json=refusal, timeout=CALL_S).raise_for_status()
        try:
            yield
        finally:
            requests.delete(faults, timeout=CALL_S).raise_for_status()

    def events(self) -> list[dict[str, Any]]:
        """Return what happened to the provider's machines."""
        found: list[dict[str, Any]] = requests.get(
            self.stack.url("compute") + "/events", timeout=CALL_S
        ).json()
        return found

    def agent_pids(self) -> list[int]:
        """Return the agents that render now: the parents of this stack's sandboxes."""
        parents = {
            process.info["ppid"]
            for process in psutil.process_iter(["name", "ppid"])
            if process.info["name"] == "bwrap"
        }
        return sorted(pid for pid in parents if self._is_ours(pid))

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process is an agent of this stack: those carry the stack's mark."""
        try:
            process = psutil.Process(pid)
            is_agent = process.name() != "bwrap"
            return is_agent and str(self.stack.state_path) in process.environ().values()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
