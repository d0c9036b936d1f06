"""What the services expect of a Scheduler, tried on every driver. A new driver is a new line in DRIVERS."""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests

from shared.errors import CloudError, RateLimited, Unreachable
from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef
from shared.orchestrators import nomad
from shared.orchestrators.nomad import NomadScheduler
from shared.ports import Scheduler, SubmittedAttempt
from tests.contracts.stand_ins import nobody, order_fault, stand_in, until

SHAPE = Shape("n1-standard-4", True)
ORCHESTRATOR_ID = "o1"


class Rig(Protocol):
    """A scheduler's cluster, with machines that the test plays itself."""

    scheduler: Scheduler

    def another(self, orchestrator_id: str) -> Scheduler: ...
    def unreachable(self) -> Scheduler: ...
    def unauthorised(self) -> Scheduler: ...
    def join(self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4) -> str:
        """A machine joins; returns its node id."""
        ...

    def leave(self, name: str) -> None:
        """A machine vanishes without a word."""
        ...

    def work(self, name: str) -> Sequence[Mapping[str, str]]:
        """Return the environments of the attempts that the machine shall run."""
        ...

    def start(self, name: str) -> None:
        """The machine starts all that it shall run."""
        ...

    def end(self, name: str, *, is_failed: bool = False) -> None:
        """All that runs on the machine ends."""
        ...

    def fail_next(self, calls: int, status: int) -> None: ...


@dataclass(frozen=True)
class Driver:
    """One implementation. `has_leftovers`: forgotten attempts still show where and when they ran."""

    rig: Callable[[Path], AbstractContextManager[Rig]]
    has_leftovers: bool


