"""The machine around the agent: its cloud, its memory groups, its licence check."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cloud import Identity, detect
from agent.errors import Unfit
from agent.gcp import Gce
from agent.memory import limit_memory
from agent.transport import Transport
from tests.agent.conftest import Machine
from tests.agent.metadata import AwsMetadata, GceMetadata
from tests.agent.server import Farm

MIB = 1 << 20


NAMED = {"baton-orchestrator": "farm-eu", "Name": "render-7"}


@pytest.fixture
def amazon() -> Iterator[AwsMetadata]:
    metadata = AwsMetadata(tags=NAMED)
    yield metadata
    metadata.close()


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.close()


def test_a_google_instance_knows_itself(metadata: GceMetadata, transport: Transport) -> None:
    cloud = detect({"GCE_METADATA_HOST": metadata.host}, transport)
    assert cloud.identity() == Identity("render-1", "us-central1-a", "n2-standard-4")
    assert not cloud.is_preempted()
    metadata.preempt()
    assert cloud.is_preempted()


def test_an_amazon_instance_knows_itself(amazon: AwsMetadata, transport: Transport) -> None:
    cloud = detect({"AWS_EC2_METADATA_SERVICE_ENDPOINT": amazon.endpoint}, transport)
    assert cloud.identity() == Identity("render-7", "eu-west-1b", "c7i.large")
    assert not cloud.is_preempted()
    amazon.renew_token()
    amazon.preempt()
    assert cloud.is_preempted()


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({}, id="without tags"),
        pytest.param({"baton-orchestrator": "farm-eu"}, id="of the fleet, without a name"),
        pytest.param({"Name": "all our render machines"}, id="with a name of somebody else's"),
    ],
)
def test_an_amazon_instance_that_the_fleet_gave_no_name_has_amazons(
    transport: Transport, tags: dict[str, str]
) -> None:
    metadata = AwsMetadata(tags=tags)
    cloud = detect({"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint}, transport)
    assert cloud.identity().instance == "i-0abc"
    metadata.close()


def test_an_instance_of_amazon_is_told_when_it_is_taken_back(
    machine: Machine, farm: Farm, amazon: AwsMetadata
) -> None:
    attempt = farm.add_attempt("sleep 600")
    amazon.preempt()
    run = machine.start(
        attempt, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": amazon.endpoint}, has_google=False
    )
    assert run.wait() == 0, run.diary
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "preempted"
    assert (attempt.instance, attempt.zone) == ("render-7", "eu-west-1b")


def test_what_the_scheduler_calls_the_machine_comes_before_what_the_provider_does(
    machine: Machine, farm: Farm
) -> None:
    attempt = farm.add_attempt("true")
    farm.expire_after("claim")  # it is claimed once more, for a fresh URL
    machine.finish(attempt, {"BATON_INSTANCE": "ip-10-0-0-7.ec2.internal"})
    assert farm.calls["claim"] == 2
    assert (attempt.instance, attempt.zone) == ("ip-10-0-0-7.ec2.internal", "us-central1-a")


def test_a_notice_given_before_the_start_is_heard(
    machine: Machine, farm: Farm, metadata: GceMetadata
) -> None:
    metadata.preempt()
    assert machine.finish(farm.add_attempt("sleep 600"))["outcome"] == "preempted"


def test_a_silent_metadata_server_is_no_notice(metadata: GceMetadata, transport: Transport) -> None:
    metadata.close()
    assert not Gce(metadata.host, transport).is_preempted()


def test_a_machine_without_metadata_server_takes_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.gcp._PATIENCE_S", 0)
    with pytest.raises(Unfit, match="metadata"):
        Gce("127.0.0.1:9", Transport()).identity()


@pytest.mark.parametrize(
    ("check", "code", "is_claimed"), [("true", 0, True), ("test $(id -u) = nobody", 75, False)]
)
def test_the_licence_check_gates_the_claim(
    machine: Machine, farm: Farm, check: str, code: int, is_claimed: bool
) -> None:
    attempt = farm.add_attempt("true")
    run = machine.start(
        attempt, {"BATON_LICENCE_CHECK": f'test -z "$BATON_ATTEMPT_TOKEN" && {check}'}
    )
    assert run.wait() == code, run.diary
    assert (attempt.claim is not None) == is_claimed


@pytest.mark.parametrize(
    "environment",
    [
        {"BATON_WORK_DIR": ""},
        {"BATON_ATTEMPT_TOKEN": ""},
        {"BATON_AGENT_URL": ""},
        {"BATON_SANDBOX": "maybe"},
        {"BATON_SANDBOX_UID": "render"},
    ],
)
def test_missing_or_wrong_settings_are_named(
    machine: Machine, farm: Farm, environment: dict[str, str]
) -> None:
    attempt = farm.add_attempt("true")
    run = machine.start(attempt, environment)
    assert run.wait() == os.EX_CONFIG
    assert next(iter(environment)) in run.diary
    assert attempt.claim is None


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """Version 2's files as the kernel shows them; here they are plain ones, which limit nothing."""
    own = tmp_path / "nomad.slice" / "alloc.scope"
    own.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    (own / "cgroup.subtree_control").write_text("")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return tmp_path


