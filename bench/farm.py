"""A farm for measuring: the whole local stack, one studio, and the instant scheduler beside the Nomad stand-in."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from demo.studio import Studio, create_farm, create_studio
from emulators.ports import find_free_block, is_free
from emulators.up.client import Stack, stack
from shared import wiring
from shared.models.job import Job, JobRef

AGENTS = 16
PATIENCE_S = 600.0
CALL_S = 60
# Of one key, so that what is measured is the farm and not the limit of calls.
REQUESTS_PER_S = 100_000
INSTANT_TYPE = "cpu-2-8"
REAL_TYPE = "cpu-4-16"


class BenchFarm:
    """Submits jobs and reads the figures.

    Jobs of INSTANT_TYPE run on fake agents, those of REAL_TYPE on emulated instances.
    """

    def __init__(self, running: Stack, studio: Studio, instant_url: str) -> None:
        self.stack = running
        self.ports = wiring.ports()
        self.studio = studio
        self.instant_url = instant_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self._token()}"

    def _token(self) -> str:
        key = json.loads(self.studio.api_key)
        query = {
            "grant_type": "client_credentials",
            "scope": "owner admin user",
            "client_id": key["client_id"],
            "client_secret": key["private_key"],
        }
        answer = requests.get(self.url("/api/oauth_jwt"), params=query, timeout=CALL_S)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def url(self, path: str) -> str:
        """Return an address of the API, through the gateway as the clients use it."""
        return f"{self.stack.env['CONDUCTOR_URL']}{path}"

    def body(self, count: int, instance_type: str, salt: int) -> dict[str, Any]:
        """Return a submission of so many tasks that do nothing; `salt` makes it another than the last."""
        return {
            "instance_type": instance_type,
            "project": self.studio.project,
            "tasks_data": [
                {
                    "command": f"true --frame {n} --scene /vol/relay/scenes/shot010_v012.blend",
                    "frames": str(n),
                }
                for n in range(1, count + 1)
            ],
            "output_path": "/vol/relay/renders",
            "autoretry_policy": {},
            "environment": {"SALT": str(salt)},
            "job_title": f"bench {count}",
            "local_upload": True,
            "preemptible": True,
            "metadata": {},
            "notify": {"emails": []},
            "upload_files": [],
        }

    def submit(self, count: int, instance_type: str, salt: int) -> tuple[JobRef, float, float]:
        """Submit a job; returns it, when the call began (epoch seconds), and how long it took."""
        content = json.dumps(self.body(count, instance_type, salt)).encode()
        headers = {"Content-Type": "application/json"}
        began_at, began = time.time(), time.perf_counter()
        answer = self.session.post(
            self.url("/jobs/"), data=content, headers=headers, timeout=CALL_S
        )
        took_s = time.perf_counter() - began
        if answer.status_code != 201:
            raise RuntimeError(f"POST /jobs/: {answer.status_code} {answer.text}")
        return JobRef(self.studio.account_id, answer.json()["jobid"]), began_at, took_s

    def kill(self, ref: JobRef) -> float:
        """Kill a job; returns how long the call took."""
        began = time.perf_counter()
        body = {"action": "kill", "jobids": [ref.job_id]}
        self.session.put(self.url("/jobs_multi"), json=body, timeout=CALL_S).raise_for_status()
        return time.perf_counter() - began

    def job(self, ref: JobRef) -> Job:
        """Return the job."""
        return self.ports.jobs.job(ref)

    def wait_for_end(self, ref: JobRef) -> None:
        """Wait until a job has ended, without taking much of what is measured."""
        wait(f"end of job {ref.job_id}", lambda: self.job(ref).is_ended, every_s=0.1)

    def limit(self, max_instances: int) -> None:
        """Set how many attempts the account may have in flight."""
        accounts = wiring.account_store()
        account = accounts.account(self.studio.account_id)
        limited = replace(account, max_instances=max_instances, requests_per_s=REQUESTS_PER_S)
        accounts.save_account(limited)

    def instant(self, what: str) -> dict[str, Any]:
        """Ask the instant scheduler: stats, or tell it: reset, pause, resume."""
        method = "GET" if what == "stats" else "POST"
        answer = requests.request(method, f"{self.instant_url}/{what}", timeout=CALL_S)
        found: dict[str, Any] = answer.json()
        return found


def wait(what: str, is_so: Callable[[], object], *, every_s: float = 0.005) -> None:
    """Wait until something is so. Raises: RuntimeError."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(every_s)


@contextmanager
def bench_farm(folder: Path) -> Iterator[BenchFarm]:
    """Run the farm while the block runs."""
    with stack(boot_s=2.0) as running:
        os.environ.update(running.env)
        env = dict(os.environ)
        create_farm(
            folder,
            env,
            software={},
            boot_s=2,
            instance_types=[REAL_TYPE],
            max_instances=8,
            idle_s=30,
        )
        studio = create_studio(folder, env, account_id="bench", max_instances=0)
        port = next(port for port in range(find_free_block(), 65_000) if is_free(port))
        command = [
            sys.executable,
            "-m",
            "bench.instant",
            "--port",
            str(port),
            "--agents",
            str(AGENTS),
        ]
        agents = subprocess.Popen([*command, "--dispatch", running.url("dispatch")])
        try:
            url = f"http://127.0.0.1:{port}"
            store = wiring.orchestrator_store()
            (real,) = store.orchestrators()
            store.save_orchestrator(
                replace(
                    real,
                    orchestrator_id="instant",
                    scheduler_address=url,
                    instance_types=(INSTANT_TYPE,),
                    max_instances=0,
                )
            )
            wait("instant scheduler", lambda: not is_free(port))
            yield BenchFarm(running, studio, url)
        finally:
            agents.kill()
            agents.wait()
