"""Which nodes a job accepts, and which of them it likes: datacenters, constraints and affinities over a node's facts.

Sources, read 2026-11: https://developer.hashicorp.com/nomad/docs/job-specification/constraint,
https://developer.hashicorp.com/nomad/docs/job-specification/affinity.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulators.engine.placement import Demand, Quantity, Score, Verdict
from emulators.nomad.errors import refused

_TARGET = re.compile(r"\$\{([^}]+)\}")
_MOST_WEIGHT = 100


def facts_of(node: Mapping[str, Any]) -> dict[str, str]:
    """Return what constraints may name of a node. `class` and `datacenter` are for the metrics."""
    return {
        "node.unique.id": node["ID"],
        "node.unique.name": node["Name"],
        "node.datacenter": node["Datacenter"],
        "node.class": node["NodeClass"],
        "node.pool": node["NodePool"],
        "node.region": "global",
        **{f"meta.{name}": str(value) for name, value in (node["Meta"] or {}).items()},
        **{f"attr.{name}": str(value) for name, value in (node["Attributes"] or {}).items()},
    }


def _split(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


_OPERANDS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    "is": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "not": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "regexp": lambda left, right: re.search(right, left) is not None,
    "set_contains": lambda left, right: _split(right) <= _split(left),
    "set_contains_all": lambda left, right: _split(right) <= _split(left),
    "set_contains_any": lambda left, right: bool(_split(right) & _split(left)),
}


def _resolve(target: str, facts: Mapping[str, str]) -> str | None:
    found = _TARGET.fullmatch(target)
    return target if found is None else facts.get(found[1])


def _holds(constraint: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    operand = constraint.get("Operand") or "="
    left = _resolve(constraint.get("LTarget") or "", facts)
    right = _resolve(constraint.get("RTarget") or "", facts)
    if operand == "is_set":
        return left is not None
    if operand == "is_not_set":
        return left is None
    if operand in ("!=", "not") and (left is None or right is None):
        return left != right
    return left is not None and right is not None and _OPERANDS[operand](left, right)


def check(constraint: Mapping[str, Any]) -> None:
    """Raises: NomadError when the constraint is not one that this stand-in decides."""
    operand = constraint.get("Operand") or "="
    if operand not in _OPERANDS and operand not in ("is_set", "is_not_set"):
        raise refused(f"Unknown constraint type {operand!r}")
    _check_pattern(constraint, operand)


def check_affinity(affinity: Mapping[str, Any]) -> None:
    """Raises: NomadError when the affinity is not one that Nomad takes, or that this stand-in decides."""
    operand, weight = affinity.get("Operand") or "=", affinity.get("Weight", 50)
    if operand not in _OPERANDS:
        raise refused(f"Unknown affinity operator {operand!r}")
    if not isinstance(weight, int) or abs(weight) > _MOST_WEIGHT:
        raise refused("Affinity weight must be within the range [-100,100]")
    if weight == 0:
        raise refused("Affinity weight cannot be zero")
    _check_pattern(affinity, operand)


def _check_pattern(constraint: Mapping[str, Any], operand: str) -> None:
    if operand == "regexp":
        try:
            re.compile(constraint.get("RTarget") or "")
        except re.error as exc:
            raise refused(f"Regular expression failed to compile: {exc}") from exc


def _describe(constraint: Mapping[str, Any]) -> str:
    parts = (constraint.get("LTarget"), constraint.get("Operand") or "=", constraint.get("RTarget"))
    return " ".join(part or "" for part in parts).strip()


def _constraints(job: Mapping[str, Any], group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [*(job.get("Constraints") or ()), *(group.get("Constraints") or ())]
    for task in group["Tasks"]:
        found += task.get("Constraints") or ()
        found.append(
            {"LTarget": f"${{attr.driver.{task['Driver']}}}", "RTarget": "1", "Operand": "="}
        )
    return found


def _affinities(job: Mapping[str, Any], group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    owners = (job, group, *group["Tasks"])
    return [each for owner in owners for each in owner.get("Affinities") or ()]


def _score_of(affinities: Sequence[Mapping[str, Any]]) -> Score | None:
    """Return what affinities make of a node, between -1 and 1: the weights of those that hold, in all the weights.

    Nomad adds to this how well the allocation fills the node; among nodes of one kind it says the same of each.
    """
    if not affinities:
        return None
    weights = [int(each.get("Weight", 50)) for each in affinities]

    def score(facts: Mapping[str, str]) -> float:
        held = zip(affinities, weights, strict=True)
        return sum(weight for each, weight in held if _holds(each, facts)) / sum(map(abs, weights))

    return score


def _quantity(group: Mapping[str, Any]) -> Quantity:
    total = Quantity(slots=1)
    for task in group["Tasks"]:
        resources = task.get("Resources") or {}
        cores = resources.get("Cores") or 0
        total += Quantity(
            cpu_mhz=0 if cores else resources.get("CPU") or 0,
            cores=cores,
            memory_mib=resources.get("MemoryMB") or 0,
            slots=0,
        )
    return total


def demand_of(job: Mapping[str, Any], group: Mapping[str, Any]) -> Demand:
    """Return what one allocation of `group` asks of a node."""
    datacenters: Sequence[str] = job["Datacenters"]
    constraints, affinities = _constraints(job, group), _affinities(job, group)

    def verdict(facts: Mapping[str, str]) -> str | None:
        if not any(fnmatch.fnmatchcase(facts["node.datacenter"], dc) for dc in datacenters):
            return "datacenter"
        for constraint in constraints:
            if not _holds(constraint, facts):
                return _describe(constraint)
        return None

    liked = [[_describe(each), each.get("Weight", 50)] for each in affinities]
    key = json.dumps([sorted(datacenters), [_describe(c) for c in constraints], liked])
    judge: Verdict = verdict
    return Demand(key, _quantity(group), judge, _score_of(affinities))
