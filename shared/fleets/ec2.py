"""The Fleet of shared/ports.py on Amazon EC2: one Auto Scaling group per pool.

A group is told how many to launch and which to terminate, and never chooses by itself. Launches are synchronous and
carry a token, so the same names again are the same machines. Amazon has no names for machines: ours is a tag, written
right after the launch. Who dies in between leaves a machine without a name: it is listed under Amazon's id, joins no
scheduler, and goes as one that never booted, or after five minutes by itself.
Source: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/ (LaunchInstances, TerminateInstanceInAutoScalingGroup,
DescribeScalingActivities) and https://docs.aws.amazon.com/AWSEC2/latest/APIReference/, read 2026-11.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from shared.aws import code_of
from shared.errors import CloudError
from shared.fleets.ec2_errors import ERRORS, is_gone, problem_of, translated
from shared.fleets.ec2_resources import (
    SUSPENDED,
    Machine,
    group_name,
    group_of,
    pool_of,
    template_of,
)
from shared.models.farm import (
    FleetInstance,
    FleetProblem,
    Orchestrator,
    PoolKey,
    named_at,
)

CONNECT_S, READ_S = 5, 60
MOST_PER_CALL = 100  # launched, and terminated
INSTANCES_PER_PAGE = 1000
ACTIVITIES_PER_PAGE = 100
TAGS_AT_ONCE = 8


@dataclass(frozen=True)
class _Member:
    """A machine of a group, with Amazon's id."""

    instance_id: str
    listed: FleetInstance


