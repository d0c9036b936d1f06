"""What moto's Auto Scaling groups lack: LaunchInstances, terminating many, activities, time, and trouble.

Machines here are states, not processes: they are pending until they have booted, and shutting down for a while. A
machine that Amazon takes back stays in its group when ReplaceUnhealthy is suspended, and is replaced when it is not.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models.instances import StateReason

from emulators.aws.answers import Answer, Refused, xml_answer
from emulators.aws.faults import Faults

MOST_PER_CALL = 100
ACTIVITIES_PER_PAGE = 100

PENDING, RUNNING, SHUTTING_DOWN = ("pending", 0), ("running", 16), ("shutting-down", 32)

Parameters = Mapping[str, str]


@dataclass(frozen=True)
class Pace:
    """How long things take here."""

    boot_s: float = 2.0
    stop_s: float = 0.2


class Groups:
    """The Auto Scaling groups of all regions."""

    def __init__(self, pace: Pace, faults: Faults) -> None:
        self._pace = pace
        self._faults = faults
        self._actions = {
            "LaunchInstances": self._launch,
            "TerminateInstanceInAutoScalingGroup": self._terminate,
            "DescribeScalingActivities": self._list_activities,
        }
        self.reset()

    def reset(self) -> None:
        """Forget what was due and what was done; moto forgets the groups."""
        self._due: dict[str, tuple[float, Any]] = {}
        self._launches: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}
        self._activities: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def answer(self, region: str, parameters: Parameters) -> Answer | None:
        """Answer a call of ours; None for those that moto answers. Raises: Refused."""
        name = parameters.get("Action", "")
        if name == "CreateAutoScalingGroup":  # moto would put the new one in the place of the old
            groups = autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups
            if parameters["AutoScalingGroupName"] in groups:
                said = "AutoScalingGroup by this name already exists - A group with the name exists"
                raise Refused("AlreadyExists", said)
        action = self._actions.get(name)
        return None if action is None else xml_answer(name, action(region, parameters))

    def advance(self) -> None:
        """Bring every machine to where it is by now."""
        now = time.monotonic()
        for instance_id, (due_at, member) in list(self._due.items()):
            if due_at > now:
                continue
            del self._due[instance_id]
            if member.lifecycle_state == "Terminating":
                group = member.instance.autoscaling_group
                member.instance.terminate()
                group.instance_states.remove(member)
            elif member.instance.state == "pending":
                _set_state(member.instance, RUNNING)

    def machines(self) -> list[dict[str, Any]]:
        """Return every machine of a group."""
        return [
            {
                "id": member.instance.id,
                "name": _name(member.instance),
                "group": group.name,
                "status": member.instance.state,
                "preemptible": member.instance.lifecycle == "spot",
                "is_protected": bool(member.protected_from_scale_in),
            }
            for backend in _backends()
            for group in backend.autoscaling_groups.values()
            for member in group.instance_states
        ]

    def interrupt(self, wanted: str) -> None:
        """Take a machine back, as happens to spot instances. Raises: ValueError when there is none."""
        for backend in _backends():
            for group in backend.autoscaling_groups.values():
                for member in group.instance_states:
                    if wanted in (member.instance.id, _name(member.instance)):
                        self._take(backend, group, member)
                        return
        raise ValueError(f"no machine {wanted!r}")

    def _take(self, backend: Any, group: Any, member: Any) -> None:
        member.instance.terminate()
        code = "Server.SpotInstanceTermination"
        member.instance.state_reason = StateReason(f"{code}: taken back", code)
        member.health_status = "Unhealthy"
        suspended = {each["ProcessName"] for each in group.suspended_processes}
        if "ReplaceUnhealthy" not in suspended:
            backend.notify_terminate_instances([member.instance.id])

    def _launch(self, region: str, parameters: Parameters) -> dict[str, Any]:
        group = _group(region, parameters)
        wanted = int(parameters["RequestedCapacity"])
        if wanted > MOST_PER_CALL:
            raise Refused("ValidationError", f"at most {MOST_PER_CALL} instances in one launch")
        if group.ec2_launch_template is None:
            raise Refused("ValidationError", "the group has no launch template")
        token = parameters.get("ClientToken") or str(uuid.uuid4())
        key = (region, group.name, token)
        if key in self._launches:
            asked, answer = self._launches[key]
            if asked != wanted:
                raise Refused("IdempotentParameterMismatchError", "another request had this token")
            return answer
        answer = self._carry_out(region, group, wanted, token)
        self._launches[key] = (wanted, answer)
        return answer

    def _carry_out(self, region: str, group: Any, wanted: int, token: str) -> dict[str, Any]:
        facts = _facts(group)
        running = sum(each.instance.state != "terminated" for each in group.instance_states)
        most, code, said = self._faults.refusal(facts, running)
        room = int(group.max_size) - int(group.desired_capacity)
        if room < wanted and (most is None or room < most):
            most, code = max(room, 0), "ValidationError"
            said = "the group would be larger than its maximum size"
        count = wanted if most is None else min(wanted, most)
        ids = self._start(group, count, facts) if count else []
        where = {
            "InstanceType": facts["instance_type"],
            "MarketType": "spot" if facts["preemptible"] else "on-demand",
            "AvailabilityZone": facts["zone"],
        }
        errors = []
        if count < wanted:
            errors.append({**where, "ErrorCode": code, "ErrorMessage": said})
            self._note(region, group.name, said)
        return {
            "AutoScalingGroupName": group.name,
            "ClientToken": token,
            "Instances": [{**where, "InstanceIds": ids}] if ids else [],
            "Errors": errors,
        }

    def _start(self, group: Any, count: int, facts: dict[str, Any]) -> list[str]:
        known = len(group.instance_states)
        group.replace_autoscaling_group_instances(count, group.get_propagated_tags())
        group.desired_capacity += count
        started = group.instance_states[known:]
        data = group.ec2_launch_template.default_version().data
        for member in started:
            if facts["preemptible"]:
                member.instance.lifecycle = "spot"
            for spec in data.get("TagSpecifications", ()):
                if spec["ResourceType"] == "instance":
                    member.instance.add_tags({tag["Key"]: tag["Value"] for tag in spec["Tags"]})
            boot_s = self._faults.boot_s(facts, self._pace.boot_s)
            _set_state(member.instance, PENDING)
            self._due[member.instance.id] = (time.monotonic() + boot_s, member)
        return [member.instance.id for member in started]

    def _terminate(self, region: str, parameters: Parameters) -> dict[str, Any]:
        ids = _members(parameters, "InstanceIds")
        many = bool(ids)
        if many:
            groups = [_group(region, parameters)]
        else:
            ids = [parameters["InstanceId"]]
            groups = list(
                autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups.values()
            )
        if len(ids) > MOST_PER_CALL:
            raise Refused("ValidationError", f"at most {MOST_PER_CALL} instances in one call")
        there = {
            each.instance.id: (each, group) for group in groups for each in group.instance_states
        }
        if missing := [each for each in ids if each not in there]:
            raise Refused(
                "ValidationError",
                f"Instance Id not found - No managed instance found for instance ID {missing[0]}",
            )
        decrements = parameters["ShouldDecrementDesiredCapacity"] == "true"
        activities = []
        for instance_id in ids:
            member, group = there[instance_id]
            if member.lifecycle_state != "Terminating":
                if decrements:
                    group.desired_capacity -= 1
                member.lifecycle_state = "Terminating"
                if member.instance.state != "terminated":
                    _set_state(member.instance, SHUTTING_DOWN)
                self._due[instance_id] = (time.monotonic() + self._pace.stop_s, member)
                if not decrements:
                    group.set_desired_capacity(group.desired_capacity)
            activities.append(
                _activity(group.name, f"Terminating EC2 instance: {instance_id}", "InProgress", "")
            )
        return {"Activities": activities} if many else {"Activity": activities[0]}

    def _list_activities(self, region: str, parameters: Parameters) -> dict[str, Any]:
        group = _group(region, parameters)
        found = self._activities.get((region, group.name), [])[::-1]
        first = int(parameters.get("NextToken") or 0)
        last = first + int(parameters.get("MaxRecords") or ACTIVITIES_PER_PAGE)
        more = {"NextToken": last} if last < len(found) else {}
        return {"Activities": found[first:last], **more}

    def _note(self, region: str, group: str, said: str) -> None:
        activity = _activity(group, "Launching a new EC2 instance", "Failed", said)
        self._activities.setdefault((region, group), []).append(activity)


def _activity(group: str, description: str, status: str, said: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group,
        "Description": description,
        "Cause": f"At {now} a user asked for it.",
        "StartTime": now,
        "StatusCode": status,
        "StatusMessage": said,
        "Progress": 100 if status == "Failed" else 50,
    }


def _backends() -> list[Any]:
    return list(autoscaling_backends[DEFAULT_ACCOUNT_ID].values())


def _group(region: str, parameters: Parameters) -> Any:
    name = parameters.get("AutoScalingGroupName", "")
    group = autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups.get(name)
    if group is None:
        raise Refused("ValidationError", f"AutoScalingGroup name not found - {name}")
    return group


def _facts(group: Any) -> dict[str, Any]:
    data = group.ec2_launch_template.default_version().data
    market = data.get("InstanceMarketOptions", {}).get("MarketType")
    return {
        "zone": group.availability_zones[0],
        "instance_type": data["InstanceType"],
        "preemptible": market == "spot",
    }


def _set_state(instance: Any, state: tuple[str, int]) -> None:
    instance._state.name, instance._state.code = state


def _name(instance: Any) -> str:
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    return str(tags.get("Name", ""))


def _members(parameters: Parameters, name: str) -> list[str]:
    """Return a list as the query protocol writes it."""
    found: list[str] = []
    while (value := parameters.get(f"{name}.member.{len(found) + 1}")) is not None:
        found.append(value)
    return found
