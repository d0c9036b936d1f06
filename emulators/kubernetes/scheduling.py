"""The scheduler: binds pods to nodes by affinity, taints, resources and priority; of several nodes to the preferred.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/, read 2026-11.
"""

import json
from collections.abc import Mapping
from typing import Any

from emulators.engine.placement import Demand, Placement, Quantity, Score, Shortage
from emulators.kubernetes.selectors import holds
from emulators.kubernetes.state import State, Wire, condition, key_of, set_condition

_TAINTS, _NAME = " taints", " name"  # no label has such a name
GPU = "nvidia.com/gpu"
_UNMATCHED = "node(s) didn't match Pod's node affinity/selector"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_LACKING = {
    "cpu": "Insufficient cpu",
    "memory": "Insufficient memory",
    "gpus": f"Insufficient {GPU}",
}


def milli_cores(text: str | int) -> int:
    """Return an amount of cpu in thousandths."""
    amount = str(text)
    return int(amount[:-1]) if amount.endswith("m") else int(float(amount) * 1000)


def mebibytes(text: str | int) -> int:
    """Return an amount of memory in MiB."""
    amount = str(text)
    number = amount.rstrip("kMGi")
    return int(float(number) * _UNITS[amount[len(number) :]]) >> 20


def quantity_of_pod(pod: Wire) -> Quantity:
    """Return what a pod asks for."""
    total = Quantity(slots=1)
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        total += Quantity(
            cpu_mhz=milli_cores(requests.get("cpu", 0)),
            memory_mib=mebibytes(requests.get("memory", 0)),
            slots=0,
            gpus=int(requests.get(GPU, 0)),
        )
    return total


def is_over(pod: Wire) -> bool:
    """Return whether no container of a pod will run any more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def node_of(pod: Wire) -> str:
    """Return the node that a pod is bound to, empty when it is not."""
    return str(pod["spec"].get("nodeName") or "")


class Scheduler:
    """Pods that wait, and nodes with what they have left."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._order = 0
        self.recover()

    def recover(self) -> None:
        """Read nodes and pods anew."""
        self._placement = Placement(place="kubernetes.io/hostname")
        self._seen: dict[str, tuple[str, str]] = {}  # a kubelet's word mostly changes nothing
        for node in self._state.all("nodes"):
            self.seat(node)
        for pod in self._state.all("pods"):
            if not node_of(pod) and not is_over(pod):
                self.schedule(pod)

    def seat(self, node: Wire) -> None:
        """Tell of a node that is new or has changed, and use it."""
        name = node["metadata"]["name"]
        ready = condition(node, "Ready")
        status = "" if ready is None else ready["status"]
        seen = json.dumps(
            [node["metadata"].get("labels"), node["spec"], node["status"].get("allocatable")]
        )
        if self._seen.get(name) == (status, seen):
            return
        self._seen[name] = (status, seen)
        given = node["status"].get("allocatable") or {}
        free = Quantity(
            cpu_mhz=milli_cores(given.get("cpu", 0)),
            memory_mib=mebibytes(given.get("memory", 0)),
            slots=int(given.get("pods", 110)),
            gpus=int(given.get(GPU, 0)),
        )
        for pod in self._state.all("pods"):
            if node_of(pod) == name and not is_over(pod):
                free -= quantity_of_pod(pod)
        is_open = not node["spec"].get("unschedulable") and status == "True"
        labels = node["metadata"].get("labels") or {}
        taints = json.dumps(node["spec"].get("taints") or [])
        facts = {**labels, _TAINTS: taints, _NAME: name}
        self._placement.set_node(name, facts, free, is_open)
        self._use(name)

    def unseat(self, node_name: str) -> None:
        """Forget a node."""
        self._placement.remove_node(node_name)
        self._seen.pop(node_name, None)

    def schedule(self, pod: Wire) -> None:
        """Bind a pod, or let it wait and say why."""
        demand = _demand(pod)
        found = self._placement.find(demand)
        if found is not None:
            self._bind(pod, found)
            return
        self._order += 1
        self._placement.wait(key_of(pod), demand, pod["spec"].get("priority", 0), self._order)
        message = _sentence(self._placement.shortage(demand))
        set_condition(pod, "PodScheduled", "False", "Unschedulable", message)
        self._state.save("pods", pod)

    def release(self, pod: Wire) -> None:
        """Give back what a pod, over or removed by now, had taken or waited for."""
        self._placement.cancel(key_of(pod))
        if name := node_of(pod):
            self._placement.release(name, quantity_of_pod(pod))
            if self._state.find("nodes", "", name) is not None:
                self._use(name)

    def _use(self, node_name: str) -> None:
        for key in self._placement.take(node_name):
            namespace, _, name = key.partition("/")
            self._bind(self._state.get("pods", namespace, name), node_name)

    def _bind(self, pod: Wire, node_name: str) -> None:
        self._placement.occupy(node_name, quantity_of_pod(pod))
        pod["spec"]["nodeName"] = node_name
        set_condition(pod, "PodScheduled", "True", "Scheduled")
        self._state.save("pods", pod)