def test_version_2_gets_its_limit_in_a_group_below_ours(groups: Path) -> None:
    own = groups / "nomad.slice" / "alloc.scope"
    memory = limit_memory(64, root=groups, membership="0::/nomad.slice/alloc.scope\n")
    assert memory.is_limited
    group = own / f"baton-{os.getpid()}"
    assert (group / "memory.max").read_text() == str(64 * MIB)
    assert memory.procs_path == str(group / "cgroup.procs")
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    assert (own / "agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert not memory.was_exhausted()
    (group / "memory.events").write_text(
        "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n"
    )
    (group / "memory.peak").write_text(f"{61 * MIB}\n")
    assert memory.was_exhausted()
    assert memory.peak_mib() == 61


def test_version_2_without_a_kept_peak_remembers_the_greatest_value(groups: Path) -> None:
    memory = limit_memory(0, root=groups, membership="0::/nomad.slice/alloc.scope\n")
    group = groups / "nomad.slice" / "alloc.scope" / f"baton-{os.getpid()}"
    for now, peak in ((10, 10), (30, 30), (20, 30)):
        (group / "memory.current").write_text(str(now * MIB))
        assert memory.peak_mib() == peak


def test_groups_of_agents_that_are_gone_are_removed(groups: Path) -> None:
    own = groups / "nomad.slice" / "alloc.scope"
    (own / "baton-999999999").mkdir()
    limit_memory(64, root=groups, membership="0::/nomad.slice/alloc.scope\n")
    assert not (own / "baton-999999999").exists()


@pytest.mark.parametrize("membership", ["", "0::/\n", "1:cpu:/\n0::/x\n"])
def test_without_a_memory_controller_nothing_is_claimed_about_memory(
    tmp_path: Path, membership: str
) -> None:
    memory = limit_memory(64, root=tmp_path, membership=membership)
    assert not memory.is_limited
    assert memory.procs_path is None
    assert not memory.was_exhausted()
    memory.close()


FORK = """
import os, sys, threading
before = threading.active_count(), len(os.listdir("/proc/self/fd"))
from agent.__main__ import main
assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before, "the import started something"
pid = os.fork()
if pid == 0:
    code = main()
    assert "BATON_ATTEMPT_TOKEN" not in os.environ
    os._exit(code)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_machine_may_fork_agents_from_one_that_is_imported_already(
    machine: Machine, farm: Farm
) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    run = machine.start(attempt, None, (sys.executable, "-c", FORK))
    assert run.wait() == 0, run.diary
    assert farm.outputs(attempt) == {"x.txt": b"x\n"}
