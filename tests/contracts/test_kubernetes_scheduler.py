"""What only the driver of Kubernetes has to get right, on the stand-in."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes import client

from shared.core.recovery import usable_mib
from shared.errors import CloudError
from shared.models.farm import Shape, Stage
from shared.models.job import AttemptRef
from shared.models.task import Outcome
from shared.orchestrators.kubernetes import KubernetesScheduler
from shared.orchestrators.kubernetes_bodies import Site, memory_of, name_of
from shared.ports import SubmittedAttempt
from tests.builders import a_machine
from tests.contracts.kubernetes_rig import KubernetesRig, kubernetes_rig
from tests.contracts.stand_ins import (
    GPU_SHAPE,
    ORCHESTRATOR_ID,
    ROOT,
    SHAPE,
    nobody,
    order_fault,
    recorded,
)
from tests.emulators.farm import ZONE, Compute, stand_in
from tests.waiting import until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KubernetesRig]:
    with kubernetes_rig(tmp_path) as made:
        yield made


def an_attempt(account_id: str = "acme", **environment: str) -> SubmittedAttempt:
    return SubmittedAttempt(
        ref=AttemptRef(account_id, "00001", "0", 1),
        shape=SHAPE,
        zones=("z-a",),
        cores=4,
        memory_mib=15_360,
        priority=5,
        environment={"BATON_ATTEMPT_TOKEN": "token", **environment},
    )


def test_a_submission_that_broke_off_before_its_secret_is_completed_by_the_next(
    rig: KubernetesRig,
) -> None:
    rig.join("i-1")
    order_fault(rig.url, calls=1, status=500, path="/secrets$", method="POST")
    with pytest.raises(CloudError):
        rig.scheduler.submit(an_attempt())
    assert rig.work("i-1") == []
    rig.scheduler.submit(an_attempt())
    (environment,) = rig.work("i-1")
    assert environment["BATON_ATTEMPT_TOKEN"] == "token"


def test_the_token_is_in_the_secret_alone(rig: KubernetesRig) -> None:
    rig.scheduler.submit(an_attempt(BATON_AGENT_URL="http://agents"))
    for what in ("pods", "jobs"):
        listed = rig.listed(what)
        assert "http://agents" in listed
        assert '"token"' not in listed


def test_an_attempt_whose_id_is_no_name_there_is_found_under_its_id(rig: KubernetesRig) -> None:
    rig.scheduler.submit(an_attempt("Acme_" + "x" * 60))
    (found,) = rig.scheduler.placements()
    assert found.attempt_id == "Acme_" + "x" * 60 + "-00001-0-1"
    rig.scheduler.cancel(found.attempt_id)
    until(rig.scheduler.placements, holds=lambda found: found[0].stage is Stage.ENDED)
    rig.scheduler.forget([found.attempt_id])
    assert rig.scheduler.placements() == []


def test_a_machine_that_is_taken_back_loses_its_attempt_even_when_the_pod_is_gone(
    rig: KubernetesRig,
) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    rig.start("i-1")
    rig.take_back("i-1")
    (found,) = rig.scheduler.placements()
    assert found.stage is Stage.LOST
    assert found.ended_at is not None


@pytest.mark.parametrize(
    ("shape", "reason", "cause"),
    [
        (SHAPE, "Terminated", Outcome.PREEMPTED),
        (SHAPE, "Evicted", None),
        (SHAPE._replace(is_preemptible=False), "Terminated", None),
    ],
)
def test_only_a_preemptible_machine_that_shuts_down_was_taken_back(
    rig: KubernetesRig, shape: Shape, reason: str, cause: Outcome | None
) -> None:
    rig.join("i-1", shape)
    rig.scheduler.submit(replace(an_attempt(), shape=shape))
    rig.start("i-1")
    rig.shut_down("i-1", reason)
    (found,) = rig.scheduler.placements()
    assert (found.stage, found.cause) == (Stage.LOST, cause)


def test_a_machine_whose_gpus_cannot_be_used_yet_gets_no_attempt_that_needs_one(
    rig: KubernetesRig,
) -> None:
    rig.join("i-1", GPU_SHAPE)
    rig.set_gpus("i-1", 0)
    rig.scheduler.submit(replace(an_attempt(), shape=GPU_SHAPE))
    assert rig.scheduler.placements()[0].stage is Stage.WAITING
    rig.set_gpus("i-1", 1)
    assert rig.scheduler.placements()[0].stage is Stage.STARTED


def test_a_machine_that_has_registered_is_up_once_it_can_run_something(
    rig: KubernetesRig,
) -> None:
    rig.register("i-1")
    rig.scheduler.submit(an_attempt())
    (node,) = rig.scheduler.nodes()
    assert (node.name, node.is_up, node.is_joining) == ("i-1", False, True)
    assert rig.scheduler.placements()[0].stage is Stage.WAITING
    rig.get_ready("i-1")
    (node,) = rig.scheduler.nodes()
    assert (node.is_up, node.is_joining) == (True, False)
    assert rig.scheduler.placements()[0].stage is Stage.STARTED


def test_a_machine_that_is_not_ready_for_a_moment_is_up_and_keeps_its_attempt(
    rig: KubernetesRig,
) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    rig.start("i-1")
    rig.fail_for_a_moment("i-1", datetime.now(UTC) + timedelta(minutes=2))
    (node,) = rig.scheduler.nodes()
    assert (node.is_up, node.is_joining) == (True, False)
    assert rig.scheduler.placements()[0].stage is Stage.STARTED


def test_a_machine_is_up_once_the_driver_of_its_gpus_is_there(rig: KubernetesRig) -> None:
    rig.register("i-1", GPU_SHAPE, gpus=0)
    rig.get_ready("i-1")
    (node,) = rig.scheduler.nodes()
    assert (node.is_up, node.is_joining, node.joined_at) == (False, True, None)
    before = datetime.now(UTC)
    rig.set_gpus("i-1", 1)
    (node,) = rig.scheduler.nodes()
    assert (node.is_up, node.is_joining) == (True, False)
    assert node.joined_at is not None
    assert node.joined_at >= before
    (node,) = rig.another(ORCHESTRATOR_ID).nodes()  # who has not seen it come knows this much
    assert (node.is_up, node.joined_at) == (True, None)
    assert node.joined_after is not None


def test_a_machine_of_the_cluster_that_gets_ready_late_is_up_late(
    rig: KubernetesRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_TOKEN", KubernetesRig.TOKEN)
    options = ("--kubernetes", rig.url, "--boot-s", "0.2")
    compute = Compute("emulators.compute", tmp_path / "compute", *options, pythonpath=str(ROOT))
    with stand_in(compute):
        compute.template(metadata={"items": [{"key": "orchestrator", "value": "o1"}]})
        compute.group(zone=ZONE)
        compute.post("/faults", {"kind": "slow_ready", "ready_s": 3})
        compute.create("i-1")
        (node,) = until(rig.scheduler.nodes)
        assert (node.is_up, node.is_joining) == (False, True)
        (node,) = until(rig.scheduler.nodes, holds=lambda nodes: nodes[0].is_up)
        assert node.joined_at is not None


def test_a_pod_counts_until_it_has_ended_though_its_job_is_gone(rig: KubernetesRig) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    rig.start("i-1")
    rig.scheduler.forget(["acme-00001-0-1"])
    (found,) = rig.scheduler.placements()
    assert (found.attempt_id, found.stage, found.instance) == (
        "acme-00001-0-1",
        Stage.STARTED,
        "i-1",
    )
    rig.end("i-1")
    assert rig.scheduler.placements() == []


def test_an_agent_is_told_what_the_scheduler_calls_its_machine(rig: KubernetesRig) -> None:
    """Nodes of some providers have other names than their machines."""
    rig.join("ip-10-0-0-7.ec2.internal")
    rig.scheduler.submit(an_attempt())
    (environment,) = until(lambda: rig.work("ip-10-0-0-7.ec2.internal"))
    assert environment["BATON_INSTANCE"] == rig.scheduler.placements()[0].instance


def test_the_agent_runs_on_a_machine_of_the_cluster_with_the_attempts_token(
    rig: KubernetesRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_TOKEN", KubernetesRig.TOKEN)  # of the machine's kubelet
    options = ("--kubernetes", rig.url, "--boot-s", "0.2")
    compute = Compute("emulators.compute", tmp_path / "compute", *options, pythonpath=str(ROOT))
    with recorded({}) as (agents_url, calls), stand_in(compute):
        compute.template(metadata={"items": [{"key": "orchestrator", "value": "o1"}]})
        compute.group(zone=ZONE)
        compute.create("i-1")
        attempt = an_attempt(BATON_AGENT_URL=agents_url)
        rig.scheduler.submit(replace(attempt, zones=(ZONE,), memory_mib=8_192))
        until(lambda: [each["headers"].get("Authorization") for each in calls])
        assert {each["headers"]["Authorization"] for each in calls} == {"Bearer token"}
        ended = until(rig.scheduler.placements, holds=lambda found: found[0].stage is Stage.ENDED)
        assert ended[0].instance == "i-1"


def test_many_attempts_are_not_all_held_with_everything_the_cluster_says_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = (client.BatchV1Api, "list_namespaced_job"), (client.CoreV1Api, "list_namespaced_pod")
    for api, method in kinds:
        monkeypatch.setattr(api, method, a_page_of_one(count=200, filler_bytes=20_000))
    nothing = SimpleNamespace(data='{"items": [], "metadata": {}}')
    monkeypatch.setattr(client.CoreV1Api, "list_node", lambda *_, **__: nothing)
    site = Site(orchestrator_id="o1", address=nobody(), namespace="baton", image="baton-agent:1")
    scheduler = KubernetesScheduler(site, token="")
    tracemalloc.start()
    try:
        assert len(scheduler.placements()) == 200
        assert tracemalloc.get_traced_memory()[1] < 2 * 200 * 20_000 / 4
    finally:
        tracemalloc.stop()


def a_page_of_one(*, count: int, filler_bytes: int) -> Callable[..., SimpleNamespace]:
    """Return a list call whose every page has one attempt, with much that nobody reads."""

    def page(*_: object, _continue: str = "0", **__: object) -> SimpleNamespace:
        index = int(_continue)
        name, filler = f"acme-00001-{index}-1", "x" * filler_bytes
        item = {
            "metadata": {
                "name": name,
                "creationTimestamp": "2026-11-20T10:00:00Z",
                "labels": {"batch.kubernetes.io/job-name": name},
                "annotations": {
                    "baton/attempt": name,
                    "baton/instance-type": "n1-standard-4",
                    "baton/preemptible": "true",
                    "other": filler,
                },
                "managedFields": [filler],
            },
            "spec": {"template": filler},
            "status": {"conditions": [{"type": "Other", "status": "True", "message": filler}]},
        }
        following = {"continue": str(index + 1)} if index + 1 < count else {}
        return SimpleNamespace(data=json.dumps({"items": [item], "metadata": following}))

    return page


def test_different_attempts_have_different_names_that_kubernetes_takes() -> None:
    ids = ["acme-00001-0-1", "Acme-00001-0-1", "acme_-00001-0-1", "a" * 70, "a" * 71, "acme-"]
    names = [name_of(each) for each in ids]
    assert len(set(names)) == len(ids)
    assert all(len(name) <= 52 and name == name.lower() and "_" not in name for name in names)
    assert not any(name.endswith("-") for name in names)


def usual_memory(machine_gib: int) -> int:
    """Return what an attempt on such a machine is given to use."""
    machine = a_machine(machine_gib)
    return usable_mib(machine)


@pytest.mark.parametrize(
    ("machine_gib", "allocatable_mib"),
    [(4, 2_970), (8, 6_250), (16, 13_570), (64, 59_200), (256, 247_000)],
)
def test_an_attempt_asks_for_nearly_all_that_google_leaves_of_a_machine_and_not_for_more(
    machine_gib: int, allocatable_mib: int
) -> None:
    wanted = memory_of(usual_memory(machine_gib))
    assert allocatable_mib * 0.98 - 700 < wanted < allocatable_mib


def test_an_attempt_never_asks_for_more_memory_than_it_is_given_to_use() -> None:
    assert memory_of(usual_memory(2_048)) == usual_memory(2_048)
