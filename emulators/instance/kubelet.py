"""The kubelet of one machine: registers its node, keeps it ready, runs its pods, reports on them.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/, read 2026-11.
"""

import asyncio
import base64
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulators.engine.client import Client, Unreachable
from emulators.instance.environment import image_variables
from emulators.instance.node import image_programs
from emulators.instance.pod import Pod
from emulators.kubernetes.scheduling import GPU

_HEARTBEAT_S = 1.0
_WATCH_S = 20
_RETRY_S = 0.2
_NODE_NAME = {"fieldPath": "spec.nodeName"}  # of the downward API as much as agents need
_SPOT = "cloud.google.com/gke-spot"
_SYSTEM_MILLI_CORES = 80
_SYSTEM_MEMORY_SHARE = 0.04


def node_of(machine: dict[str, Any]) -> dict[str, Any]:
    """Return the node that `machine` (machine.json) registers as; its own system keeps a part of it."""
    labels = {
        "baton/orchestrator": machine["orchestrator"],
        "kubernetes.io/hostname": machine["name"],
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": machine["machine_type"],
        "topology.kubernetes.io/zone": machine["zone"],
    }
    taints = []
    if machine["preemptible"]:
        labels[_SPOT] = "true"
        taints.append({"key": _SPOT, "value": "true", "effect": "NoSchedule"})
    gpus = {}
    if machine["gpus"]:
        gpus[GPU] = str(machine["gpus"])
        taints.append({"key": GPU, "value": "present", "effect": "NoSchedule"})
    cores, memory_mib = machine["cores"], machine["memory_mib"]
    return {
        "metadata": {"name": machine["name"], "labels": labels},
        "spec": {
            "taints": taints,
            "providerID": f"gce://{machine['project']}/{machine['zone']}/{machine['name']}",
        },
        "status": {
            "capacity": {"cpu": str(cores), "memory": f"{memory_mib}Mi", "pods": "110", **gpus},
            "allocatable": {
                "cpu": f"{cores * 1000 - _SYSTEM_MILLI_CORES}m",
                "memory": f"{int(memory_mib * (1 - _SYSTEM_MEMORY_SHARE))}Mi",
                "pods": "110",
                **gpus,
            },
            "conditions": [_Readiness().condition(_STARTING)],
        },
    }


_STARTING = "container runtime network not ready"
_GOING = "node is shutting down"