class NomadRig:
    """Nomad's stand-in, and nodes that speak to it as its own clients do."""

    TOKEN = "secret-token"

    def __init__(self, url: str) -> None:
        self._url = url
        self._nodes: dict[str, str] = {}
        self._started: dict[str, dict[str, str]] = {}
        self._stopped = threading.Event()
        self.scheduler: Scheduler = self.another(ORCHESTRATOR_ID)
        self._beats = threading.Thread(target=self._beat)
        self._beats.start()

    def another(self, orchestrator_id: str) -> Scheduler:
        return NomadScheduler(self._url, token=self.TOKEN, orchestrator_id=orchestrator_id)

    def unreachable(self) -> Scheduler:
        return NomadScheduler(nobody(), token="", orchestrator_id=ORCHESTRATOR_ID)

    def unauthorised(self) -> Scheduler:
        return NomadScheduler(self._url, token="wrong", orchestrator_id=ORCHESTRATOR_ID)

    def join(self, name: str, shape: Shape = SHAPE, zone: str = "z-a", cores: int = 4) -> str:
        node_id = self._nodes.get(name) or str(uuid.uuid4())
        meta = {
            "zone": zone,
            "instance_type": shape.instance_type,
            "preemptible": str(shape.is_preemptible).lower(),
            "pool": "p",
            "orchestrator": ORCHESTRATOR_ID,
        }
        node = {
            "ID": node_id,
            "Name": name,
            "Datacenter": zone,
            "NodeClass": shape.instance_type,
            "NodePool": "default",
            "Attributes": {"driver.raw_exec": "1"},
            "Meta": meta,
            "Drivers": {"raw_exec": {"Detected": True, "Healthy": True}},
            "NodeResources": {
                "Cpu": {"CpuShares": 1000 * cores, "TotalCpuCores": cores},
                "Memory": {"MemoryMB": 15_000},
                "Disk": {"DiskMB": 10_000},
            },
            "HTTPAddr": "",
        }
        self._call("PUT", "/v1/client/register", {"Node": node})
        self._nodes[name] = node_id
        return node_id

    def leave(self, name: str) -> None:
        del self._nodes[name]

    def _allocs(self, name: str) -> list[Mapping[str, Any]]:
        path = f"/v1/client/{self._nodes[name]}/allocations"
        found: list[Mapping[str, Any]] = self._call("GET", path)
        return found

    def work(self, name: str) -> Sequence[Mapping[str, str]]:
        return [
            alloc["Job"]["TaskGroups"][0]["Tasks"][0]["Env"] or {} for alloc in self._allocs(name)
        ]

    def start(self, name: str) -> None:
        for alloc in until(lambda: self._allocs(name)):
            started_at = self._started.setdefault(name, {}).setdefault(alloc["ID"], _now())
            self._report(name, alloc["ID"], "running", started_at)

    def end(self, name: str, *, is_failed: bool = False) -> None:
        for alloc_id, started_at in self._started.pop(name).items():
            status = "failed" if is_failed else "complete"
            self._report(name, alloc_id, status, started_at, _now())

    def _report(
        self, name: str, alloc_id: str, status: str, started_at: str, ended_at: str = nomad.NEVER
    ) -> None:
        state = {
            "State": "running" if ended_at == nomad.NEVER else "dead",
            "StartedAt": started_at,
            "FinishedAt": ended_at,
        }
        report = {
            "ID": alloc_id,
            "ClientStatus": status,
            "ClientDescription": "",
            "TaskStates": {"agent": state},
        }
        self._call("PUT", f"/v1/client/{self._nodes[name]}/update", {"Allocs": [report]})

    def fail_next(self, calls: int, status: int) -> None:
        order_fault(
            self._url, calls=calls, status=status, path="^/v1/(jobs|job/|allocations|nodes)"
        )

    def _beat(self) -> None:
        while not self._stopped.wait(0.2):
            for node_id in list(self._nodes.values()):
                self._call("PUT", f"/v1/client/{node_id}/heartbeat")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"X-Nomad-Token": self.TOKEN}
        answer = requests.request(method, self._url + path, json=body, headers=headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        self._stopped.set()
        self._beats.join()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def nomad_rig(directory: Path) -> Iterator[Rig]:
    options = ("--token", NomadRig.TOKEN, "--heartbeat-ttl-s", "1")
    with stand_in("nomad", "--data", directory, *options) as url:
        rig = NomadRig(url)
        try:
            yield rig
        finally:
            rig.close()


DRIVERS = [pytest.param(Driver(rig=nomad_rig, has_leftovers=True), id="nomad")]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    return found


@pytest.fixture
def rig(driver: Driver, tmp_path: Path) -> Iterator[Rig]:
    with driver.rig(tmp_path) as made:
        yield made


def an_attempt(number: int = 1, task_id: str = "0", **fields: Any) -> SubmittedAttempt:
    known: dict[str, Any] = {
        "ref": AttemptRef("acme", "00001", task_id, number),
        "shape": SHAPE,
        "zones": ("z-a", "z-b"),
        "cores": 4,
        "memory_mib": 15_360,
        "priority": 5,
        "environment": {"BATON_ATTEMPT_TOKEN": f"token-{task_id}-{number}"},
    }
    return SubmittedAttempt(**{**known, **fields})


def only(placements: Sequence[Placement]) -> Placement:
    (found,) = placements
    return found


def stage(rig: Rig, wanted: Stage) -> Placement:
    """Return the only attempt once it is where it shall be."""
    return only(
        until(rig.scheduler.placements, holds=lambda found: [p.stage for p in found] == [wanted])
    )


# One attempt's life


def test_an_attempt_waits_until_a_machine_of_its_shape_is_there(rig: Rig) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    rig.scheduler.submit(an_attempt())
    found = stage(rig, Stage.WAITING)
    assert found.attempt_id == "acme-00001-0-1"
    assert found.shape == SHAPE
    assert found.instance == ""
    assert found.submitted_at is not None
    assert found.submitted_at > before
    rig.join("i-1")
    assert stage(rig, Stage.STARTED).instance == "i-1"


def test_the_attempts_environment_reaches_the_machine(rig: Rig) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    (environment,) = until(lambda: rig.work("i-1"))
    assert environment["BATON_ATTEMPT_TOKEN"] == "token-0-1"


@pytest.mark.parametrize("is_failed", [False, True])
def test_an_attempt_whose_process_is_gone_has_ended_and_is_not_tried_again(
    rig: Rig, is_failed: bool
) -> None:
    rig.join("i-1")
    rig.join("i-2")
    rig.scheduler.submit(an_attempt())
    where = stage(rig, Stage.STARTED).instance
    rig.start(where)
    until(rig.scheduler.placements, holds=lambda found: only(found).started_at is not None)
    rig.end(where, is_failed=is_failed)
    found = stage(rig, Stage.ENDED)
    assert found.instance == where
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.started_at <= found.ended_at
    other = "i-2" if where == "i-1" else "i-1"
    assert rig.work(other) == []


def test_an_attempt_whose_machine_vanishes_is_lost_and_is_not_started_elsewhere(rig: Rig) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED).instance == "i-1"
    rig.start("i-1")
    rig.join("i-2")
    rig.leave("i-1")
    found = stage(rig, Stage.LOST)
    assert found.instance == "i-1"
    assert rig.work("i-2") == []