def _demand(pod: Wire) -> Demand:
    spec = pod["spec"]
    wanted = [[*(spec.get("nodeSelector") or {}).items()]]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms: list[Wire] = required.get("nodeSelectorTerms") or []
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    tolerations: list[Wire] = spec.get("tolerations") or []

    def verdict(facts: Mapping[str, str]) -> str | None:
        if any(facts.get(key) != value for key, value in wanted[0]):
            return _UNMATCHED
        if terms and not any(_term_holds(term, facts) for term in terms):
            return _UNMATCHED
        for taint in json.loads(facts[_TAINTS]):
            if taint["effect"] != "PreferNoSchedule" and not _tolerates(tolerations, taint):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        return None

    key = json.dumps([wanted, terms, tolerations, preferred])
    return Demand(key, quantity_of_pod(pod), verdict, _score_of(preferred))


def _score_of(preferred: list[Wire]) -> Score | None:
    """Return what preferences make of a node: the sum of the weights of those that hold."""
    if not preferred:
        return None

    def score(facts: Mapping[str, str]) -> float:
        held = (each for each in preferred if _term_holds(each["preference"], facts))
        return float(sum(each["weight"] for each in held))

    return score


def _term_holds(term: Wire, facts: Mapping[str, str]) -> bool:
    """Return whether all of a term holds; an empty one never does."""
    expressions: list[Wire] = term.get("matchExpressions") or []
    fields: list[Wire] = term.get("matchFields") or []
    named = {"metadata.name": facts[_NAME]}
    return bool(expressions or fields) and all(
        holds(known, each["key"], each["operator"], each.get("values") or [])
        for known, wanted in ((facts, expressions), (named, fields))
        for each in wanted
    )


def _tolerates(tolerations: list[Wire], taint: Mapping[str, Any]) -> bool:
    for each in tolerations:
        if each.get("effect") not in (None, "", taint["effect"]):
            continue
        is_any = each.get("operator") == "Exists"
        if is_any and each.get("key") in (None, "", taint["key"]):
            return True
        if each.get("key") == taint["key"] and each.get("value", "") == taint.get("value", ""):
            return True
    return False


def _sentence(shortage: Shortage) -> str:
    """Say why a pod finds no node, as kubectl would show it."""
    reasons = [f"{count} {reason}" for reason, count in sorted(shortage.filtered.items())]
    reasons += [
        f"{count} {_LACKING.get(dimension, 'Too many pods')}"
        for dimension, count in sorted(shortage.exhausted.items())
    ]
    tail = f": {', '.join(reasons)}." if reasons else "."
    return f"0/{shortage.places.total()} nodes are available{tail}"
