"""What the API server refuses of objects' contents, as far as Jobs and nodes go.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/, read 2026-11.
"""

import re

from emulators.kubernetes.errors import KubernetesError, invalid
from emulators.kubernetes.scheduling import GPU, mebibytes, milli_cores
from emulators.kubernetes.state import Kind, Wire

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MUTABLE = ("suspend", "parallelism", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
_MOST_RULES = 20
_MOST_WEIGHT = 100


def check(kind: Kind, resource: Wire) -> None:
    """Raises: KubernetesError for a new or changed object that may not be stored."""
    metadata = resource.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise invalid(kind.name, "", "metadata.name", "Required value: name is required")
    name: str = metadata["name"]
    if len(name) > 253 or _NAME.fullmatch(name) is None:
        raise invalid(kind.name, name, "metadata.name", f"Invalid value: {name!r}")
    _check_labels(kind, name, "metadata.labels", metadata.get("labels") or {})
    if kind.plural == "jobs":
        _check_job(kind, name, resource["spec"])


def check_change(kind: Kind, before: Wire, after: Wire) -> None:
    """Raises: KubernetesError when a change touches what must stay."""
    check(kind, after)
    if kind.plural != "jobs":
        return
    for field in before["spec"].keys() | after["spec"].keys():
        is_same = before["spec"].get(field) == after["spec"].get(field)
        if field not in _MUTABLE and not is_same:
            name = before["metadata"]["name"]
            raise invalid("Job", name, f"spec.{field}", "Invalid value: field is immutable")


def _check_labels(kind: Kind, name: str, field: str, labels: dict[str, str]) -> None:
    for key, value in labels.items():
        if not isinstance(value, str):
            raise KubernetesError(400, f"{field}.{key}: expected string")
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(value) is None:
            raise invalid(kind.name, name, field, f"Invalid value: {key}={value}")


def _check_job(kind: Kind, name: str, spec: Wire) -> None:
    def refuse(field: str, message: str) -> KubernetesError:
        return invalid(kind.name, name, field, message)

    if len(name) > 63:
        raise refuse("metadata.name", "must be no more than 63 characters")
    if spec.get("parallelism", 1) != 1 or spec.get("completions", 1) != 1:
        raise refuse("spec.parallelism", "more than one pod is not offered by this stand-in")
    template, pod = spec["template"], spec["template"]["spec"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    _check_labels(kind, name, "spec.template.metadata.labels", labels)
    restart = pod.get("restartPolicy")
    if restart not in ("Never", "OnFailure"):
        raise refuse("spec.template.spec.restartPolicy", "valid values: OnFailure, Never")
    if not pod.get("containers"):
        raise refuse("spec.template.spec.containers", "Required value")
    if len(pod["containers"]) > 1:
        raise refuse("spec.template.spec.containers", "several are not offered by this stand-in")
    for container in pod["containers"]:
        _check_container(kind, name, container)
    _check_affinity(kind, name, (pod.get("affinity") or {}).get("nodeAffinity") or {})
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    if restart != "Never":
        raise refuse("spec.template.spec.restartPolicy", "must be Never with podFailurePolicy")
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        raise refuse("spec.podReplacementPolicy", "must be Failed with podFailurePolicy")
    if len(policy["rules"]) > _MOST_RULES:
        raise refuse("spec.podFailurePolicy.rules", f"must have at most {_MOST_RULES} items")
    for rule in policy["rules"]:
        if rule.get("action") not in ("FailJob", "FailIndex", "Ignore", "Count"):
            raise refuse("spec.podFailurePolicy.rules.action", "Unsupported value")
        if ("onPodConditions" in rule) is ("onExitCodes" in rule):
            raise refuse("spec.podFailurePolicy.rules", "one of the requirements is required")


def _check_affinity(kind: Kind, name: str, affinity: Wire) -> None:
    field = "spec.template.spec.affinity.nodeAffinity"
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not required.get("nodeSelectorTerms"):
        raise invalid(kind.name, name, f"{field}.nodeSelectorTerms", "Required value")
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    for each in preferred:
        if not 1 <= each.get("weight", 0) <= _MOST_WEIGHT:
            message = f"must be in the range 1-{_MOST_WEIGHT}"
            raise invalid(kind.name, name, f"{field}.weight", message)
    terms = [
        *((required or {}).get("nodeSelectorTerms") or ()),
        *(p["preference"] for p in preferred),
    ]
    for term in terms:
        for each in term.get("matchExpressions") or ():
            _check_values(kind, name, f"{field}.matchExpressions", each)
        for each in term.get("matchFields") or ():
            if each["key"] != "metadata.name" or each["operator"] not in ("In", "NotIn"):
                raise invalid(kind.name, name, f"{field}.matchFields", "not a valid field selector")
            if len(each.get("values") or ()) != 1:
                message = "must be only one value when `operator` is 'In' or 'NotIn'"
                raise invalid(kind.name, name, f"{field}.matchFields", message)


def _check_values(kind: Kind, name: str, field: str, expression: Wire) -> None:
    operator, values = expression["operator"], expression.get("values") or []
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        raise invalid(kind.name, name, field, f"{operator!r} is not offered by this stand-in")
    if (operator in ("In", "NotIn")) is not bool(values):
        raise invalid(kind.name, name, field, "values go with `In` and `NotIn`, and only with them")


def _check_container(kind: Kind, name: str, container: Wire) -> None:
    field = "spec.template.spec.containers"
    if not container.get("name") or not container.get("image"):
        raise invalid(kind.name, name, f"{field}.name", "Required value")
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for what, amount in (("cpu", milli_cores), ("memory", mebibytes)):
        asked = (resources.get("requests") or {}).get(what)
        if asked is not None and what in limits and amount(asked) > amount(limits[what]):
            message = f"must be less than or equal to {what} limit"
            raise invalid(kind.name, name, f"{field}.resources.requests", message)
    gpus = limits.get(GPU), (resources.get("requests") or {}).get(GPU, limits.get(GPU))
    if gpus[0] != gpus[1]:
        message = f"must be equal to {GPU} limit"
        raise invalid(kind.name, name, f"{field}.resources.requests", message)
