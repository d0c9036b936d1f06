"""Label and field selectors of list calls.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/, read 2026-11.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from emulators.kubernetes.errors import KubernetesError

Wire = dict[str, Any]
Matches = Callable[[Wire], bool]

_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_EQUAL = re.compile(r"\s*([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(r"\s*(!?)\s*([\w./-]+)\s*")
_SPLIT = re.compile(r",(?![^(]*\))")  # not the commas of a set


def holds(labels: Mapping[str, str], key: str, operator: str, values: list[str]) -> bool:
    """Return whether labels satisfy one requirement; `operator` as in node affinity."""
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) is (operator == "Exists")
    if operator == "NotIn":
        return labels.get(key) not in values
    return key in labels and labels[key] in values


def label_selector(text: str) -> Matches:
    """Return the predicate of a labelSelector. Raises: KubernetesError 400."""
    wanted = [_requirement(part) for part in _SPLIT.split(text) if part.strip()]

    def matches(resource: Wire) -> bool:
        labels = resource["metadata"].get("labels") or {}
        return all(holds(labels, *requirement) for requirement in wanted)

    return matches


def _requirement(part: str) -> tuple[str, str, list[str]]:
    if found := _SET.fullmatch(part):
        values = [value.strip() for value in found[3].split(",")]
        return found[1], "In" if found[2] == "in" else "NotIn", values
    if found := _EQUAL.fullmatch(part):
        return found[1], "NotIn" if found[2] == "!=" else "In", [found[3]]
    if found := _EXISTS.fullmatch(part):
        return found[2], "DoesNotExist" if found[1] else "Exists", []
    raise KubernetesError(400, f"unable to parse requirement: {part!r}")


_FIELDS: dict[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
    "status.phase": ("status", "phase"),
}


def field_selector(text: str) -> Matches:
    """Return the predicate of a fieldSelector. Raises: KubernetesError 400."""
    wanted = []
    for part in filter(None, text.split(",")):
        found = _EQUAL.fullmatch(part)
        if found is None or found[1] not in _FIELDS:
            raise KubernetesError(400, f"field label not supported: {part}")
        wanted.append((_FIELDS[found[1]], found[2] != "!=", found[3]))

    def matches(resource: Wire) -> bool:
        return all(
            (str(resource.get(first, {}).get(second) or "") == value) is is_equal
            for (first, second), is_equal, value in wanted
        )

    return matches
