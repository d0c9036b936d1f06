"""Amazon's stand-in through boto3: what our layer adds to moto, and how the drivers' requests look on the wire."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from emulators.aws.groups import Pace
from shared.errors import CloudError, OutOfCapacity, Unplaceable
from shared.fleets import ec2_members
from shared.fleets.ec2 import Ec2Fleet
from shared.fleets.ec2_errors import problem_of
from shared.fleets.ec2_resources import Machine, group_name, group_of, template_of
from shared.models.account import Gpus
from shared.models.farm import PoolKey, ProblemCode, Shape, Stage, instance_name
from shared.models.job import AttemptRef
from shared.models.task import Outcome
from shared.orchestrators import batch
from shared.orchestrators.batch import BatchScheduler
from shared.orchestrators.batch_jobs import job_of, priority_of
from shared.ports import SubmittedAttempt
from tests.contracts.aws import (
    IMAGE,
    REGION,
    BatchRig,
    Ec2Rig,
    aws_server,
    ec2_orchestrator,
    queue_name,
)
from tests.contracts.stand_ins import GPU_SHAPE, SHAPE, order_fault
from tests.golden_files import check_golden
from tests.waiting import until

POOL = PoolKey("us-east-1a", "m5.xlarge", True)
GROUP = group_name(ec2_orchestrator(), POOL)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def url() -> Iterator[str]:
    with aws_server(Pace(boot_s=0.1, stop_s=0.05)) as found:
        yield found


@pytest.fixture
def fleet(url: str) -> Ec2Fleet:
    return Ec2Rig(url).fleet()


@pytest.fixture
def groups(url: str, fleet: Ec2Fleet) -> Any:
    """EC2 Auto Scaling, with one group that has one machine."""
    fleet.grow(POOL, names(1))
    return boto3.client("autoscaling", region_name=REGION, endpoint_url=url)


def names(count: int, of: str = "a") -> list[str]:
    return [instance_name(NOW, f"{of}{index}") for index in range(count)]


def the_group(groups: Any) -> Any:
    (found,) = groups.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])[
        "AutoScalingGroups"
    ]
    return found


def launch(groups: Any, count: int, token: str) -> Any:
    return groups.launch_instances(
        AutoScalingGroupName=GROUP, RequestedCapacity=count, ClientToken=token
    )


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


# The group


def test_a_group_of_ours_does_nothing_by_itself(groups: Any) -> None:
    group = the_group(groups)
    suspended = {each["ProcessName"] for each in group["SuspendedProcesses"]}
    assert {"ReplaceUnhealthy", "AZRebalance", "HealthCheck"} <= suspended
    assert group["NewInstancesProtectedFromScaleIn"]
    assert [each["ProtectedFromScaleIn"] for each in group["Instances"]] == [True]
    assert (group["MinSize"], group["DesiredCapacity"]) == (0, 1)


def test_machines_start_in_the_subnet_that_is_tagged_for_the_orchestrator(
    url: str, fleet: Ec2Fleet
) -> None:
    ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=url)
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24", AvailabilityZone=POOL.zone)
    subnet_id = subnet["Subnet"]["SubnetId"]
    ec2.create_tags(Resources=[subnet_id], Tags=[{"Key": "baton-orchestrator", "Value": "o1"}])
    fleet.grow(POOL, names(1))
    tagged = {"Name": "tag:Name", "Values": names(1)}
    (reservation,) = ec2.describe_instances(Filters=[tagged])["Reservations"]
    assert [each["SubnetId"] for each in reservation["Instances"]] == [subnet_id]


def test_what_is_retired_is_not_replaced(groups: Any, fleet: Ec2Fleet) -> None:
    fleet.retire(POOL, names(1))
    until(lambda: the_group(groups)["Instances"], holds=lambda found: not found)
    assert the_group(groups)["DesiredCapacity"] == 0


def test_a_machine_that_was_taken_back_is_not_replaced_unless_the_group_may(
    url: str, groups: Any, fleet: Ec2Fleet
) -> None:
    order_fault(url, kind="interrupt", instance=names(1)[0])
    assert [each.is_stopped for each in fleet.instances(POOL)] == [True]
    groups.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    fleet.grow(POOL, names(1, of="b"))
    order_fault(url, kind="interrupt", instance=names(1, of="b")[0])
    assert len(the_group(groups)["Instances"]) == 2


def test_a_launch_repeated_with_its_token_is_the_same_launch(groups: Any) -> None:
    first, again = launch(groups, 2, "t"), launch(groups, 2, "t")
    assert first["Instances"] == again["Instances"]
    assert len(the_group(groups)["Instances"]) == 3
    with pytest.raises(ClientError) as caught:
        launch(groups, 3, "t")
    assert code_of(caught.value) == "IdempotentParameterMismatchError"


def test_a_machine_without_a_name_is_listed_under_its_id_and_can_be_retired(
    groups: Any, fleet: Ec2Fleet
) -> None:
    (launched,) = launch(groups, 1, "cut-off")["Instances"]
    (instance_id,) = launched["InstanceIds"]
    found = {each.name: each for each in fleet.instances(POOL)}
    assert found.keys() == {*names(1), instance_id}
    assert found[instance_id].created_at > datetime.now(UTC) - timedelta(minutes=5)
    fleet.retire(POOL, [instance_id])
    until(lambda: [each.name for each in fleet.instances(POOL)], holds=lambda n: n == names(1))


def test_a_launch_that_was_cut_off_before_it_was_named_is_finished_by_the_same_names(
    url: str, fleet: Ec2Fleet
) -> None:
    order_fault(url, kind="calls", calls=2, status=400, code="Odd", action="CreateTags")
    with pytest.raises(CloudError, match="Odd"):
        fleet.grow(POOL, names(2))
    fleet.grow(POOL, names(2))
    assert [each.name for each in fleet.instances(POOL)] == names(2)


def test_a_machine_that_could_not_be_named_leaves_the_others_their_names(
    url: str, fleet: Ec2Fleet
) -> None:
    order_fault(url, kind="calls", calls=1, status=400, code="Odd", action="CreateTags")
    with pytest.raises(CloudError, match="Odd"):
        fleet.grow(POOL, names(20))
    found = {each.name for each in fleet.instances(POOL)}
    assert (len(found), len(found & {*names(20)})) == (20, 19)


def test_machines_without_a_name_get_the_next_names_before_others_are_launched(
    url: str, fleet: Ec2Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_fault(url, kind="calls", calls=2, status=400, code="Odd", action="CreateTags")
    with pytest.raises(CloudError, match="Odd"):
        fleet.grow(POOL, names(2))
    nameless = {each.name for each in fleet.instances(POOL)}
    fleet.grow(POOL, names(1, of="b"))  # theirs may have been written just now
    assert {each.name for each in fleet.instances(POOL)} == {*nameless, *names(1, of="b")}
    monkeypatch.setattr(ec2_members, "ADOPTED_FROM", timedelta())
    fleet.grow(POOL, names(3, of="c"))
    found = sorted(each.name for each in fleet.instances(POOL))
    assert found == [*names(1, of="b"), *names(3, of="c")]


def test_what_cannot_be_launched_is_told_though_naming_fails_too(url: str, fleet: Ec2Fleet) -> None:
    order_fault(url, kind="stockout", instance_type="m5.xlarge", capacity=1)
    order_fault(url, kind="calls", calls=1, status=400, code="Odd", action="CreateTags")
    with pytest.raises(OutOfCapacity):
        fleet.grow(POOL, names(2))


def test_into_pools_that_have_been_empty_for_a_while_nobody_looks(
    url: str, fleet: Ec2Fleet
) -> None:
    fleet.grow(POOL, names(1))
    fleet.retire(POOL, names(1))
    until(lambda: fleet.instances(POOL), holds=lambda found: not found)
    recorder = recording(fleet)
    for _ in range(2):
        assert fleet.pools() == [POOL]
    assert (fleet.instances(POOL), fleet.problems(POOL, NOW)) == ([], [])
    assert recorder.bodies.keys() == {"DescribeAutoScalingGroups"}
    assert "Filters.member.1.Name" in recorder.bodies["DescribeAutoScalingGroups"]
    Ec2Rig(url).fleet().grow(POOL, names(1, of="b"))  # by another process
    fleet.pools()
    assert [each.name for each in fleet.instances(POOL)] == names(1, of="b")


def test_too_many_groups_are_no_want_of_machines(url: str, fleet: Ec2Fleet) -> None:
    said = {"status": 400, "code": "LimitExceeded", "action": "CreateAutoScalingGroup"}
    order_fault(url, kind="calls", calls=1, **said)
    with pytest.raises(CloudError, match="LimitExceeded") as caught:
        fleet.grow(POOL, names(1))
    assert type(caught.value) is CloudError
    assert problem_of("RequestLimitExceeded: slow down") is ProblemCode.OTHER


def test_what_may_be_gone_is_told_by_its_code_and_looked_for(
    url: str, groups: Any, fleet: Ec2Fleet
) -> None:
    for action in ("LaunchInstances", "TerminateInstanceInAutoScalingGroup"):
        order_fault(url, kind="calls", calls=1, status=400, code="ValidationError", action=action)
    fleet.grow(POOL, names(2))
    fleet.retire(POOL, names(1))
    until(lambda: len(fleet.instances(POOL)), holds=lambda count: count == 1)
    odd = {"status": 400, "code": "ValidationError", "action": "DescribeScalingActivities"}
    order_fault(url, kind="calls", calls=1, **odd)
    with pytest.raises(CloudError, match="ValidationError"):  # the group is there
        fleet.problems(POOL, NOW)
    assert fleet.problems(POOL._replace(zone="us-east-1b"), NOW) == []


# Time and trouble


def test_a_machine_is_pending_until_it_has_booted(url: str) -> None:
    order_fault(url, kind="slow_boot", zone=POOL.zone, boot_s=60, count=1)
    fleet, rig = Ec2Rig(url).fleet(), Ec2Rig(url)
    fleet.grow(POOL, names(2))
    until(lambda: any(rig.is_running(name) for name in names(2)))
    assert sum(rig.is_running(name) for name in names(2)) == 1


def test_of_a_launch_that_fits_in_part_that_part_starts_and_the_rest_is_a_stock_out(
    url: str, fleet: Ec2Fleet
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=5)
    order_fault(url, kind="stockout", instance_type="m5.xlarge", preemptible=True, capacity=2)
    with pytest.raises(OutOfCapacity, match="do not have sufficient"):
        fleet.grow(POOL, names(3))
    assert len(fleet.instances(POOL)) == 2
    assert [each.code for each in fleet.problems(POOL, since)] == [ProblemCode.STOCK_OUT]
    fleet.grow(POOL._replace(is_preemptible=False), names(1, of="s"))  # another kind


def test_an_order_that_says_nothing_sensible_is_refused(url: str) -> None:
    for order in (
        {"kind": "rain"},
        {"kind": "calls", "status": 200},
        {"kind": "launch"},
        {"kind": "interrupt", "instance": "i-nobody"},
        {"kind": "slow_boot", "boot_s": -1},
    ):
        assert requests.post(f"{url}/faults", json=order, timeout=5).status_code == 400


# Jobs of Batch


def an_attempt(shape: Shape = SHAPE) -> SubmittedAttempt:
    return SubmittedAttempt(
        ref=AttemptRef("acme", "00001", "7", 2),
        shape=shape,
        zones=("us-east-1",),
        cores=4,
        memory_mib=16_384,
        priority=5,
        environment={"BATON_AGENT_URL": "http://127.0.0.1:1", "BATON_ATTEMPT_TOKEN": "t"},
    )


def test_two_jobs_of_one_attempt_are_one_placement_and_both_are_cancelled(url: str) -> None:
    rig = BatchRig(url)
    batch = boto3.client("batch", region_name=REGION, endpoint_url=url)
    asked = job_of(an_attempt(), queue_name("o1", SHAPE), "o1") | priority_of(an_attempt())
    twins = [batch.submit_job(**asked)["jobId"] for _ in range(2)]  # by two at the same moment
    rig.join("i-1")
    assert [each.stage for each in rig.scheduler.placements()] == [Stage.STARTED]
    rig.end("i-1")
    assert [each.stage for each in rig.scheduler.placements()] == [Stage.STARTED]
    rig.scheduler.cancel("acme-00001-7-2")
    rig.end("i-1")
    assert [each["status"] for each in batch.describe_jobs(jobs=twins)["jobs"]] == [
        "SUCCEEDED",
        "FAILED",
    ]
    rig.scheduler.forget(["acme-00001-7-2"])
    assert rig.another("o1").placements() == []


def test_a_job_is_tried_again_as_often_as_it_says_and_ours_never(url: str) -> None:
    rig = BatchRig(url)
    batch = boto3.client("batch", region_name=REGION, endpoint_url=url)
    asked = job_of(an_attempt(), queue_name("o1", SHAPE), "o1") | priority_of(an_attempt())
    twice = {**asked, "jobName": "twice", "retryStrategy": {"attempts": 2}}
    for each, ended in ((twice, "STARTING"), (asked, "FAILED")):
        job_id = batch.submit_job(**each)["jobId"]
        rig.join("i-1")
        rig.end("i-1", is_failed=True)
        (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
        assert job["status"] == ended
        rig.end("i-1")


def test_a_host_without_enough_gpus_gets_no_job_that_needs_them(url: str) -> None:
    rig = BatchRig(url)
    rig.scheduler.submit(an_attempt(GPU_SHAPE))
    for name, gpus in (("i-1", 0), ("i-2", 1)):
        rig.order("join", name, queue=queue_name("o1", GPU_SHAPE), gpus=gpus)
    (found,) = rig.scheduler.placements()
    assert found.instance == "i-2"


def test_an_attempt_of_a_shape_that_has_no_queue_is_an_error(url: str) -> None:
    with pytest.raises(Unplaceable, match="no queue for m5"):
        BatchRig(url).scheduler.submit(an_attempt(Shape("m5.xlarge", False)))


class Described:
    """Keeps the ids of the jobs that a scheduler has described."""

    def __init__(self, scheduler: BatchScheduler) -> None:
        self.job_ids: list[str] = []
        events = scheduler._client.meta.events
        events.register("provide-client-params.batch.DescribeJobs", self._keep)

    def _keep(self, params: Any, **_: Any) -> None:
        self.job_ids += params["jobs"]


def attempts_end(rig: BatchRig, scheduler: BatchScheduler, task_ids: str) -> list[str]:
    """Have an attempt of each of these tasks end; returns their ids."""
    rig.join("i-1")
    for task_id in task_ids:
        scheduler.submit(replace(an_attempt(), ref=AttemptRef("acme", "00001", task_id, 1)))
        rig.end("i-1")
    return [f"acme-00001-{task_id}-1" for task_id in task_ids]


def test_jobs_that_were_forgotten_are_described_no_more_whoever_forgot_them(url: str) -> None:
    rig = BatchRig(url)
    one, other = rig.another("o1"), rig.another("o1")
    ended = attempts_end(rig, one, "012")
    assert sorted(each.attempt_id for each in one.placements()) == ended
    assert len(other.placements()) == 3
    one.forget(ended[:2])
    described = Described(one), Described(other)
    for _ in range(3):
        assert [each.attempt_id for each in one.placements()] == ended[2:]
        assert [each.attempt_id for each in other.placements()] == ended[2:]
    assert [len(each.job_ids) for each in described] == [3, 5]  # the other is told by their tags


def test_an_attempt_of_long_ago_is_told_of_when_it_ends_until_it_is_forgotten(url: str) -> None:
    rig = BatchRig(url)
    clock = [datetime.now(UTC)]
    scheduler = rig.another("o1", now=lambda: clock[0])
    rig.join("i-1")
    scheduler.submit(an_attempt())
    clock[0] += timedelta(days=1)
    assert [each.stage for each in scheduler.placements()] == [Stage.STARTED]
    clock[0] += timedelta(days=1)
    rig.end("i-1", is_oom=True)
    for _ in range(2):
        (found,) = scheduler.placements()
        assert (found.stage, found.cause) == (Stage.ENDED, Outcome.OUT_OF_MEMORY)
    scheduler.forget([found.attempt_id])
    assert scheduler.placements() == []


def test_what_another_process_submitted_and_saw_end_since_the_last_look_is_told_of(
    url: str,
) -> None:
    rig = BatchRig(url)
    mine, others = rig.another("o1"), rig.another("o1")
    assert mine.placements() == []
    ended = attempts_end(rig, others, "0")
    assert [each.attempt_id for each in mine.placements()] == ended


def test_what_ended_before_a_process_began_to_look_is_told_of_once_it_is_submitted_again(
    url: str,
) -> None:
    rig = BatchRig(url)
    (ended,) = attempts_end(rig, rig.another("o1"), "0")
    late = rig.another("o1", now=lambda: datetime.now(UTC) + timedelta(days=1))
    assert late.placements() == []
    for _ in range(2):
        late.submit(replace(an_attempt(), ref=AttemptRef("acme", "00001", "0", 1)))
    for _ in range(2):
        (found,) = late.placements()
        assert (found.attempt_id, found.stage) == (ended, Stage.ENDED)
    assert rig.work("i-1") == []
    late.forget([ended])
    assert late.placements() == []


def test_a_process_that_never_looks_remembers_no_more_than_so_many_of_them(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_OVERLOOKED", 2)
    rig = BatchRig(url)
    attempts_end(rig, rig.another("o1"), "012")
    late = rig.another("o1", now=lambda: datetime.now(UTC) + timedelta(days=1))
    for task_id in "012":
        late.submit(replace(an_attempt(), ref=AttemptRef("acme", "00001", task_id, 1)))
    assert [each.attempt_id for each in late.placements()] == ["acme-00001-2-1"]


def test_a_submission_that_batch_refuses_for_their_number_is_made_again(url: str) -> None:
    rig = BatchRig(url)
    for action in ("listjobs", "submitjob"):
        said = {"status": 429, "code": "TooManyRequestsException", "action": action}
        order_fault(url, kind="calls", calls=2, **said)
    rig.scheduler.submit(an_attempt())
    assert [each.stage for each in rig.scheduler.placements()] == [Stage.WAITING]


@pytest.mark.parametrize(
    ("machine_mib", "registered_mib"),
    [(4_096, 3_700), (8_192, 7_600), (16_384, 15_400), (984_064, 931_900)],
)
def test_an_attempt_asks_for_little_less_memory_than_its_machine_registers(
    machine_mib: int, registered_mib: int
) -> None:
    attempt = replace(an_attempt(), memory_mib=machine_mib * 15 // 16)
    asked = job_of(attempt, "q", "o1")["containerOverrides"]["resourceRequirements"]
    (memory_mib,) = (int(each["value"]) for each in asked if each["type"] == "MEMORY")
    assert registered_mib * 0.96 < memory_mib < registered_mib - 32


# Wire formats


class Recorder:
    """Keeps what a client sends, action by action, as it goes over the wire."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}

    def __call__(self, model: Any, params: Any, **_: Any) -> None:
        body = params["body"]
        sent = json.loads(body) if isinstance(body, bytes | str) else dict(body)
        self.bodies.setdefault(model.name, sent)


