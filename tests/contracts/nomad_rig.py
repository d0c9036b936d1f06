"""Nomad's stand-in, and nodes that speak to it as its own clients do."""

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from shared.models.farm import Shape
from shared.orchestrators import nomad
from shared.orchestrators.nomad import NomadScheduler
from shared.ports import Scheduler
from tests.contracts.stand_ins import (
    ORCHESTRATOR_ID,
    SHAPE,
    nobody,
    order_fault,
    stand_in,
)
from tests.waiting import until


class NomadRig:
    """A cluster whose nodes do what the test says."""

    TOKEN = "secret-token"

    def __init__(self, url: str) -> None:
        self._url = url
        self._nodes: dict[str, str] = {}
        self._started: dict[str, dict[str, str]] = {}
        self._stopped = threading.Event()
        self.scheduler: Scheduler = self.another(ORCHESTRATOR_ID)
        self._beats = threading.Thread(target=self._beat)
        self._beats.start()

    def another(self, orchestrator_id: str) -> Scheduler:
        return NomadScheduler(self._url, token=self.TOKEN, orchestrator_id=orchestrator_id)

    def unreachable(self) -> Scheduler:
        return NomadScheduler(nobody(), token="", orchestrator_id=ORCHESTRATOR_ID)

    def unauthorised(self) -> Scheduler:
        return NomadScheduler(self._url, token="wrong", orchestrator_id=ORCHESTRATOR_ID)

    def join(self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4) -> str:
        node_id = self._nodes.get(name) or str(uuid.uuid4())
        meta = {
            "zone": zone,
            "instance_type": shape.instance_type,
            "preemptible": str(shape.is_preemptible).lower(),
            "pool": "p",
            "orchestrator": ORCHESTRATOR_ID,
        }
        node = {
            "ID": node_id,
            "Name": name,
            "Datacenter": zone,
            "NodeClass": shape.instance_type,
            "NodePool": "default",
            "Attributes": {"driver.raw_exec": "1"},
            "Meta": meta,
            "Drivers": {"raw_exec": {"Detected": True, "Healthy": True}},
            "NodeResources": {
                "Cpu": {"CpuShares": 1000 * cores, "TotalCpuCores": cores},
                "Memory": {"MemoryMB": 15_000},
                "Disk": {"DiskMB": 10_000},
            },
            "HTTPAddr": "",
        }
        self._call("PUT", "/v1/client/register", {"Node": node})
        self._nodes[name] = node_id
        return node_id

    def leave(self, name: str) -> None:
        del self._nodes[name]

    def _allocs(self, name: str) -> list[Mapping[str, Any]]:
        path = f"/v1/client/{self._nodes[name]}/allocations"
        found: list[Mapping[str, Any]] = self._call("GET", path)
        return found

    def work(self, name: str) -> Sequence[Mapping[str, str]]:
        return [
            alloc["Job"]["TaskGroups"][0]["Tasks"][0]["Env"] or {} for alloc in self._allocs(name)
        ]

    def start(self, name: str) -> None:
        for alloc in until(lambda: self._allocs(name)):
            started_at = self._started.setdefault(name, {}).setdefault(alloc["ID"], _now())
            self._report(name, alloc["ID"], "running", started_at)

    def end(self, name: str, *, is_failed: bool = False, is_oom: bool = False) -> None:
        killed = {"Type": "Terminated", "ExitCode": 137, "Details": {"oom_killed": "true"}}
        for alloc_id, started_at in self._started.pop(name).items():
            status = "failed" if is_failed or is_oom else "complete"
            events = [killed] if is_oom else []
            self._report(name, alloc_id, status, started_at, _now(), events)

    def take_back(self, name: str) -> None:
        self.end(name)
        self.leave(name)

    def _report(
        self,
        name: str,
        alloc_id: str,
        status: str,
        started_at: str,
        ended_at: str = nomad.NEVER,
        events: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        state = {
            "State": "running" if ended_at == nomad.NEVER else "dead",
            "StartedAt": started_at,
            "FinishedAt": ended_at,
            "Events": list(events),
        }
        report = {
            "ID": alloc_id,
            "ClientStatus": status,
            "ClientDescription": "",
            "TaskStates": {"agent": state},
        }
        self._call("PUT", f"/v1/client/{self._nodes[name]}/update", {"Allocs": [report]})

    def fail_next(self, calls: int, status: int) -> None:
        order_fault(
            self._url, calls=calls, status=status, path="^/v1/(jobs|job/|allocations|nodes)"
        )

    def _beat(self) -> None:
        while not self._stopped.wait(0.2):
            for node_id in list(self._nodes.values()):
                self._call("PUT", f"/v1/client/{node_id}/heartbeat")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"X-Nomad-Token": self.TOKEN}
        answer = requests.request(method, self._url + path, json=body, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        self._stopped.set()
        self._beats.join()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def nomad_rig(directory: Path) -> Iterator[NomadRig]:
    options = ("--token", NomadRig.TOKEN, "--heartbeat-ttl-s", "1")
    with stand_in("nomad", "--data", directory, *options) as url:
        rig = NomadRig(url)
        try:
            yield rig
        finally:
            rig.close()