# Where it may run


@pytest.mark.parametrize(
    ("shape", "zone"),
    [
        (Shape("n1-standard-8", True), "z-a"),
        (Shape("n1-standard-4", False), "z-a"),
        (SHAPE, "z-c"),
    ],
)
def test_an_attempt_starts_on_no_machine_of_another_shape_or_zone(
    rig: Rig, shape: Shape, zone: str
) -> None:
    rig.join("wrong", shape, zone)
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.WAITING)
    rig.join("right")
    assert stage(rig, Stage.STARTED).instance == "right"


def test_a_machine_runs_one_attempt_at_a_time(rig: Rig) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt(task_id="0"))
    rig.scheduler.submit(an_attempt(task_id="1"))
    found = until(
        rig.scheduler.placements, holds=lambda all_: any(p.stage is Stage.STARTED for p in all_)
    )
    assert sorted(p.stage for p in found) == [Stage.STARTED, Stage.WAITING]
    rig.start("i-1")
    rig.end("i-1")
    until(
        rig.scheduler.placements,
        holds=lambda all_: sorted(p.stage for p in all_) == [Stage.ENDED, Stage.STARTED],
    )


def test_of_waiting_attempts_the_one_with_the_higher_priority_starts_first(rig: Rig) -> None:
    rig.scheduler.submit(an_attempt(task_id="0", priority=1))
    rig.scheduler.submit(an_attempt(task_id="1", priority=9))
    rig.join("i-1")
    found = until(
        rig.scheduler.placements, holds=lambda all_: any(p.stage is Stage.STARTED for p in all_)
    )
    assert {p.attempt_id: p.stage for p in found}["acme-00001-1-1"] is Stage.STARTED


def test_a_machine_that_is_not_eligible_gets_nothing_new_and_finishes_what_it_has(rig: Rig) -> None:
    node_id = rig.join("i-1")
    rig.scheduler.submit(an_attempt(task_id="0"))
    assert stage(rig, Stage.STARTED)
    rig.start("i-1")
    rig.scheduler.set_eligible(node_id, False)
    rig.scheduler.set_eligible(node_id, False)
    assert [node.is_eligible for node in rig.scheduler.nodes()] == [False]
    assert len(rig.work("i-1")) == 1
    rig.end("i-1")
    assert stage(rig, Stage.ENDED)
    rig.scheduler.submit(an_attempt(task_id="1"))
    assert rig.work("i-1") == []
    rig.scheduler.set_eligible(node_id, True)
    assert until(lambda: rig.work("i-1"))


# Machines


def test_machines_are_listed_with_their_zone_while_up_and_after(rig: Rig) -> None:
    node_id = rig.join("i-1", zone="z-b")
    (node,) = rig.scheduler.nodes()
    assert (node.name, node.node_id, node.zone) == ("i-1", node_id, "z-b")
    assert node.is_up
    assert node.is_eligible
    rig.leave("i-1")
    until(rig.scheduler.nodes, holds=lambda nodes: not any(node.is_up for node in nodes))


# Repeats


def test_the_same_attempt_submitted_twice_is_one_attempt(rig: Rig) -> None:
    for _ in range(3):
        rig.scheduler.submit(an_attempt())
    assert len(rig.scheduler.placements()) == 1


def test_an_attempt_submitted_again_with_other_contents_stays_as_it_was(rig: Rig) -> None:
    rig.scheduler.submit(an_attempt())
    rig.scheduler.submit(an_attempt(environment={"BATON_ATTEMPT_TOKEN": "another"}))
    rig.join("i-1")
    (environment,) = until(lambda: rig.work("i-1"))
    assert environment["BATON_ATTEMPT_TOKEN"] == "token-0-1"