def recording(fleet: Ec2Fleet) -> Recorder:
    """Record what a fleet asks for from now on."""
    recorder = Recorder()
    for client in (fleet._groups, fleet._ec2, fleet._tags):
        client.meta.events.register("before-call", recorder)
    return recorder


@pytest.mark.golden
def test_what_makes_and_fills_a_group_stays_as_it_was(url: str) -> None:
    fleet = Ec2Rig(url).fleet()
    recorder = recording(fleet)
    fleet.grow(POOL, names(2))
    fleet.retire(POOL, names(1))
    fleet.pools()
    fleet.problems(POOL, NOW)
    for name in ("CreateTags", "TerminateInstanceInAutoScalingGroup"):
        sent = recorder.bodies[name]
        key = "ResourceId.1" if name == "CreateTags" else "InstanceIds.member.1"
        assert sent[key].startswith("i-")
        sent[key] = "i-0"
        if name == "CreateTags":  # whichever thread came first
            sent["Tag.1.Value"] = names(1)[0]
    del recorder.bodies["CreateLaunchTemplate"]["ClientToken"]
    check_golden("aws/ec2_requests", recorder.bodies)


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["spot", "on_demand"])
def test_the_template_and_the_group_of_a_pool_stay_as_they_were(kind: str) -> None:
    pool = POOL._replace(is_preemptible=kind == "spot")
    machine = Machine(security_groups=("sg-1",), image=IMAGE)
    template = template_of(ec2_orchestrator(), pool, machine)
    group = group_of(ec2_orchestrator(), pool, template["LaunchTemplateName"], "subnet-1")
    check_golden(f"aws/pool_{kind}", {"group": group, "template": template})


@pytest.mark.golden
def test_the_job_of_an_attempt_stays_as_it_was() -> None:
    attempt = an_attempt(Shape("m5.xlarge", True))
    found = job_of(attempt, "baton-o1-m5-xlarge-p", "o1")
    check_golden("aws/batch_job", {"job": found, "priority": priority_of(attempt)})


@pytest.mark.golden
def test_the_job_of_an_attempt_on_gpus_stays_as_it_was() -> None:
    attempt = an_attempt(Shape("g6.12xlarge", True))
    gpus = Gpus(model="NVIDIA L4", count=4)
    check_golden("aws/batch_gpu_job", job_of(attempt, "baton-o1-g6", "o1", gpus=gpus))
