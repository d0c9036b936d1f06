"""Kubernetes' stand-in, and nodes that speak to it as kubelets do."""

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from shared.models.farm import Shape
from shared.orchestrators.kubernetes import KubernetesScheduler
from shared.orchestrators.kubernetes_bodies import MOST_PRIORITY, Site
from shared.ports import Scheduler
from tests.contracts.stand_ins import (
    GPUS,
    ORCHESTRATOR_ID,
    SHAPE,
    nobody,
    order_fault,
    stand_in,
)
from tests.waiting import until

Wire = Mapping[str, Any]


class KubernetesRig:
    """A cluster whose nodes do what the test says."""

    TOKEN = "secret-token"

    def __init__(self, url: str) -> None:
        self.url = url
        self._nodes: dict[str, Wire] = {}  # the condition that its kubelet reports
        self._speaking = threading.Lock()  # what a kubelet says later is heard later
        self._stopped = threading.Event()
        for priority in range(MOST_PRIORITY + 1):
            name, value = f"baton-priority-{priority}", priority * 100
            body = {"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"}
            self._call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)
        self.scheduler: Scheduler = self.another(ORCHESTRATOR_ID)
        self._beats = threading.Thread(target=self._beat)
        self._beats.start()

    def another(self, orchestrator_id: str) -> Scheduler:
        return KubernetesScheduler(_site(self.url, orchestrator_id), token=self.TOKEN)

    def unreachable(self) -> Scheduler:
        return KubernetesScheduler(_site(nobody(), ORCHESTRATOR_ID), token="")

    def unauthorised(self) -> Scheduler:
        return KubernetesScheduler(_site(self.url, ORCHESTRATOR_ID), token="wrong")

    def join(self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4) -> str:
        self.register(name, shape, zone, cores)
        self.get_ready(name)
        return name

    def register(
        self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4, gpus: int = 1
    ) -> None:
        """A kubelet registers, as all do, before its machine can run anything."""
        labels = {
            "baton/orchestrator": ORCHESTRATOR_ID,
            "kubernetes.io/hostname": name,
            "node.kubernetes.io/instance-type": shape.instance_type,
            "topology.kubernetes.io/zone": zone,
        }
        taints = []
        if shape.is_preemptible:
            spot = "cloud.google.com/gke-spot"
            labels[spot] = "true"
            taints.append({"key": spot, "value": "true", "effect": "NoSchedule"})
        room = {"cpu": f"{cores * 1000 - 80}m", "memory": "13500Mi", "pods": "110"}
        if shape.instance_type in GPUS:
            taints.append({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"})
            if gpus:
                room["nvidia.com/gpu"] = str(gpus)
        node = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": taints},
            "status": {"allocatable": room, "conditions": [_ready("False")]},
        }
        self._call("POST", "/api/v1/nodes", node)
        self._nodes[name] = _ready("False")

    def get_ready(self, name: str) -> None:
        """Its machine can run something now."""
        self._nodes[name] = _ready("True")
        self._beat_once(name)

    def fail_for_a_moment(self, name: str, since: datetime) -> None:
        """The kubelet finds that its machine can run nothing since then."""
        told = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._nodes[name] = {**_ready("False"), "lastTransitionTime": told}
        self._beat_once(name)

    def set_gpus(self, name: str, count: int) -> None:
        """The GPUs' driver tells the kubelet how many it has found."""
        status = {"allocatable": {"nvidia.com/gpu": str(count)}}
        self._call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})

    def leave(self, name: str) -> None:
        del self._nodes[name]

    def work(self, name: str) -> Sequence[Mapping[str, str]]:
        wanted = [
            pod for pod in self._pods(name) if pod["metadata"].get("deletionTimestamp") is None
        ]
        found = [self._environment(pod) for pod in wanted]
        return [environment for environment in found if environment is not None]

    def _environment(self, pod: Wire) -> Mapping[str, str] | None:
        """Return what the container shall find, None while its Secret is not there."""
        environment = {}
        for each in pod["spec"]["containers"][0]["env"]:
            if "value" in each:
                environment[each["name"]] = each["value"]
                continue
            if each["valueFrom"].get("fieldRef") == {"fieldPath": "spec.nodeName"}:
                environment[each["name"]] = pod["spec"]["nodeName"]
                continue
            wanted = each["valueFrom"]["secretKeyRef"]
            path = f"{_namespaced(pod)}/secrets/{wanted['name']}"
            answer = self._send("GET", path)
            if answer.status_code == 404:
                return None
            data = answer.json()["data"]
            environment[each["name"]] = base64.b64decode(data[wanted["key"]]).decode()
        return environment

    def _pods(self, name: str) -> list[Wire]:
        path = f"/api/v1/pods?fieldSelector=spec.nodeName={name}"
        pods: list[Wire] = self._call("GET", path)["items"]
        return [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    def start(self, name: str) -> None:
        for pod in until(lambda: self._pods(name)):
            self._report(pod, "Running", {"running": {"startedAt": _now()}})

    def end(self, name: str, *, is_failed: bool = False, is_oom: bool = False) -> None:
        code = 137 if is_oom else int(is_failed)
        reason = "OOMKilled" if is_oom else "Error" if is_failed else "Completed"
        for pod in self._pods(name):
            started_at = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
            ended = {"exitCode": code, "reason": reason}
            ended |= {"startedAt": started_at, "finishedAt": _now()}
            self._report(pod, "Failed" if code else "Succeeded", {"terminated": ended})
            if "deletionTimestamp" in pod["metadata"]:
                path = f"{_namespaced(pod)}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0"
                self._call("DELETE", path)

    def take_back(self, name: str) -> None:
        """As the kubelet's graceful node shutdown does, and then the cloud, which knows that the machine is gone."""
        self.shut_down(name)
        self.leave(name)
        self._call("DELETE", f"/api/v1/nodes/{name}")

    def shut_down(self, name: str, reason: str = "Terminated") -> None:
        """The kubelet ends its pods, which it does for want of a resource too: the reason is `Evicted` then."""
        disruption = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "TerminationByKubelet",
            "message": "Pod was terminated in response to imminent node shutdown.",
            "lastTransitionTime": _now(),
        }
        for pod in self._pods(name):
            ended = {"exitCode": 143, "reason": "Error", "finishedAt": _now()}
            told = {"conditions": [disruption], "reason": reason}
            self._report(pod, "Failed", {"terminated": ended}, told)

    def _report(self, pod: Wire, phase: str, state: Wire, told: Wire | None = None) -> None:
        status = {
            "phase": phase,
            "containerStatuses": [{"name": "agent", "state": state}],
            **(told or {}),
        }
        path = f"{_namespaced(pod)}/pods/{pod['metadata']['name']}/status"
        self._call("PATCH", path, {"status": status})

    def listed(self, plural: str) -> str:
        """Return all of a kind as the API shows it."""
        root = "/apis/batch/v1" if plural == "jobs" else "/api/v1"
        return self._send("GET", f"{root}/namespaces/baton/{plural}").text

    def fail_next(self, calls: int, status: int) -> None:
        path = "^/apis/batch/|^/api/v1/(namespaces/baton/(pods|secrets)|nodes$)"
        order_fault(self.url, calls=calls, status=status, path=path)

    def _beat(self) -> None:
        while not self._stopped.wait(0.2):
            for name in list(self._nodes):
                self._beat_once(name)

    def _beat_once(self, name: str) -> None:
        with self._speaking:
            ready = self._nodes.get(name)
            if ready is not None:
                body = {"status": {"conditions": [{**ready, "lastHeartbeatTime": _now()}]}}
                # Its node may have been removed since: a kubelet goes on all the same.
                self._send("PATCH", f"/api/v1/nodes/{name}/status", body)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = self._send(method, path, body)
        answer.raise_for_status()
        return answer.json()

    def _send(self, method: str, path: str, body: object = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.TOKEN}"}
        if method == "PATCH":
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=10)

    def close(self) -> None:
        self._stopped.set()
        self._beats.join()


def _site(url: str, orchestrator_id: str) -> Site:
    return Site(
        orchestrator_id=orchestrator_id,
        address=url,
        namespace="baton",
        image="baton-agent:1",
        gpus=GPUS,
    )


def _namespaced(pod: Wire) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}"


def _ready(status: str) -> dict[str, str]:
    now = _now()
    return {
        "type": "Ready",
        "status": status,
        "reason": "KubeletReady" if status == "True" else "KubeletNotReady",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def kubernetes_rig(directory: Path) -> Iterator[KubernetesRig]:
    options = ("--token", KubernetesRig.TOKEN, "--node-grace-s", "1")
    with stand_in("kubernetes", "--data", directory, *options) as url:
        rig = KubernetesRig(url)
        try:
            yield rig
        finally:
            rig.close()
