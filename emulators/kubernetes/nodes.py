"""The node controller: nodes whose kubelet falls silent, and what becomes of their pods.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/, read 2026-11.
"""

import time
from dataclasses import dataclass

from emulators.kubernetes.jobs import Jobs
from emulators.kubernetes.scheduling import Scheduler, is_over, node_of
from emulators.kubernetes.state import State, Wire, condition, set_condition

_UNREACHABLE = "node.kubernetes.io/unreachable"


@dataclass(frozen=True)
class Patience:
    """How long without a word from a kubelet until its node is unknown, its pods evicted, and the node gone."""

    grace_s: float
    eviction_s: float
    gone_s: float


class Nodes:
    """The life of nodes, which kubelets keep up by patching their status."""

    def __init__(self, state: State, scheduler: Scheduler, jobs: Jobs, patience: Patience) -> None:
        self._state = state
        self._scheduler = scheduler
        self._jobs = jobs
        self._patience = patience
        self.recover()

    def recover(self) -> None:
        """Give every node its whole time from now."""
        now = time.monotonic()
        self._heard_at = {node["metadata"]["name"]: now for node in self._state.all("nodes")}

    def heard(self, node: Wire) -> None:
        """Note a word from a node's kubelet, and take the node back when it was unknown."""
        self._heard_at[node["metadata"]["name"]] = time.monotonic()
        ready = condition(node, "Ready")
        taints: list[Wire] = node["spec"].get("taints") or []
        left = [taint for taint in taints if taint["key"] != _UNREACHABLE]
        if ready is not None and ready["status"] == "True" and left != taints:
            node["spec"]["taints"] = left
            self._state.save("nodes", node)
            for pod in self._pods(node):
                set_condition(pod, "Ready", "True", "")
                self._state.save("pods", pod)

    def changed(self, node: Wire) -> None:
        """Schedule anew after a change of a node."""
        self._scheduler.seat(node)

    def remove(self, node: Wire) -> None:
        """Forget a node; its pods have failed, disrupted, and are collected."""
        name = node["metadata"]["name"]
        self._state.remove("nodes", node)
        self._scheduler.unseat(name)
        self._heard_at.pop(name, None)
        for pod in self._pods(node):
            if not is_over(pod):
                self._disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
                pod["status"]["phase"] = "Failed"
                self._state.save("pods", pod)
                self._jobs.pod_changed(pod)
            self._jobs.remove_pod(pod)

    def advance(self) -> None:
        """Take every step that is due."""
        now = time.monotonic()
        for node in self._state.all("nodes"):
            name = node["metadata"]["name"]
            silent_s = now - self._heard_at.setdefault(name, now)
            if silent_s >= self._patience.grace_s:
                self._lose(node)
            if silent_s >= self._patience.eviction_s:
                self._evict(node)
            if silent_s >= self._patience.gone_s:
                self.remove(node)

    def _lose(self, node: Wire) -> None:
        ready = condition(node, "Ready")
        if ready is not None and ready["status"] == "Unknown":
            return
        message = "Kubelet stopped posting node status."
        set_condition(node, "Ready", "Unknown", "NodeStatusUnknown", message)
        taints = node["spec"].get("taints") or []
        node["spec"]["taints"] = [*taints, {"key": _UNREACHABLE, "effect": "NoExecute"}]
        self._state.save("nodes", node)
        self._scheduler.seat(node)
        for pod in self._pods(node):
            set_condition(pod, "Ready", "False", "NodeNotReady")
            self._state.save("pods", pod)

    def _evict(self, node: Wire) -> None:
        for pod in self._pods(node):
            if not is_over(pod) and "deletionTimestamp" not in pod["metadata"]:
                self._disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to taint")
                self._jobs.delete_pod(pod)

    def _disrupt(self, pod: Wire, reason: str, message: str) -> None:
        set_condition(pod, "DisruptionTarget", "True", reason, message)
        self._state.save("pods", pod)

    def _pods(self, node: Wire) -> list[Wire]:
        name = node["metadata"]["name"]
        return [pod for pod in self._state.all("pods") if node_of(pod) == name]
