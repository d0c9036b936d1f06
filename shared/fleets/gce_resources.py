"""What the Compute Engine fleet is made of: names, instance templates and managed groups, as the API takes them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.cloud import compute_v1

from shared.errors import CloudError
from shared.models.account import Gpus
from shared.models.farm import Orchestrator, PoolKey

NAME_LENGTH = 61

# Types of this series have no GPU but those that are attached; all others come with theirs.
ATTACHED_TO = "n1-"
# A GPU as the catalogue calls it -> the provider's word for it where it is attached.
# Source: https://cloud.google.com/compute/docs/gpus, https://cloud.google.com/compute/docs/gpus/create-gpu-vm-general-purpose,
# read 2026-11.
ACCELERATORS: Mapping[str, str] = {
    "NVIDIA T4": "nvidia-tesla-t4",
    "NVIDIA P4": "nvidia-tesla-p4",
    "NVIDIA P100": "nvidia-tesla-p100",
    "NVIDIA V100": "nvidia-tesla-v100",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What every instance is made of. `machine_types` maps our type names to the provider's where they differ.

    Shapes: `gpus` has those of the types that have any.
    """

    source_image: str = "global/images/family/baton-node"
    disk_gb: int = 50
    network: str = "global/networks/default"
    service_account: str = "default"
    machine_types: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, Gpus] = field(default_factory=dict)


def group_name(orchestrator: Orchestrator, pool: PoolKey) -> str:
    """Return the name of a pool's group: always the same, and another one for each pool."""
    parts = (orchestrator.orchestrator_id, pool.zone, pool.instance_type, _price_class(pool))
    return _short("-".join(("baton", *parts)), NAME_LENGTH)


def _price_class(pool: PoolKey) -> str:
    return "p" if pool.is_preemptible else "s"


def _short(plain: str, length: int) -> str:
    """Return a name that the API takes; one that had to be changed ends in a digest, so that no two become one."""
    name = sanitised(plain)
    if name == plain and len(name) <= length:
        return name
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{name[: length - 9].rstrip('-')}-{digest}"


def sanitised(text: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower())


def template_of(
    orchestrator: Orchestrator, pool: PoolKey, machine: Machine
) -> compute_v1.InstanceTemplate:
    """Return the template of a pool's instances, the same in every zone.

    Templates never change, so the name depends on all that is in it.
    """
    properties = _properties(orchestrator, pool, machine)
    said = compute_v1.InstanceProperties.to_json(properties, sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    shape = (pool.instance_type, _price_class(pool))
    stem = _short("-".join(("baton", orchestrator.orchestrator_id, *shape)), NAME_LENGTH - 9)
    return compute_v1.InstanceTemplate(name=f"{stem}-{digest}", properties=properties)


def group_of(
    orchestrator: Orchestrator, pool: PoolKey, template: str
) -> compute_v1.InstanceGroupManager:
    """Return the group of a pool, empty: its description says which pool it is."""
    said = {"orchestrator": orchestrator.orchestrator_id, **pool._asdict()}
    return compute_v1.InstanceGroupManager(
        name=group_name(orchestrator, pool),
        base_instance_name="baton",
        instance_template=template,
        target_size=0,
        description=json.dumps(said),
        instance_lifecycle_policy=compute_v1.InstanceGroupManagerInstanceLifecyclePolicy(
            default_action_on_failure="DO_NOTHING"
        ),
        # Running instances keep the template they were made from.
        update_policy=compute_v1.InstanceGroupManagerUpdatePolicy(type_="OPPORTUNISTIC"),
        list_managed_instances_results="PAGINATED",
    )


def is_unused(group: compute_v1.InstanceGroupManager) -> bool:
    """Tell whether a group has no instance, wants none, and has none on its way in or out."""
    actions = compute_v1.InstanceGroupManagerActionsSummary.to_dict(group.current_actions)
    return not group.target_size and not any(actions.values())


def pool_of(orchestrator: Orchestrator, description: str) -> PoolKey | None:
    """Return the pool that a group says it is; None when it is not this orchestrator's."""
    try:
        said = json.loads(description)
        if said.pop("orchestrator") != orchestrator.orchestrator_id:
            return None
        return PoolKey(**said)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def groups_filter(orchestrator: Orchestrator) -> str:
    """Return the filter that lets all groups of an orchestrator through, and few others."""
    return f'name eq "{sanitised(f"baton-{orchestrator.orchestrator_id}")[:40]}.*"'


def _properties(
    orchestrator: Orchestrator, pool: PoolKey, machine: Machine
) -> compute_v1.InstanceProperties:
    """Return what an instance of this pool is."""
    spot = pool.is_preemptible
    machine_type = machine.machine_types.get(pool.instance_type, pool.instance_type)
    gpus = machine.gpus.get(pool.instance_type)
    facts = {
        "orchestrator": orchestrator.orchestrator_id,
        "instance_type": pool.instance_type,
        "preemptible": str(spot).lower(),
    }
    metadata = {**facts, "nomad_address": orchestrator.scheduler_address}
    disk = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            source_image=machine.source_image, disk_size_gb=machine.disk_gb
        ),
    )
    scheduling = compute_v1.Scheduling(
        provisioning_model="SPOT" if spot else "STANDARD",
        automatic_restart=not spot,
        on_host_maintenance="TERMINATE" if spot or gpus else "MIGRATE",  # no GPU can migrate
    )
    if spot:
        scheduling.instance_termination_action = "STOP"
    return compute_v1.InstanceProperties(
        machine_type=machine_type,
        guest_accelerators=_attached(machine_type, gpus),
        labels={name: sanitised(value) for name, value in facts.items()},
        metadata=compute_v1.Metadata(
            items=[compute_v1.Items(key=key, value=value) for key, value in metadata.items()]
        ),
        scheduling=scheduling,
        disks=[disk],
        network_interfaces=[compute_v1.NetworkInterface(network=machine.network)],
        service_accounts=[
            compute_v1.ServiceAccount(
                email=machine.service_account,
                scopes=["https://www.googleapis.com/auth/cloud-platform"],
            )
        ],
    )


def _attached(machine_type: str, gpus: Gpus | None) -> list[compute_v1.AcceleratorConfig]:
    """Return the GPUs that must be attached. Raises: CloudError when the provider attaches none of this model."""
    if gpus is None or not machine_type.startswith(ATTACHED_TO):
        return []
    if gpus.model not in ACCELERATORS:
        raise CloudError(f"gce: {machine_type}: no {gpus.model} can be attached")
    kind = ACCELERATORS[gpus.model]
    return [compute_v1.AcceleratorConfig(accelerator_type=kind, accelerator_count=gpus.count)]
