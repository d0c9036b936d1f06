"""What machines on Compute Engine are made of, those with GPUs above all."""

import json
from pathlib import Path

import pytest
from google.cloud import compute_v1

from shared.errors import CloudError
from shared.fleets.gce import GceFleet
from shared.fleets.gce_resources import Machine, template_of
from shared.models.account import Gpus
from shared.models.farm import Orchestrator, PoolKey
from tests.contracts.stand_ins import nobody, stand_in
from tests.golden_files import check_golden

ORCHESTRATOR = Orchestrator(
    orchestrator_id="o1",
    scheduler="nomad",
    scheduler_address="http://127.0.0.1:1",
    fleet="gce",
    project="render",
    region="us-central1",
    zones={"us-central1-a": True},
)
MACHINE = Machine(
    machine_types={
        "cpu-8-32": "n2-standard-8",
        "gpu-4-16-l4": "g2-standard-4",
        "gpu-8-30-t4x2": "n1-standard-8",
        "gpu-8-30-l4": "n1-standard-8",
    },
    gpus={
        "gpu-4-16-l4": Gpus(model="NVIDIA L4", count=1),
        "gpu-8-30-t4x2": Gpus(model="NVIDIA T4", count=2),
        "gpu-8-30-l4": Gpus(model="NVIDIA L4", count=1),
    },
)


def a_pool(instance_type: str, *, is_preemptible: bool = False) -> PoolKey:
    return PoolKey("us-central1-a", instance_type, is_preemptible)


@pytest.mark.golden
@pytest.mark.parametrize("instance_type", ["cpu-8-32", "gpu-4-16-l4", "gpu-8-30-t4x2"])
@pytest.mark.parametrize("is_preemptible", [True, False])
def test_the_template_of_a_pool_is_what_was_reviewed(
    instance_type: str, is_preemptible: bool
) -> None:
    pool = a_pool(instance_type, is_preemptible=is_preemptible)
    said = template_of(ORCHESTRATOR, pool, MACHINE).properties
    sent = compute_v1.InstanceProperties.to_json(said, always_print_fields_with_no_presence=False)
    price_class = "spot" if is_preemptible else "standard"
    check_golden(f"gce/{instance_type}_{price_class}", json.loads(sent))


def test_the_provider_takes_and_starts_machines_with_gpus(tmp_path: Path) -> None:
    with stand_in("compute", "--data", tmp_path, "--nomad", nobody(), "--boot-s", "0") as url:
        fleet = GceFleet(ORCHESTRATOR, endpoint=url, machine=MACHINE)
        for pool in (a_pool("gpu-4-16-l4"), a_pool("gpu-8-30-t4x2")):
            name = f"baton-1-{pool.instance_type}"
            fleet.grow(pool, [name])
            assert [each.name for each in fleet.instances(pool)] == [name]


def test_a_gpu_that_the_provider_attaches_to_no_machine_is_an_error_of_that_pool() -> None:
    with pytest.raises(CloudError, match="no NVIDIA L4"):
        template_of(ORCHESTRATOR, a_pool("gpu-8-30-l4"), MACHINE)