class _Readiness:
    """What a kubelet says of its node; the time of its condition moves when its status does."""

    def __init__(self) -> None:
        self._status, self._since = "", ""

    def condition(self, obstacle: str) -> dict[str, str]:
        """Return the condition; an empty obstacle is none."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = "False" if obstacle else "True"
        if status != self._status:
            self._status, self._since = status, now
        return {
            "type": "Ready", "status": status,
            "reason": "KubeletNotReady" if obstacle else "KubeletReady",
            "message": obstacle or "kubelet is posting ready status",
            "lastHeartbeatTime": now, "lastTransitionTime": self._since,
        }  # fmt: skip


class Kubelet:
    """Keeps the API server and this machine of one mind for as long as the machine is on."""

    def __init__(
        self, machine: dict[str, Any], *, metadata_host: str, on_joined: Callable[[], None]
    ) -> None:
        token = os.environ.get("KUBERNETES_TOKEN", "")
        known = {"Authorization": f"Bearer {token}"} if token else {}
        merge = {"Content-Type": "application/strategic-merge-patch+json"}
        url = machine["kubernetes"]
        self._polls, self._reads = Client(url, known), Client(url, known)
        self._beats, self._reports = (
            Client(url, {**known, **merge}),
            Client(url, {**known, **merge}),
        )
        self._machine = machine
        self._name: str = machine["name"]
        self._directory = Path(machine["directory"]) / "pods"
        self._environment = {
            **image_variables(),
            "GCE_METADATA_HOST": metadata_host,
            "BATON_CACHE_DIR": machine["cache"],
            # Below the machine's /var/lib/baton, which outlives the pods: one for all of them.
            "BATON_WORK_DIR": str(Path(machine["directory"]) / "work"),
        }
        self._programs = image_programs()
        self._on_joined = on_joined
        self._pods: dict[str, Pod] = {}
        self._started: set[str] = set()  # a late answer may still name what is over by now
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_report: dict[str, Pod] = {}
        self._report_wanted = asyncio.Event()
        self._is_going = False
        self._readiness = _Readiness()
        self._ready_at = 0.0

    def shut_down(self) -> None:
        """End all pods, because the machine has its notice; no new ones come."""
        self._is_going = True
        for pod in self._pods.values():
            pod.shut_down()

    async def run(self) -> None:
        """Join, then work until cancelled."""
        await self._register()
        self._ready_at = time.monotonic() + self._machine["ready_s"]
        self._on_joined()
        await asyncio.gather(self._beat(), self._take(), self._tell())

    async def _register(self) -> None:
        """Register until the server takes it, or has it already."""
        while True:
            try:
                status, _, _ = await self._reads.call(
                    "POST", "/api/v1/nodes", node_of(self._machine)
                )
                if status in (201, 409):
                    break
            except Unreachable:
                pass  # the server may come back: a machine has nothing else to do
            await asyncio.sleep(_RETRY_S)
        for pod in self._pods.values():
            self._changed(pod)

    async def _beat(self) -> None:
        while True:
            is_starting = time.monotonic() < self._ready_at
            obstacle = _GOING if self._is_going else _STARTING if is_starting else ""
            body = {"status": {"conditions": [self._readiness.condition(obstacle)]}}
            try:
                status, _, _ = await self._beats.call(
                    "PATCH", f"/api/v1/nodes/{self._name}/status", body, timeout_s=5
                )
            except Unreachable:
                status = 0
            if status == 404:  # the server has lost its memory, or removed us
                await self._register()
                continue
            await asyncio.sleep(_HEARTBEAT_S)

    async def _take(self) -> None:
        """List the pods of this node, start what is new, stop what must go; wait for a change, list again."""
        selector = f"fieldSelector=spec.nodeName={self._name}"
        while True:
            try:
                status, _, answer = await self._polls.call("GET", f"/api/v1/pods?{selector}")
                if status != 200:
                    await asyncio.sleep(_RETRY_S)
                    continue
                self._reconcile(answer["items"])
                version = answer["metadata"]["resourceVersion"]
                watch = f"watch=true&resourceVersion={version}&timeoutSeconds={_WATCH_S}"
                path = f"/api/v1/pods?{selector}&{watch}"
                # What has changed is in the next list; several changes are no single JSON document.
                await self._polls.call("GET", path, timeout_s=_WATCH_S * 2, is_text=True)
            except Unreachable:
                await asyncio.sleep(_RETRY_S)

    def _reconcile(self, items: list[dict[str, Any]]) -> None:
        wanted = {
            item["metadata"]["uid"]: item
            for item in items
            if "deletionTimestamp" not in item["metadata"]
        }
        for pod in self._pods.values():
            if pod.uid not in wanted:
                pod.stop()
        for uid in wanted.keys() - self._started:
            if wanted[uid]["status"]["phase"] == "Pending" and not self._is_going:
                self._start(wanted[uid])

    def _start(self, item: dict[str, Any]) -> None:
        uid = item["metadata"]["uid"]
        pod = Pod(
            item,
            machine=self._machine["node_id"],
            directory=self._directory / uid,
            programs=self._programs,
            on_change=self._changed,
        )
        self._pods[uid] = pod
        self._started.add(uid)
        task = asyncio.create_task(self._run(pod, item))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def _run(self, pod: Pod, item: dict[str, Any]) -> None:
        namespace = item["metadata"]["namespace"]
        environment = dict(self._environment)
        for each in item["spec"]["containers"][0].get("env") or ():
            source = each.get("valueFrom") or {}
            reference = source.get("secretKeyRef")
            value = self._name if source.get("fieldRef") == _NODE_NAME else each.get("value", "")
            if reference is not None:
                found = await self._secret(pod, namespace, reference)
                if found is None:
                    pod.never_ran("stopped before its Secret was there")
                    return
                value = found
            environment[each["name"]] = value
        await pod.run(environment)

    async def _secret(self, pod: Pod, namespace: str, reference: dict[str, str]) -> str | None:
        """Return a value of a Secret as soon as it is there, None when the pod must stop before."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{reference['name']}"
        while not pod.stopping.is_set():
            try:
                status, _, secret = await self._reads.call("GET", path)
            except Unreachable:
                status = 0
            if status == 200:
                return base64.b64decode(secret["data"][reference["key"]]).decode()
            if status == 404:
                message = f'secret "{reference["name"]}" not found'
                pod.wait_for("CreateContainerConfigError", message)
            await asyncio.sleep(_RETRY_S)
        return None

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc  # a bug of the stand-in: the machine crashes, see machine.run

    def _changed(self, pod: Pod) -> None:
        self._to_report[pod.uid] = pod
        self._report_wanted.set()

    async def _tell(self) -> None:
        """Report changed pods until the server has taken each."""
        while True:
            await self._report_wanted.wait()
            self._report_wanted.clear()
            changed, self._to_report = self._to_report, {}
            for uid, pod in changed.items():
                if not await self._report(pod):
                    self._to_report.setdefault(uid, pod)
                elif pod.is_over and uid not in self._to_report:
                    self._pods.pop(uid, None)
            if self._to_report:
                self._report_wanted.set()
                await asyncio.sleep(_RETRY_S)

    async def _report(self, pod: Pod) -> bool:
        """Tell of one pod, and let go of one that ended because it was deleted; returns whether that was heard."""
        try:
            status, _, _ = await self._reports.call(
                "PATCH", f"{pod.path}/status", {"status": pod.status()}
            )
            if status == 200 and pod.is_over and pod.is_withdrawn:
                path = f"{pod.path}?gracePeriodSeconds=0"
                status, _, _ = await self._reports.call("DELETE", path)
        except Unreachable:
            return False
        return status in (200, 404)