class Ec2Fleet:
    """The groups of one orchestrator. `endpoint` is set only where the API is not Amazon's own.

    Credentials are found as every program of Amazon's finds them.
    """

    def __init__(
        self, orchestrator: Orchestrator, *, endpoint: str = "", machine: Machine | None = None
    ) -> None:
        self._orchestrator = orchestrator
        self._machine = machine or Machine()
        self._ready: set[PoolKey] = set()
        options: dict[str, Any] = {
            "region_name": orchestrator.region,
            "endpoint_url": endpoint or None,
            "config": Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=TAGS_AT_ONCE,
            ),
        }
        session = boto3.session.Session()
        self._groups = session.client("autoscaling", **options)
        self._ec2 = session.client("ec2", **options)

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        if not names:
            return
        with translated(f"growing {pool.zone}"):
            there = {each.listed.name for each in self._members(pool)}
            for some in _batches(names):
                missing = [name for name in some if name not in there]
                if not missing:
                    continue
                self._ensure_group(pool)
                try:
                    self._launch(pool, missing)
                except ClientError as exc:
                    if not is_gone(exc):
                        raise
                    self._ready.discard(pool)  # the group was deleted behind our back
                    self._ensure_group(pool)
                    self._launch(pool, missing)

    def pools(self) -> list[PoolKey]:
        mine = {
            "Name": "tag:baton-orchestrator",
            "Values": [self._orchestrator.orchestrator_id],
        }
        with translated("listing groups"):
            pages = self._groups.get_paginator("describe_auto_scaling_groups").paginate(
                Filters=[mine]
            )
            found = [
                pool_of(group["Tags"]) for page in pages for group in page["AutoScalingGroups"]
            ]
        return sorted(pool for pool in found if pool is not None)

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        with translated(f"listing {pool.zone}"):
            found = [each.listed for each in self._members(pool)]
        return sorted(found, key=lambda each: (each.created_at, each.name))

    def retire(self, pool: PoolKey, names: Sequence[str]) -> None:
        if not names:
            return
        with translated(f"shrinking {pool.zone}"):
            try:
                self._terminate(pool, names)
            except ClientError as exc:
                if not is_gone(exc):
                    raise
                self._terminate(pool, names)  # one of them went since it was listed

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        found: list[FleetProblem] = []
        with translated(f"reading activities of {pool.zone}"):
            for activity in self._activities(pool):
                if activity["StartTime"] < since:  # the latest come first
                    break
                if activity["StatusCode"] in ("Failed", "Cancelled"):
                    said = activity.get("StatusMessage") or activity["Description"]
                    found.append(
                        FleetProblem(
                            pool=pool,
                            code=problem_of(said),
                            message=said,
                            at=activity["StartTime"].astimezone(UTC),
                        )
                    )
        return sorted(found, key=lambda each: each.at)

    def _launch(self, pool: PoolKey, names: Sequence[str]) -> None:
        """Launch machines and name them. Raises: CloudError when not all could be; botocore's ClientError."""
        group = group_name(self._orchestrator, pool)
        token = uuid.uuid5(uuid.NAMESPACE_URL, "/".join((group, *names)))
        answer = self._groups.launch_instances(
            AutoScalingGroupName=group,
            RequestedCapacity=len(names),
            ClientToken=str(token),
            AvailabilityZones=[pool.zone],
            RetryStrategy="none",
        )
        launched = sorted(
            instance_id
            for collection in answer.get("Instances", ())
            for instance_id in collection["InstanceIds"]
        )
        with ThreadPoolExecutor(TAGS_AT_ONCE) as threads:
            list(threads.map(self._name, launched, names))
        for error in answer.get("Errors", ()):
            code, said = error["ErrorCode"], error.get("ErrorMessage", "")
            raise ERRORS.get(code, CloudError)(f"ec2: {pool.zone}: {code}: {said}")
        if len(launched) < len(names):
            raise CloudError(f"ec2: {pool.zone}: {len(launched)} of {len(names)} were launched")

    def _name(self, instance_id: str, name: str) -> None:
        self._ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": name}])

    def _terminate(self, pool: PoolKey, names: Sequence[str]) -> None:
        wanted = set(names)
        ids = [
            each.instance_id
            for each in self._members(pool)
            if each.listed.name in wanted and not each.listed.is_retiring
        ]
        for some in _batches(ids):
            self._groups.terminate_instance_in_auto_scaling_group(
                AutoScalingGroupName=group_name(self._orchestrator, pool),
                InstanceIds=list(some),
                ShouldDecrementDesiredCapacity=True,
            )

    def _members(self, pool: PoolKey) -> list[_Member]:
        """Return the machines that a pool's group has.

        The group knows which are its own and which it terminates, EC2 their names and what has become of them. One that
        the group has only just begun to launch is told of when EC2 knows it too.
        """
        name = group_name(self._orchestrator, pool)
        answer = self._groups.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        states = {
            each["InstanceId"]: each["LifecycleState"]
            for group in answer["AutoScalingGroups"]
            for each in group["Instances"]
        }
        if not states:
            return []
        pages = self._ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": [name]}],
            PaginationConfig={"PageSize": INSTANCES_PER_PAGE},
        )
        known = {
            instance["InstanceId"]: instance
            for page in pages
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        }
        return [
            _member(pool, instance_id, state, known.get(instance_id))
            for instance_id, state in states.items()
            if instance_id in known or not state.startswith("Pending")
        ]

    def _activities(self, pool: PoolKey) -> Iterator[Mapping[str, Any]]:
        """Yield what a group did, the latest first; nothing when there is no such group."""
        pages = self._groups.get_paginator("describe_scaling_activities").paginate(
            AutoScalingGroupName=group_name(self._orchestrator, pool),
            PaginationConfig={"PageSize": ACTIVITIES_PER_PAGE},
        )
        try:
            for page in pages:
                yield from page["Activities"]
        except ClientError as exc:
            if not is_gone(exc):
                raise

    def _ensure_group(self, pool: PoolKey) -> None:
        """Create a pool's group, or give it the present template and size."""
        if pool in self._ready:
            return
        template = self._ensure_template(pool)
        wanted = group_of(self._orchestrator, pool, template, self._subnet(pool))
        name = wanted["AutoScalingGroupName"]
        try:
            self._groups.create_auto_scaling_group(**wanted)
        except ClientError as exc:
            if code_of(exc) != "AlreadyExists":
                raise
            self._groups.update_auto_scaling_group(
                AutoScalingGroupName=name,
                LaunchTemplate=wanted["LaunchTemplate"],
                MaxSize=wanted["MaxSize"],
            )
        self._groups.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=list(SUSPENDED))
        self._ready.add(pool)

    def _subnet(self, pool: PoolKey) -> str:
        """Return the subnet of the pool's zone that is tagged for this orchestrator, "" when none is."""
        mine = {
            "tag:baton-orchestrator": self._orchestrator.orchestrator_id,
            "availability-zone": pool.zone,
        }
        found = self._ec2.describe_subnets(
            Filters=[{"Name": name, "Values": [value]} for name, value in mine.items()]
        )
        return min((subnet["SubnetId"] for subnet in found["Subnets"]), default="")

    def _ensure_template(self, pool: PoolKey) -> str:
        """Create the launch template of a pool's instances; returns its name."""
        template = template_of(self._orchestrator, pool, self._machine)
        try:
            self._ec2.create_launch_template(**template)
        except ClientError as exc:
            if code_of(exc) != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise
        return str(template["LaunchTemplateName"])


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), MOST_PER_CALL):
        yield names[start : start + MOST_PER_CALL]


def _member(
    pool: PoolKey, instance_id: str, lifecycle: str, known: Mapping[str, Any] | None
) -> _Member:
    """Return a machine as we list it; EC2 forgets an hour after its end what it was (`known` is None)."""
    tags = {tag["Key"]: tag["Value"] for tag in known.get("Tags", ())} if known else {}
    status = known["State"]["Name"] if known else "terminated"
    name = tags.get("Name", instance_id)
    try:
        created_at = named_at(name)
    except ValueError:  # it has no name of ours
        created_at = known["LaunchTime"] if known else datetime.fromtimestamp(0, UTC)
    is_over = status in ("terminated", "stopped")
    is_leaving = lifecycle.startswith(("Terminat", "Detach"))
    return _Member(
        instance_id,
        FleetInstance(
            name=name,
            pool=pool,
            created_at=created_at,
            is_retiring=is_leaving or status in ("shutting-down", "stopping"),
            is_stopped=is_over and not is_leaving,
        ),
    )
