"""What the EC2 fleet is made of: names, launch templates and Auto Scaling groups, as the API takes them."""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.models.farm import Orchestrator, PoolKey

Wire = dict[str, Any]

# The group does what it is told, and nothing by itself: it replaces nobody, balances nothing, and judges no machine's
# health. Source: https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html, read 2026-11.
SUSPENDED = (
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)

# A machine learns its name from its tag, which comes a moment after the machine; one that never gets a name goes.
_USER_DATA = """\
#!/bin/sh
set -eu
root=http://169.254.169.254/latest
name=
for _ in $(seq 300); do
  token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $root/api/token) || token=
  name=$(curl -sf -H "X-aws-ec2-metadata-token: $token" $root/meta-data/tags/instance/Name) && break
  sleep 1
done
[ -n "$name" ] || exec poweroff
mkdir -p /etc/baton
cat > /etc/baton/node.env <<'END'
{facts}
END
echo "BATON_INSTANCE=$name" >> /etc/baton/node.env
exec systemctl start baton-node
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What every instance is made of. `machine_types` maps our type names to the provider's where they differ.

    Shapes: `image` is an image's id, or where the parameter store holds it; no `security_groups` means the network's.
    """

    image: str = "resolve:ssm:/baton/node-image"
    instance_profile: str = "baton-node"
    security_groups: Sequence[str] = ()
    machine_types: Mapping[str, str] = field(default_factory=dict)


def price_class(pool: PoolKey) -> str:
    """Return `p` for machines that the provider may take back, `s` for the others."""
    return "p" if pool.is_preemptible else "s"


def group_name(orchestrator: Orchestrator, pool: PoolKey) -> str:
    """Return the name of a pool's group: always the same, and another one for each pool."""
    parts = (orchestrator.orchestrator_id, pool.zone, pool.instance_type, price_class(pool))
    return "/".join(("baton", *parts))


def template_of(orchestrator: Orchestrator, pool: PoolKey, machine: Machine) -> Wire:
    """Return the launch template of a pool's instances.

    A template of ours has one version and never changes, so its name depends on all that is in it.
    """
    data = _template_data(orchestrator, pool, machine)
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]
    stem = f"baton/{orchestrator.orchestrator_id}/{pool.instance_type}/{price_class(pool)}"
    return {"LaunchTemplateName": f"{stem[:115]}/{digest}", "LaunchTemplateData": data}


def group_of(orchestrator: Orchestrator, pool: PoolKey, template: str, subnet: str = "") -> Wire:
    """Return the group of a pool, empty: its tags say which pool it is. No `subnet` means the zone's default one."""
    name = group_name(orchestrator, pool)
    tags = {**_facts(orchestrator, pool), "baton-zone": pool.zone}
    where: Wire = {"VPCZoneIdentifier": subnet} if subnet else {"AvailabilityZones": [pool.zone]}
    return {
        "AutoScalingGroupName": name,
        "LaunchTemplate": {"LaunchTemplateName": template, "Version": "1"},
        "MinSize": 0,
        "DesiredCapacity": 0,
        "MaxSize": orchestrator.max_per_pool,
        "NewInstancesProtectedFromScaleIn": True,
        "HealthCheckType": "EC2",
        "Tags": [
            {
                "ResourceId": name,
                "ResourceType": "auto-scaling-group",
                "Key": key,
                "Value": value,
                "PropagateAtLaunch": False,
            }
            for key, value in tags.items()
        ],
        **where,
    }


def pool_of(tags: Sequence[Mapping[str, Any]]) -> PoolKey | None:
    """Return the pool that a group's tags say it is; None when they do not."""
    said = {tag["Key"]: tag["Value"] for tag in tags}
    try:
        return PoolKey(
            said["baton-zone"], said["baton-instance-type"], said["baton-preemptible"] == "true"
        )
    except KeyError:
        return None


def _facts(orchestrator: Orchestrator, pool: PoolKey) -> dict[str, str]:
    return {
        "baton-orchestrator": orchestrator.orchestrator_id,
        "baton-instance-type": pool.instance_type,
        "baton-preemptible": str(pool.is_preemptible).lower(),
    }


def _template_data(orchestrator: Orchestrator, pool: PoolKey, machine: Machine) -> Wire:
    """Return what an instance of this pool is."""
    facts = _facts(orchestrator, pool)
    tags = [{"Key": key, "Value": value} for key, value in facts.items()]
    data: Wire = {
        "ImageId": machine.image,
        "InstanceType": machine.machine_types.get(pool.instance_type, pool.instance_type),
        "IamInstanceProfile": {"Name": machine.instance_profile},
        "UserData": base64.b64encode(_user_data(orchestrator, facts).encode()).decode(),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpTokens": "required",
            # In a pod the agent is one hop further away.
            "HttpPutResponseHopLimit": 2 if orchestrator.scheduler == "kubernetes" else 1,
            "InstanceMetadataTags": "enabled",
        },
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
        ],
    }
    if machine.security_groups:
        data["SecurityGroupIds"] = list(machine.security_groups)
    if pool.is_preemptible:
        data["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
            },
        }
    return data


def _user_data(orchestrator: Orchestrator, facts: Mapping[str, str]) -> str:
    said = {name.upper().replace("-", "_"): value for name, value in facts.items()}
    said["BATON_SCHEDULER"] = orchestrator.scheduler
    said["BATON_SCHEDULER_ADDRESS"] = orchestrator.scheduler_address
    lines = "\n".join(f"{name}={shlex.quote(value)}" for name, value in said.items())
    return _USER_DATA.replace("{facts}", lines)
