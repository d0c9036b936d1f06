"""The Fleet of shared/ports.py on Amazon EC2: one Auto Scaling group per pool.

A group is told how many to launch and which to terminate, and never chooses by itself. Launches are synchronous and
carry a token, so the same names again are the same machines. Amazon has no names for machines: ours is a tag, written
right after the launch, one call each. A machine left without one is listed under Amazon's id and joins no scheduler;
the next growth gives it a name before it launches others, and after five minutes it goes by itself.
Source: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/ (LaunchInstances, TerminateInstanceInAutoScalingGroup,
DescribeScalingActivities) and https://docs.aws.amazon.com/AWSEC2/latest/APIReference/, read 2026-11.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from shared.aws import code_of
from shared.errors import CloudError
from shared.fleets.ec2_errors import ERRORS, may_be_gone, problem_of, translated
from shared.fleets.ec2_members import Member, member_of
from shared.fleets.ec2_resources import (
    SUSPENDED,
    Machine,
    group_name,
    group_of,
    pool_of,
    template_of,
)
from shared.fleets.empty_pools import EmptyPools
from shared.models.farm import (
    FleetInstance,
    FleetProblem,
    Orchestrator,
    PoolKey,
)

CONNECT_S, READ_S = 5, 60
MOST_PER_CALL = 100  # launched, and terminated
INSTANCES_PER_PAGE = 1000
ACTIVITIES_PER_PAGE = 100
TAGS_AT_ONCE = 8
# Every machine needs a call of its own for its name, so a batch comes near the rate that Amazon allows. A call that is
# refused for that is made again, waiting longer each time, half a minute in all.
TAG_TRIES = 8

_GROUPS = "AutoScalingGroups"


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
        self._empty = EmptyPools()
        session = boto3.session.Session()

        def client(service: str, tries: int = 1) -> Any:
            config = Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": tries},
                max_pool_connections=TAGS_AT_ONCE,
            )
            return session.client(
                service,
                region_name=orchestrator.region,
                endpoint_url=endpoint or None,
                config=config,
            )

        self._groups, self._ec2 = client("autoscaling"), client("ec2")
        self._tags = client("ec2", TAG_TRIES)

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        if not names:
            return
        self._empty.note_growth(pool)
        with translated(f"growing {pool.zone}"):
            members, now = self._members(pool), datetime.now(UTC)
            there = {each.listed.name for each in members}
            missing = [name for name in names if name not in there]
            nameless = [each.instance_id for each in members if each.is_adoptable(now)]
            self._give_names(nameless, missing)
            for some in _batches(missing[len(nameless) :]):
                self._ensure_group(pool)
                try:
                    self._launch(pool, some)
                except ClientError as exc:
                    if not may_be_gone(exc):
                        raise
                    self._ready.discard(pool)  # the group may have been deleted behind our back
                    self._ensure_group(pool)
                    self._launch(pool, some)

    def pools(self) -> list[PoolKey]:
        mine = {
            "Name": "tag:baton-orchestrator",
            "Values": [self._orchestrator.orchestrator_id],
        }
        with translated("listing groups"):
            pages = self._groups.get_paginator("describe_auto_scaling_groups").paginate(
                Filters=[mine]
            )
            listed = [(pool_of(group["Tags"]), group) for page in pages for group in page[_GROUPS]]
        found = {pool: group for pool, group in listed if pool is not None}
        self._empty.note(
            [
                pool
                for pool, group in found.items()
                if not group["DesiredCapacity"] and not group["Instances"]
            ]
        )
        return sorted(found)

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        if self._empty.is_quiet(pool):
            return []
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
                if not may_be_gone(exc):
                    raise
                self._terminate(pool, names)  # one of them may have gone since it was listed

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        found: list[FleetProblem] = []
        if self._empty.is_quiet(pool):
            return found
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
        try:
            self._give_names(launched, names)
        finally:  # what could not be launched says more than what could not be named
            for error in answer.get("Errors", ()):
                code, said = error["ErrorCode"], error.get("ErrorMessage", "")
                raise ERRORS.get(code, CloudError)(f"ec2: {pool.zone}: {code}: {said}")
        if len(launched) < len(names):
            raise CloudError(f"ec2: {pool.zone}: {len(launched)} of {len(names)} were launched")

    def _give_names(self, instance_ids: Sequence[str], names: Sequence[str]) -> None:
        """Name machines, as many as there are of both. Raises: botocore's, once all others are named."""
        with ThreadPoolExecutor(TAGS_AT_ONCE) as threads:
            given = [
                threads.submit(self._name, *each) for each in zip(instance_ids, names, strict=False)
            ]
        for each in given:
            each.result()

    def _name(self, instance_id: str, name: str) -> None:
        self._tags.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": name}])

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

    def _members(self, pool: PoolKey) -> list[Member]:
        """Return the machines that a pool's group has.

        The group knows which are its own and which it terminates, EC2 their names and what has become of them. One that
        the group has only just begun to launch is told of when EC2 knows it too.
        """
        name = group_name(self._orchestrator, pool)
        states = {
            each["InstanceId"]: each["LifecycleState"]
            for group in self._groups_called(name)
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
            member_of(pool, instance_id, state, known.get(instance_id))
            for instance_id, state in states.items()
            if instance_id in known or not state.startswith("Pending")
        ]

    def _groups_called(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the group of this name, if there is one."""
        answer = self._groups.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        found: Sequence[Mapping[str, Any]] = answer[_GROUPS]
        return found

    def _activities(self, pool: PoolKey) -> Iterator[Mapping[str, Any]]:
        """Yield what a group did, the latest first; nothing when there is no such group."""
        name = group_name(self._orchestrator, pool)
        pages = self._groups.get_paginator("describe_scaling_activities").paginate(
            AutoScalingGroupName=name,
            PaginationConfig={"PageSize": ACTIVITIES_PER_PAGE},
        )
        try:
            for page in pages:
                yield from page["Activities"]
        except ClientError as exc:
            if not may_be_gone(exc) or self._groups_called(name):
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
