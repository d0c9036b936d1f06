"""Which nodes a job accepts."""

from typing import Any

import pytest

from emulators.engine.placement import Placement, Quantity
from emulators.nomad.constraints import check, check_affinity, demand_of, facts_of
from emulators.nomad.errors import NomadError

NODE = {
    "ID": "0b9c6f8e-0000-0000-0000-000000000001", "Name": "farm-1", "Datacenter": "us-central1-a",
    "NodeClass": "n1-standard-4", "NodePool": "default",
    "Attributes": {"cpu.arch": "amd64", "driver.raw_exec": "1"},
    "Meta": {"instance_type": "n1-standard-4", "preemptible": "true", "shows": "moon,mars"},
}  # fmt: skip


def verdict(constraint: dict[str, Any], datacenters: list[str] | None = None) -> str | None:
    group = {"Name": "g", "Constraints": [constraint], "Tasks": [{"Driver": "raw_exec"}]}
    job = {"Datacenters": datacenters or ["us-central1-a"], "Constraints": None}
    return demand_of(job, group).verdict(facts_of(NODE))


@pytest.mark.parametrize(
    ("left", "operand", "right", "is_accepted"),
    [
        ("${meta.instance_type}", "=", "n1-standard-4", True),
        ("${meta.instance_type}", "=", "n1-standard-8", False),
        ("${meta.absent}", "=", "", False),
        ("${meta.preemptible}", "!=", "true", False),
        ("${meta.absent}", "!=", "true", True),
        ("${node.datacenter}", "=", "us-central1-a", True),
        ("${node.class}", "regexp", "^n1-", True),
        ("${node.class}", "regexp", "^n2-", False),
        ("${attr.cpu.arch}", "set_contains_any", "arm64,amd64", True),
        ("${meta.shows}", "set_contains_any", "venus,mars", True),
        ("${meta.shows}", "set_contains_any", "venus", False),
        ("${meta.shows}", "set_contains", "moon,mars", True),
        ("${meta.shows}", "set_contains", "moon,venus", False),
        ("${meta.shows}", "is_set", "", True),
        ("${meta.absent}", "is_not_set", "", True),
    ],
)
def test_a_constraint_accepts_or_filters(
    left: str, operand: str, right: str, is_accepted: bool
) -> None:
    found = verdict({"LTarget": left, "Operand": operand, "RTarget": right})
    assert (found is None) == is_accepted
    if not is_accepted:
        assert found == f"{left} {operand} {right}".strip()


@pytest.mark.parametrize(
    ("datacenters", "is_accepted"),
    [(["us-central1-a"], True), (["us-east1-b", "us-central1-a"], True), (["us-central1-*"], True),
     (["*"], True), (["us-east1-b"], False)],
)  # fmt: skip
def test_datacenters_may_hold_wildcards(datacenters: list[str], is_accepted: bool) -> None:
    anything = {"LTarget": "a", "Operand": "=", "RTarget": "a"}
    assert (verdict(anything, datacenters) is None) == is_accepted


@pytest.mark.parametrize(
    "constraint", [{"Operand": "about"}, {"Operand": "regexp", "RTarget": "("}]
)
def test_a_constraint_that_cannot_be_decided_is_refused(constraint: dict[str, Any]) -> None:
    with pytest.raises(NomadError):
        check(constraint)


def test_work_is_taken_by_priority_then_by_age_whatever_queue_it_is_in() -> None:
    placement = Placement(place="node.datacenter")
    tasks = [{"Driver": "raw_exec", "Resources": {"MemoryMB": size}} for size in (100, 200)]
    job = {"Datacenters": ["*"], "Constraints": None}
    small, large = (demand_of(job, {"Name": "g", "Tasks": [task]}) for task in tasks)
    for work_id, demand, priority, order in (
        ("old", small, 50, 1), ("middle", large, 50, 2), ("young", small, 50, 3),
        ("urgent", large, 80, 4), ("gone", small, 90, 5),
    ):  # fmt: skip
        placement.wait(work_id, demand, priority, order)
    placement.cancel("gone")
    placement.set_node("n", facts_of(NODE), Quantity(memory_mib=200, slots=1), is_open=True)
    taken = []
    for work_id in placement.take("n"):
        taken.append(work_id)
        demand = large if work_id in ("middle", "urgent") else small
        placement.occupy("n", demand.quantity)
        placement.release("n", demand.quantity)
    assert taken == ["urgent", "old", "middle", "young"]


# Affinities


def score(*affinities: dict[str, Any]) -> float:
    group = {"Name": "g", "Affinities": affinities, "Tasks": [{"Driver": "raw_exec"}]}
    demand = demand_of({"Datacenters": ["*"], "Constraints": None}, group)
    assert demand.score is not None
    return demand.score(facts_of(NODE))


ZONE: dict[str, Any] = {"LTarget": "${node.datacenter}", "RTarget": "us-central1-a"}
OTHER: dict[str, Any] = {"LTarget": "${node.datacenter}", "RTarget": "us-east1-b"}


@pytest.mark.parametrize(
    ("affinities", "wanted"),
    [
        ([{**ZONE, "Weight": 50}], 1),
        ([{**ZONE, "Weight": -100}], -1),
        ([{**OTHER, "Weight": -100}], 0),
        ([{**OTHER, "Operand": "!=", "Weight": 10}], 1),
        ([{**ZONE, "Weight": -30}, {**OTHER, "Weight": 10}], -0.75),
        ([{**ZONE, "Weight": 10}, {**OTHER, "Weight": -30}], 0.25),
        ([{**ZONE, "RTarget": "us-east1-b,us-central1-a", "Operand": "set_contains_any",
           "Weight": -100}], -1),
        ([{**ZONE}, {**OTHER, "Weight": 50}], 0.5),
    ],
)  # fmt: skip
def test_affinities_that_hold_count_by_their_share_of_all_weights(
    affinities: list[dict[str, Any]], wanted: float
) -> None:
    assert score(*affinities) == wanted


@pytest.mark.parametrize(
    "wrong",
    [{"Weight": 0}, {"Weight": 101}, {"Weight": -101}, {"Operand": "is_set"}, {"Operand": "about"},
     {"Operand": "regexp", "RTarget": "("}],
)  # fmt: skip
def test_an_affinity_that_nomad_does_not_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NomadError):
        check_affinity({**ZONE, "Weight": 50, **wrong})


def test_of_the_nodes_that_fit_the_best_liked_is_found_and_of_those_the_one_free_longest() -> None:
    placement = Placement(place="node.datacenter")
    for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b"), ("n4", "a")):
        node = {**NODE, "ID": name, "Name": name, "Datacenter": zone}
        placement.set_node(name, facts_of(node), Quantity(memory_mib=200, slots=1), is_open=True)
    avoided = [{**ZONE, "RTarget": "a", "Weight": -100}]
    group = {"Name": "g", "Tasks": [{"Driver": "raw_exec"}]}
    demand = demand_of({"Datacenters": ["*"], "Constraints": None, "Affinities": avoided}, group)
    found = []
    while (node_id := placement.find(demand)) is not None:
        found.append(node_id)
        placement.occupy(node_id, demand.quantity)
    assert found == ["n2", "n3", "n1", "n4"]
