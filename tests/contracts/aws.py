"""Amazon's stand-in as the conformance suites drive it: EC2's groups, and Batch with hosts that the test plays."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import boto3
import pytest
import requests

from emulators.aws.groups import Pace
from emulators.aws.server import Aws, serve
from shared.fleets import ec2
from shared.fleets.ec2 import Ec2Fleet
from shared.fleets.ec2_resources import Machine
from shared.models.farm import Orchestrator, PoolKey, Shape
from shared.orchestrators import batch
from shared.orchestrators.batch import BatchScheduler
from shared.ports import Scheduler
from tests.contracts.stand_ins import GPU_SHAPE, GPUS, SHAPE, nobody, order_fault

REGION = "us-east-1"
# moto knows no parameter store's images unless they are put there; any image of its own will do.
IMAGE = "ami-12c6146b"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def aws_server(pace: Pace | None = None) -> Iterator[str]:
    """Serve Amazon's stand-in, empty; yields its URL. The environment holds credentials meanwhile."""
    with patch.dict(os.environ, ENVIRONMENT), serve(Aws(pace or Pace(0.0, 0.05))) as url:
        yield url


def ec2_orchestrator(orchestrator_id: str = "o1") -> Orchestrator:
    return Orchestrator(
        orchestrator_id=orchestrator_id,
        scheduler="nomad",
        scheduler_address="http://127.0.0.1:1",
        fleet="ec2",
        project="123456789012",
        region=REGION,
        zones={"us-east-1a": True, "us-east-1b": True},
        max_per_pool=2000,
    )


