"""The Nomad client of one machine: registers, heartbeats, waits for allocations, reports on them."""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulators.engine.client import Client, Unreachable
from emulators.instance.allocation import Allocation, Program, Programs

_WAIT_S = 20
_RETRY_S = 0.2


def node_of(machine: dict[str, Any]) -> dict[str, Any]:
    """Return the node, in Nomad's wire form, that `machine` (machine.json) registers as."""
    cores, memory_mib = machine["cores"], machine["memory_mib"]
    meta = {
        "zone": machine["zone"],
        "instance_type": machine["instance_type"],
        "preemptible": "true" if machine["preemptible"] else "false",
        "pool": machine["pool"],
        "orchestrator": machine["orchestrator"],
    }
    attributes = {
        "cpu.arch": "amd64",
        "cpu.numcores": str(cores),
        "cpu.totalcompute": str(machine["cpu_mhz"]),
        "driver.raw_exec": "1",
        "kernel.name": "linux",
        "memory.totalbytes": str(memory_mib << 20),
        "nomad.version": "1.10.0",
        "os.name": "debian",
        "platform.gce.machine-type": machine["machine_type"],
        "platform.gce.zone": machine["zone"],
        "unique.hostname": machine["name"],
        "unique.platform.gce.id": str(machine["id"]),
    }
    return {
        "ID": machine["node_id"],
        "Name": machine["name"],
        "Datacenter": machine["zone"],
        "NodeClass": machine["instance_type"],
        "NodePool": "default",
        "Attributes": attributes,
        "Meta": meta,
        "Drivers": {
            "raw_exec": {"Detected": True, "Healthy": True, "HealthDescription": "Healthy"}
        },
        "NodeMaxAllocs": machine["max_allocs"],
        "NodeResources": {
            "Cpu": {"CpuShares": machine["cpu_mhz"], "TotalCpuCores": cores},
            "Memory": {"MemoryMB": memory_mib},
            "Disk": {"DiskMB": 100_000},
        },
        "HTTPAddr": "",
    }


def image_programs() -> Programs:
    """Return the commands of the machine's image.

    `baton-agent` is forked from this process with the agent already imported; where it cannot be
    imported the command is run as a program of its own, and says itself what is wrong.
    """
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    try:
        main: Callable[[], int] = importlib.import_module("agent.__main__").main
    except ImportError:
        return {"baton-agent": Program((sys.executable, "-m", "agent"), environment, None)}
    return {"baton-agent": Program(("baton-agent",), environment, main)}


class Node:
    """Keeps the server and this machine of one mind for as long as the machine is on."""

    def __init__(
        self, machine: dict[str, Any], *, metadata_host: str, on_joined: Callable[[], None]
    ) -> None:
        token = os.environ.get("NOMAD_TOKEN", "")
        headers = {"X-Nomad-Token": token} if token else {}
        self._node = node_of(machine)
        self._path = f"/v1/client/{self._node['ID']}"
        self._beats, self._polls, self._reports = (
            Client(machine["nomad"], headers) for _ in range(3)
        )
        self._directory = Path(machine["directory"]) / "allocs"
        self._environment = {
            "GCE_METADATA_HOST": metadata_host,
            "BATON_CACHE_DIR": machine["cache"],
        }
        self._programs = image_programs()
        self._on_joined = on_joined
        self._allocations: dict[str, Allocation] = {}
        self._started: set[str] = set()  # a late answer may still name what is over by now
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_report: dict[str, Allocation] = {}
        self._report_wanted = asyncio.Event()
        self._heartbeat_s = 1.0

    async def run(self) -> None:
        """Join, then work until cancelled."""
        await self._register()
        self._on_joined()
        await asyncio.gather(self._beat(), self._take(), self._tell())

    async def _register(self) -> None:
        """Register until the server takes it; afterwards report what runs here."""
        while True:
            try:
                status, _, answer = await self._beats.call(
                    "PUT", "/v1/client/register", {"Node": self._node}
                )
                if status == 200:
                    break
            except Unreachable:
                pass  # the server may come back: a machine has nothing else to do
            await asyncio.sleep(_RETRY_S)
        self._heartbeat_s = answer["HeartbeatTTL"] / 1e9 / 3
        for allocation in self._allocations.values():
            self._changed(allocation)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                status, _, _ = await self._beats.call("PUT", f"{self._path}/heartbeat", timeout_s=5)
            except Unreachable:
                continue
            if status == 404:  # the server has lost its memory
                await self._register()

    async def _take(self) -> None:
        """Wait for the list of what must run here; start what is new, stop what is gone from it."""
        index = "0"
        while True:
            path = f"{self._path}/allocations?index={index}&wait={_WAIT_S}s"
            try:
                status, headers, answer = await self._polls.call("GET", path, timeout_s=_WAIT_S * 2)
            except Unreachable:
                status = 0
            if status != 200:
                index = "0"
                await asyncio.sleep(_RETRY_S)
                continue
            index = headers["x-nomad-index"]
            wanted = {alloc["ID"]: alloc for alloc in answer}
            for allocation in self._allocations.values():
                if allocation.id not in wanted:
                    allocation.stop()
            for id_ in wanted.keys() - self._started:
                self._start(wanted[id_])

    def _start(self, alloc: dict[str, Any]) -> None:
        allocation = Allocation(
            alloc,
            node=self._node,
            directory=self._directory / alloc["ID"],
            programs=self._programs,
            machine_environment=self._environment,
            on_change=self._changed,
        )
        self._allocations[allocation.id] = allocation
        self._started.add(allocation.id)
        task = asyncio.create_task(allocation.run())
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc  # a bug of the stand-in: the machine crashes, see machine.run

    def _changed(self, allocation: Allocation) -> None:
        self._to_report[allocation.id] = allocation
        self._report_wanted.set()

    async def _tell(self) -> None:
        """Report changed allocations until the server has taken each."""
        while True:
            await self._report_wanted.wait()
            self._report_wanted.clear()
            changed, self._to_report = self._to_report, {}
            body = {"Allocs": [allocation.report() for allocation in changed.values()]}
            try:
                status, _, _ = await self._reports.call("PUT", f"{self._path}/update", body)
            except Unreachable:
                status = 0
            if status == 200:
                self._forget(changed)
                continue
            self._to_report = {**changed, **self._to_report}
            self._report_wanted.set()
            await asyncio.sleep(_RETRY_S)

    def _forget(self, reported: dict[str, Allocation]) -> None:
        """Drop what is over and known to be over, unless it changed meanwhile."""
        for id_, allocation in reported.items():
            if allocation.is_over and id_ not in self._to_report:
                del self._allocations[id_]
