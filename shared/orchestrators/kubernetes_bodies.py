"""What Baton asks of Kubernetes for one attempt: a Job and the Secret that holds its token, in the API's JSON.

Sources, read 2026-11: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/,
https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms,
https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html, https://karpenter.sh/docs/concepts/scheduling/,
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/,
https://cloud.google.com/kubernetes-engine/docs/how-to/gpus.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from shared.models.account import Gpus
from shared.ports import SubmittedAttempt

# On Jobs and pods whose they are, on nodes whose attempts they may run.
ORCHESTRATOR = "baton/orchestrator"
ATTEMPT = "baton/attempt"
INSTANCE_TYPE = "baton/instance-type"
PREEMPTIBLE = "baton/preemptible"
AVOIDED_ZONES = "baton/avoided-zones"

TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"

# How each provider marks its spot machines: the label, and often a taint of the same name and value.
SPOT_LABELS: Mapping[str, str] = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
}

# The resource by which pods get GPUs, and the taint that keeps all others off the machines that have some.
GPU = "nvidia.com/gpu"

# What nodes outside avoided zones are worth more than those inside: the most there is.
AVOIDED_WEIGHT = 100

# Operators may keep everything else off the farm's nodes with a taint of this name.
FARM_TAINT = "baton/farm"

# Secret of the attempt; a Job's spec, which more people may read, does not show it.
TOKEN = "BATON_ATTEMPT_TOKEN"

# What the agent calls its machine: its node, whatever the provider's own name for it is.
INSTANCE = {
    "name": "BATON_INSTANCE",
    "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
}

# Spot machines of Google's are gone 30 s after their notice, and the node keeps the last 15 s for itself.
GRACE_S = 15

# A Job nobody forgot goes by itself, with its pod and its Secret.
TTL_S = 24 * 3600

# By this share of the cores an attempt fits beside a machine's own system, and never beside another attempt. It may use
# all of them: the machine is the attempt's alone.
CPU_SHARE = 0.6

# Elsewhere an attempt is given this share of its machine's memory to use (shared/core/recovery.py).
USUAL_SHARE = Fraction(15, 16)

# What GKE, which keeps most for itself, leaves out of a machine's memory: layer by layer, and of what is beyond them;
# what its kernel, its threshold of eviction and its own pods take besides.
# Source: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes, read 2026-11.
RESERVED = ((4 * 1024, 0.25), (4 * 1024, 0.20), (8 * 1024, 0.10), (112 * 1024, 0.06))
RESERVED_BEYOND = 0.02
KERNEL_SHARE = 0.02
SYSTEM_MIB = 612

MOST_PRIORITY = 10


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where an orchestrator's attempts run, and what of.

    Shapes: `address` is the API server's base URL, `image` has the command `baton-agent`; `machine_types` maps names of
    the catalogue to the provider's, a name that is not there is the provider's own; `gpus` has those of the types that
    have any.
    """

    orchestrator_id: str
    address: str
    namespace: str
    image: str
    machine_types: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, Gpus] = field(default_factory=dict)


def name_of(attempt_id: str) -> str:
    """Return the name of an attempt's Job: the id itself where Kubernetes allows it, else a digest of it."""
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", attempt_id):
        return attempt_id
    return f"attempt-{hashlib.sha256(attempt_id.encode()).hexdigest()[:40]}"


def memory_of(memory_mib: int) -> int:
    """Return how much of the memory that an attempt would have elsewhere it can have on Kubernetes, in MiB."""
    machine_mib = ceil(memory_mib / USUAL_SHARE)
    left, kept = float(machine_mib), SYSTEM_MIB + machine_mib * KERNEL_SHARE
    for size, share in RESERVED:
        layer = min(left, size)
        left -= layer
        kept += layer * share
    return max(min(int(machine_mib - kept - left * RESERVED_BEYOND), memory_mib), 1)


def job_of(attempt: SubmittedAttempt, site: Site) -> dict[str, Any]:
    """Return the Job that runs an attempt once and never again by itself."""
    labels = {ORCHESTRATOR: site.orchestrator_id}
    annotations = {
        ATTEMPT: attempt.ref.attempt_id,
        INSTANCE_TYPE: attempt.shape.instance_type,
        PREEMPTIBLE: str(attempt.shape.is_preemptible).lower(),
    }
    if attempt.avoided_zones:
        annotations[AVOIDED_ZONES] = ",".join(attempt.avoided_zones)
    stays = {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name_of(attempt.ref.attempt_id),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onPodConditions": disrupted}]},
            "ttlSecondsAfterFinished": TTL_S,
            "template": {
                "metadata": {"labels": labels, "annotations": annotations | stays},
                "spec": _pod_of(attempt, site),
            },
        },
    }