def test_an_attempt_submitted_again_after_it_ended_does_not_run_again(rig: Rig) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED)
    rig.start("i-1")
    rig.end("i-1")
    assert stage(rig, Stage.ENDED)
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.ENDED)
    assert rig.work("i-1") == []


def test_a_waiting_attempt_that_is_cancelled_never_starts(rig: Rig) -> None:
    rig.scheduler.submit(an_attempt())
    rig.scheduler.cancel("acme-00001-0-1")
    rig.scheduler.cancel("acme-00001-0-1")
    assert stage(rig, Stage.ENDED)
    rig.join("i-1")
    assert rig.work("i-1") == []
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.ENDED)


def test_a_running_attempt_that_is_cancelled_is_told_to_stop_and_counts_until_it_has(
    rig: Rig,
) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED)
    rig.start("i-1")
    rig.scheduler.cancel("acme-00001-0-1")
    assert until(lambda: rig.work("i-1"), holds=lambda work: not work) == []
    assert stage(rig, Stage.STARTED)
    rig.end("i-1")
    assert stage(rig, Stage.ENDED)


def test_orders_for_what_was_never_there_are_quiet(rig: Rig) -> None:
    rig.scheduler.set_eligible(str(uuid.uuid4()), False)
    rig.scheduler.cancel("acme-00009-0-1")
    rig.scheduler.forget(["acme-00009-0-1"])
    rig.scheduler.forget([])
    assert rig.scheduler.placements() == []


def test_a_forgotten_attempt_is_off_the_books(rig: Rig, driver: Driver) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED)
    rig.start("i-1")
    rig.end("i-1")
    assert stage(rig, Stage.ENDED)
    rig.scheduler.forget(["acme-00001-0-1"])
    rig.scheduler.forget(["acme-00001-0-1"])
    found = rig.scheduler.placements()
    if not driver.has_leftovers:
        assert found == []
        return
    left = only(found)
    assert left.stage is Stage.FORGOTTEN
    assert (left.attempt_id, left.shape, left.instance) == ("acme-00001-0-1", SHAPE, "i-1")
    assert left.started_at is not None
    assert left.ended_at is not None


# Many


def test_more_attempts_and_machines_than_fit_a_page_are_all_listed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nomad, "PER_PAGE", 3)
    for index in range(8):
        rig.scheduler.submit(an_attempt(task_id=str(index)))
    for index in range(7):
        rig.join(f"i-{index}")
    found = until(
        rig.scheduler.placements,
        holds=lambda all_: sum(p.stage is Stage.STARTED for p in all_) == 7,
    )
    assert len({p.attempt_id for p in found}) == len(found) == 8
    assert {p.instance for p in found if p.instance} == {f"i-{index}" for index in range(7)}
    assert len(rig.scheduler.nodes()) == 7


def test_another_orchestrators_attempts_on_the_same_cluster_are_not_listed(rig: Rig) -> None:
    rig.another("o2").submit(an_attempt())
    assert rig.scheduler.placements() == []
    rig.join("i-1")  # a machine of o1
    assert stage_of(rig.another("o2")) is Stage.WAITING


def stage_of(scheduler: Scheduler) -> Stage:
    return only(scheduler.placements()).stage


# Trouble


@pytest.mark.parametrize(
    ("status", "error"), [(500, CloudError), (429, RateLimited), (503, Unreachable)]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda scheduler: scheduler.submit(an_attempt()),
        lambda scheduler: scheduler.cancel("acme-00001-0-1"),
        lambda scheduler: scheduler.placements(),
        lambda scheduler: scheduler.nodes(),
        lambda scheduler: scheduler.forget(["acme-00001-0-1"]),
    ],
)
def test_a_provider_that_fails_is_told_and_the_call_can_be_repeated(
    rig: Rig, status: int, error: type[CloudError], call: Callable[[Scheduler], None]
) -> None:
    rig.fail_next(1, status)
    with pytest.raises(CloudError) as caught:
        call(rig.scheduler)
    assert type(caught.value) is error
    call(rig.scheduler)


def test_a_provider_that_does_not_answer_is_unreachable(rig: Rig) -> None:
    with pytest.raises(Unreachable):
        rig.unreachable().placements()


def test_a_wrong_token_is_an_error_and_not_an_empty_farm(rig: Rig) -> None:
    with pytest.raises(CloudError, match="403"):
        rig.unauthorised().placements()
