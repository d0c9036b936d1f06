"""What the catalogue says of machines, and the tokens of clusters, reach the drivers through the wiring."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared import wiring
from shared.models.farm import Orchestrator, PoolKey, Shape
from shared.models.job import AttemptRef
from shared.ports import SubmittedAttempt
from tests.contracts.aws import REGION, BatchRig, aws_server
from tests.contracts.stand_ins import GPU_SHAPE, nobody, recorded, stand_in

ZONE = "us-central1-a"


def an_orchestrator(**fields: Any) -> Orchestrator:
    known: dict[str, Any] = {
        "orchestrator_id": "o1",
        "scheduler_address": nobody(),
        "project": "render",
        "region": "us-central1",
        "zones": {ZONE: True},
    }
    return Orchestrator(**{**known, **fields})


def an_attempt(shape: Shape) -> SubmittedAttempt:
    return SubmittedAttempt(
        ref=AttemptRef("acme", "00001", "0", 1),
        shape=shape,
        zones=(ZONE,),
        cores=4,
        memory_mib=16_384,
        priority=5,
        environment={"BATON_ATTEMPT_TOKEN": "token"},
    )


@pytest.mark.parametrize(
    ("instance_type", "machine_type", "gpus"),
    [("gpu-24-96-l4x2", "g2-standard-24", "2"), ("cpu-4-16", "n2-standard-4", None)],
)
def test_kubernetes_is_asked_for_the_providers_machine_and_all_its_gpus(
    cloud: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    instance_type: str,
    machine_type: str,
    gpus: str | None,
) -> None:
    monkeypatch.setenv("BATON_AGENT_IMAGE", "baton-agent:1")
    answer = {"metadata": {"name": "acme-00001-0-1", "uid": "uid-of-the-job"}}
    with recorded(answer) as (url, calls):
        mine = an_orchestrator(scheduler="kubernetes", fleet="gce", scheduler_address=url)
        wiring.scheduler(mine).submit(an_attempt(Shape(instance_type, False)))
    pod = calls[0]["body"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") == gpus
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert [machine_type] in [each["values"] for each in term["matchExpressions"]]


@pytest.mark.parametrize(
    ("kind", "variable", "header", "prefix"),
    [
        ("nomad", "NOMAD_TOKEN", "X-Nomad-Token", ""),
        ("kubernetes", "KUBERNETES_TOKEN", "Authorization", "Bearer "),
    ],
)
def test_each_cluster_is_called_with_its_own_token_or_else_with_that_of_all(
    cloud: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    variable: str,
    header: str,
    prefix: str,
) -> None:
    monkeypatch.setenv("BATON_AGENT_IMAGE", "baton-agent:1")
    monkeypatch.setenv(variable, "of-all")
    monkeypatch.setenv(f"{variable}_FARM_EU", "of-farm-eu")
    answer = {"metadata": {"name": "acme-00001-0-1", "uid": "uid-of-the-job"}}
    for orchestrator_id, token in (("farm-eu", "of-farm-eu"), ("farm-us", "of-all")):
        with recorded(answer) as (url, calls):
            mine = an_orchestrator(
                scheduler=kind, fleet="gce", scheduler_address=url, orchestrator_id=orchestrator_id
            )
            wiring.scheduler(mine).submit(an_attempt(Shape("cpu-4-16", False)))
        assert {call["headers"][header] for call in calls} == {prefix + token}


def test_batch_is_asked_for_all_gpus_of_a_machine(cloud: Mapping[str, str]) -> None:
    with aws_server() as url:
        rig = BatchRig(url)
        mine = an_orchestrator(
            scheduler="batch", fleet="managed", scheduler_address=url, region=REGION
        )
        wiring.scheduler(mine).submit(an_attempt(GPU_SHAPE))
        rig.join("i-1", GPU_SHAPE)
        (placed,) = rig.scheduler.placements()
        assert placed.instance == "i-1"
        batch = boto3.client("batch", region_name=REGION, endpoint_url=url)
        (queue,) = [
            each["jobQueueName"]
            for each in batch.describe_job_queues()["jobQueues"]
            if each["tags"]["baton-instance-type"] == GPU_SHAPE.instance_type
            and each["tags"]["baton-orchestrator"] == "o1"
        ]
        (job,) = batch.list_jobs(jobQueue=queue, jobStatus="STARTING")["jobSummaryList"]
        (found,) = batch.describe_jobs(jobs=[job["jobId"]])["jobs"]
        assert {"type": "GPU", "value": "1"} in found["container"]["resourceRequirements"]


def test_google_starts_standard_machines_with_gpus(
    cloud: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stand_in("compute", "--data", tmp_path, "--nomad", nobody(), "--boot-s", "0") as url:
        monkeypatch.setenv("BATON_COMPUTE_ENDPOINT", url)
        fleet = wiring.fleet(an_orchestrator(scheduler="nomad", fleet="gce"))
        pool = PoolKey(ZONE, GPU_SHAPE.instance_type, False)
        fleet.grow(pool, ["baton-1-a"])
        assert [each.name for each in fleet.instances(pool)] == ["baton-1-a"]