class Ec2Rig:
    """EC2's groups; the machines are states, not processes."""

    TROUBLES: ClassVar = {
        "broken": (500, "InternalFailure"),
        "unavailable": (503, "ServiceUnavailable"),
        "rate": (503, "RequestLimitExceeded"),
        "quota": (400, "VcpuLimitExceeded"),
        "forbidden": (403, "UnauthorizedOperation"),
    }

    def __init__(self, url: str) -> None:
        self._url = url
        self.a = PoolKey("us-east-1a", "m5.xlarge", True)
        self.b = self.a._replace(zone="us-east-1b")
        self.standard = self.a._replace(is_preemptible=False)

    def fleet(self, orchestrator_id: str = "o1") -> Ec2Fleet:
        mine = ec2_orchestrator(orchestrator_id)
        return Ec2Fleet(mine, endpoint=self._url, machine=Machine(image=IMAGE))

    def unreachable(self) -> Ec2Fleet:
        return Ec2Fleet(ec2_orchestrator(), endpoint=nobody())

    def machine(self, name: str) -> dict[str, Any]:
        machines = requests.get(f"{self._url}/machines", timeout=10).json()
        found: list[dict[str, Any]] = [each for each in machines if each["name"] == name]
        return found[0] if found else {"status": "gone"}

    def is_running(self, name: str) -> bool:
        return bool(self.machine(name)["status"] == "running")

    def is_preemptible(self, name: str) -> bool:
        return bool(self.machine(name)["preemptible"])

    def stop(self, name: str) -> None:
        order_fault(self._url, kind="interrupt", instance=name)

    def run_dry(self, zone: str) -> None:
        order_fault(self._url, kind="stockout", zone=zone)

    def many(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """Have pages and calls hold few: moto takes its time for each instance."""
        monkeypatch.setattr(ec2, "MOST_PER_CALL", 10)
        monkeypatch.setattr(ec2, "INSTANCES_PER_PAGE", 5)
        return 23

    def fail_next(self, trouble: str) -> None:
        status, code = self.TROUBLES[trouble]
        order_fault(self._url, kind="calls", status=status, code=code)

    def throttle(self, action: str, calls: int) -> None:
        status, code = self.TROUBLES["rate"]
        order_fault(self._url, kind="calls", calls=calls, status=status, code=code, action=action)

    def fail_later(self, word: str) -> None:
        order_fault(self._url, kind="launch", code=word)


@contextmanager
def ec2_rig(_: Path) -> Iterator[Ec2Rig]:
    with aws_server() as url:
        yield Ec2Rig(url)


POLICY = "arn:aws:batch:us-east-1:123456789012:scheduling-policy/baton"


class BatchRig:
    """Batch; the test plays the hosts that it would start."""

    def __init__(self, url: str) -> None:
        self._url = url
        options: dict[str, Any] = {"region_name": REGION, "endpoint_url": url}
        iam = boto3.client("iam", **options)
        role = iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self._batch = boto3.client("batch", **options)
        environment = self._batch.create_compute_environment(
            computeEnvironmentName="hosts", type="UNMANAGED", serviceRole=role
        )
        self._environment = environment["computeEnvironmentArn"]
        for orchestrator_id in ("o1", "o2"):
            others = (Shape("n1-standard-8", True), Shape("n1-standard-4", False), GPU_SHAPE)
            for shape in (SHAPE, *others):
                self._make_queue(orchestrator_id, shape)
        self.scheduler: Scheduler = self.another("o1")

    def another(self, orchestrator_id: str, **options: Any) -> BatchScheduler:
        return BatchScheduler(
            REGION, orchestrator_id=orchestrator_id, endpoint=self._url, gpus=GPUS, **options
        )

    def unreachable(self) -> BatchScheduler:
        return BatchScheduler(REGION, orchestrator_id="o1", endpoint=nobody())

    def unauthorised(self) -> Scheduler:
        self.fail_next(1, 403)
        return self.scheduler

    def join(self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4) -> str:
        gpus = GPUS[shape.instance_type].count if shape.instance_type in GPUS else 0
        self.order("join", name, queue=queue_name("o1", shape), gpus=gpus)
        return name

    def leave(self, name: str) -> None:
        self.order("leave", name)

    def work(self, name: str) -> Sequence[Mapping[str, str]]:
        found: Sequence[Mapping[str, str]] = self.order("work", name)
        return found

    def start(self, name: str) -> None:
        self.order("start", name)

    def end(self, name: str, *, is_failed: bool = False, is_oom: bool = False) -> None:
        if is_oom:
            why = "OutOfMemoryError: Container killed due to memory usage"
            self.order("end", name, exit_code=137, reason=why)
        else:
            self.order("end", name, exit_code=int(is_failed))

    def take_back(self, name: str) -> None:
        self.leave(name)

    def fail_next(self, calls: int, status: int) -> None:
        codes = {403: "AccessDeniedException", 429: "TooManyRequestsException"}
        code = codes.get(status, "ServerException")
        order_fault(self._url, kind="calls", calls=calls, status=status, code=code)

    def _make_queue(self, orchestrator_id: str, shape: Shape) -> None:
        name = queue_name(orchestrator_id, shape)
        self._batch.create_job_queue(
            jobQueueName=name,
            priority=1,
            state="ENABLED",
            schedulingPolicyArn=POLICY,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": self._environment}],
            tags={
                "baton-orchestrator": orchestrator_id,
                "baton-instance-type": shape.instance_type,
                "baton-preemptible": str(shape.is_preemptible).lower(),
            },
        )
        self._batch.register_job_definition(
            jobDefinitionName=name,
            type="container",
            containerProperties={
                "image": "baton-agent",
                "command": ["baton-agent"],
                "resourceRequirements": [
                    {"type": "VCPU", "value": "1"},
                    {"type": "MEMORY", "value": "2048"},
                ],
            },
        )

    def order(self, order: str, name: str, **said: object) -> Any:
        """Have something happen to a host."""
        body = {"name": name, **said}
        answer = requests.post(f"{self._url}/hosts/{order}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()


def queue_name(orchestrator_id: str, shape: Shape) -> str:
    return f"baton-{orchestrator_id}-{shape.instance_type}-{'p' if shape.is_preemptible else 's'}"


@contextmanager
def batch_rig(_: Path) -> Iterator[BatchRig]:
    """Serve Batch to a scheduler that repeats no call, so that one fault is seen; test_aws.py has it repeat some."""
    with aws_server() as url, patch.object(batch, "SUBMIT_TRIES", 1):
        yield BatchRig(url)