def secret_of(attempt: SubmittedAttempt, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Secret with the attempt's token; it goes when its Job goes, and the pod waits until it is there."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": job["metadata"]["name"], "ownerReferences": [owner]},
        "type": "Opaque",
        "stringData": {TOKEN: attempt.environment.get(TOKEN, "")},
    }


def _pod_of(attempt: SubmittedAttempt, site: Site) -> dict[str, Any]:
    has_gpus = attempt.shape.instance_type in site.gpus
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "priorityClassName": f"baton-priority-{min(max(attempt.priority, 0), MOST_PRIORITY)}",
        "automountServiceAccountToken": False,  # what an artist runs has no business with the cluster
        "enableServiceLinks": False,
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": _terms(attempt, site)
                },
                **_preferences(attempt.avoided_zones),
            }
        },
        "tolerations": _tolerations(attempt.shape.is_preemptible, has_gpus=has_gpus),
        "containers": [_container(attempt, site)],
        "volumes": [
            {"name": "baton", "hostPath": {"path": "/var/lib/baton", "type": "DirectoryOrCreate"}}
        ],
    }


def _container(attempt: SubmittedAttempt, site: Site) -> dict[str, Any]:
    token = {"secretKeyRef": {"name": name_of(attempt.ref.attempt_id), "key": TOKEN}}
    open_ = [
        {"name": name, "value": value}
        for name, value in sorted(attempt.environment.items())
        if name != TOKEN
    ]
    memory = f"{memory_of(attempt.memory_mib)}Mi"
    has = site.gpus.get(attempt.shape.instance_type)
    gpus = {GPU: str(has.count)} if has else {}  # the limit must be what is requested
    return {
        "name": "agent",
        "image": site.image,
        "command": ["baton-agent"],
        "env": [*open_, INSTANCE, {"name": TOKEN, "valueFrom": token}],
        "resources": {
            "requests": {
                "cpu": f"{int(attempt.cores * 1000 * CPU_SHARE)}m",
                "memory": memory,
                **gpus,
            },
            "limits": {"cpu": str(attempt.cores), "memory": memory, **gpus},
        },
        "securityContext": {"privileged": True},  # the agent builds the sandbox that renders run in
        "volumeMounts": [{"name": "baton", "mountPath": "/var/lib/baton"}],
    }


def _terms(attempt: SubmittedAttempt, site: Site) -> list[dict[str, Any]]:
    """Return which nodes will do: one term of these holds, and within it all of its expressions."""
    wanted_type = attempt.shape.instance_type
    place = [
        _expression(ORCHESTRATOR, "In", site.orchestrator_id),
        _expression(TYPE_LABEL, "In", site.machine_types.get(wanted_type, wanted_type)),
        _expression(ZONE_LABEL, "In", *attempt.zones),
    ]
    if attempt.shape.is_preemptible:
        marks = [[_expression(key, "In", value)] for key, value in SPOT_LABELS.items()]
    else:  # a label that a node does not have is not in any list
        marks = [[_expression(key, "NotIn", value) for key, value in SPOT_LABELS.items()]]
    # By name: labels that name machines may hold something else. Karpenter starts none for pods that name any.
    names = [_expression("metadata.name", "NotIn", name) for name in attempt.avoided_instances]
    other: dict[str, Any] = {"matchFields": names} if names else {}
    return [{"matchExpressions": [*place, *mark], **other} for mark in marks]


def _preferences(avoided_zones: Sequence[str]) -> dict[str, Any]:
    """Return what has a pod go to an avoided zone only where nothing is free elsewhere."""
    if not avoided_zones:
        return {}
    elsewhere = {"matchExpressions": [_expression(ZONE_LABEL, "NotIn", *avoided_zones)]}
    preferred = {"weight": AVOIDED_WEIGHT, "preference": elsewhere}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}


def _expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def _tolerations(is_preemptible: bool, *, has_gpus: bool) -> list[dict[str, str]]:
    spot = [
        {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
        for key, value in SPOT_LABELS.items()
    ]
    farm = {"key": FARM_TAINT, "operator": "Exists", "effect": "NoSchedule"}
    gpu = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    return [farm, *(spot if is_preemptible else []), *([gpu] if has_gpus else [])]
