"""What the services expect of a Scheduler, tried on every driver. A new driver is a new line in DRIVERS."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest

from shared.errors import CloudError, RateLimited, Unreachable
from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef
from shared.models.task import Outcome
from shared.orchestrators import batch, kubernetes, nomad
from shared.orchestrators.kubernetes import KubernetesScheduler
from shared.orchestrators.kubernetes_bodies import Site
from shared.ports import Scheduler, SubmittedAttempt
from tests.contracts.aws import batch_rig
from tests.contracts.kubernetes_rig import kubernetes_rig
from tests.contracts.nomad_rig import nomad_rig
from tests.contracts.stand_ins import GPU_SHAPE, GPUS, ORCHESTRATOR_ID, SHAPE, recorded
from tests.golden_files import check_golden
from tests.waiting import until


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

    def end(self, name: str, *, is_failed: bool = False, is_oom: bool = False) -> None:
        """All that runs on the machine ends."""
        ...

    def take_back(self, name: str) -> None:
        """The provider takes the machine: what runs on it gets its notice and ends, then the machine is gone."""
        ...

    def fail_next(self, calls: int, status: int) -> None: ...


@dataclass(frozen=True)
class Driver:
    """One implementation.

    `has_leftovers`: forgotten attempts still show where and when they ran; `has_nodes`: machines are listed, in zones,
    and can be taken out of use and avoided; where they are the provider's own business, they are not.
    `lists_avoided_zones`: what waits is listed with the zones that it avoids; Batch can be told of none, its list shows
    no tags, and nobody else starts machines for what waits there.
    """

    module: ModuleType
    rig: Callable[[Path], AbstractContextManager[Rig]]
    has_leftovers: bool
    has_nodes: bool = True
    lists_avoided_zones: bool = True


DRIVERS = [
    pytest.param(Driver(nomad, rig=nomad_rig, has_leftovers=True), id="nomad"),
    pytest.param(Driver(kubernetes, rig=kubernetes_rig, has_leftovers=False), id="kubernetes"),
    pytest.param(
        Driver(
            batch,
            rig=batch_rig,
            has_leftovers=False,
            has_nodes=False,
            lists_avoided_zones=False,
        ),
        id="batch",
    ),
]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    return found


@pytest.fixture
def rig(driver: Driver, tmp_path: Path) -> Iterator[Rig]:
    with driver.rig(tmp_path) as made:
        yield made


@pytest.fixture
def listed_machines(driver: Driver) -> None:
    """Leave out drivers whose machines are the provider's own business."""
    if not driver.has_nodes:
        pytest.skip("lists no machines")


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


@pytest.mark.parametrize(
    ("how", "cause"),
    [({}, None), ({"is_failed": True}, None), ({"is_oom": True}, Outcome.OUT_OF_MEMORY)],
    ids=str,
)
def test_an_attempt_whose_process_is_gone_has_ended_and_is_not_tried_again(
    rig: Rig, how: Mapping[str, bool], cause: Outcome | None
) -> None:
    rig.join("i-1")
    rig.join("i-2")
    rig.scheduler.submit(an_attempt())
    where = stage(rig, Stage.STARTED).instance
    rig.start(where)
    until(rig.scheduler.placements, holds=lambda found: only(found).started_at is not None)
    rig.end(where, **how)
    found = stage(rig, Stage.ENDED)
    assert found.instance == where
    assert found.cause is cause
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


def test_an_attempt_whose_machine_is_taken_back_is_over_and_is_not_started_elsewhere(
    rig: Rig, driver: Driver
) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED).instance == "i-1"
    rig.start("i-1")
    rig.join("i-2")
    rig.take_back("i-1")
    if driver.has_nodes:
        until(rig.scheduler.nodes, holds=lambda all_: [n.name for n in all_ if n.is_up] == ["i-2"])
    assert only(rig.scheduler.placements()).stage in (Stage.ENDED, Stage.LOST)
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
    rig: Rig, driver: Driver, shape: Shape, zone: str
) -> None:
    if shape == SHAPE and not driver.has_nodes:
        pytest.skip("knows no zones")
    rig.join("wrong", shape, zone)
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.WAITING)
    rig.join("right")
    assert stage(rig, Stage.STARTED).instance == "right"


@pytest.fixture
def avoidable(driver: Driver) -> None:
    """Leave out drivers that cannot be told where an attempt shall not run."""
    if not driver.has_nodes:
        pytest.skip("can be told neither of zones nor of machines")


@pytest.mark.usefixtures("avoidable")
def test_an_attempt_goes_to_another_zone_than_the_ones_it_avoids_while_one_is_free_there(
    rig: Rig,
) -> None:
    rig.join("i-1", zone="z-a")
    rig.join("i-2", zone="z-b")
    rig.join("i-3", zone="z-c")
    rig.scheduler.submit(an_attempt(zones=("z-a", "z-b", "z-c"), avoided_zones=("z-a", "z-b")))
    assert stage(rig, Stage.STARTED).instance == "i-3"


@pytest.mark.usefixtures("avoidable")
def test_an_attempt_goes_to_a_zone_it_avoids_when_nothing_else_is_free(rig: Rig) -> None:
    rig.join("busy", zone="z-b")
    rig.scheduler.submit(an_attempt(task_id="0"))
    assert stage(rig, Stage.STARTED)
    rig.scheduler.submit(an_attempt(task_id="1", avoided_zones=("z-a",)))
    rig.join("i-1", zone="z-a")
    found = until(
        rig.scheduler.placements, holds=lambda all_: all(p.stage is Stage.STARTED for p in all_)
    )
    assert {p.attempt_id: p.instance for p in found}["acme-00001-1-1"] == "i-1"


@pytest.mark.parametrize("avoided", [(), ("z-a",), ("z-b", "z-a")], ids=str)
def test_an_attempt_is_listed_with_the_zones_it_avoids_by_name(
    rig: Rig, driver: Driver, avoided: tuple[str, ...]
) -> None:
    shown = tuple(sorted(avoided)) if driver.lists_avoided_zones else ()
    rig.scheduler.submit(an_attempt(zones=("z-a", "z-b", "z-c"), avoided_zones=avoided))
    assert stage(rig, Stage.WAITING).avoided_zones == shown
    rig.scheduler.submit(an_attempt(zones=("z-a", "z-b", "z-c"), avoided_zones=("z-c",)))
    assert only(rig.scheduler.placements()).avoided_zones == shown
    rig.join("i-1")
    assert stage(rig, Stage.STARTED).avoided_zones == shown


@pytest.mark.usefixtures("avoidable")
def test_an_attempt_never_starts_on_an_instance_it_avoids(rig: Rig) -> None:
    rig.join("i-1")
    rig.join("i-2")
    rig.scheduler.submit(an_attempt(avoided_instances=("i-1", "i-2")))
    assert stage(rig, Stage.WAITING)
    rig.join("i-3")
    assert stage(rig, Stage.STARTED).instance == "i-3"


def test_an_attempt_of_a_type_with_gpus_starts_on_a_machine_that_has_them(rig: Rig) -> None:
    rig.join("i-1", GPU_SHAPE)
    rig.scheduler.submit(an_attempt(shape=GPU_SHAPE))
    assert stage(rig, Stage.STARTED).instance == "i-1"


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


@pytest.mark.usefixtures("listed_machines")
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


@pytest.mark.usefixtures("listed_machines")
def test_machines_are_listed_with_their_zone_while_up_and_after(rig: Rig) -> None:
    node_id = rig.join("i-1", zone="z-b")
    (node,) = rig.scheduler.nodes()
    assert (node.name, node.node_id, node.zone) == ("i-1", node_id, "z-b")
    assert node.is_up
    assert node.is_eligible
    rig.leave("i-1")
    until(rig.scheduler.nodes, holds=lambda nodes: not any(node.is_up for node in nodes))


@pytest.mark.usefixtures("listed_machines")
def test_since_when_a_machine_is_up_is_known_to_whoever_looked_before(rig: Rig) -> None:
    assert rig.scheduler.nodes() == []
    before = datetime.now(UTC).replace(microsecond=0)
    rig.join("i-1")
    (node,) = rig.scheduler.nodes()
    assert node.joined_at is not None
    assert before <= node.joined_at <= datetime.now(UTC)
    rig.join("i-2")
    again = {each.name: each for each in rig.scheduler.nodes()}
    assert again["i-1"].joined_at == node.joined_at
    assert again["i-2"].joined_at is not None


@pytest.mark.usefixtures("listed_machines")
def test_since_when_a_machine_is_up_is_told_to_whoever_looks_for_the_first_time(rig: Rig) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    node_id = rig.join("i-1")
    joined = datetime.now(UTC)
    newcomer = rig.another(ORCHESTRATOR_ID)
    (node,) = newcomer.nodes()
    told = node.joined_at or newcomer.joined_at([node_id])[node_id]
    assert before <= told <= joined
    (again,) = newcomer.nodes()
    assert again.joined_at == told


def test_of_a_machine_that_is_gone_nobody_tells_since_when_it_was_up(rig: Rig) -> None:
    assert rig.scheduler.joined_at(["00000000-0000-0000-0000-000000000000"]) == {}


def test_what_nobody_has_seen_end_has_no_end_while_its_machine_may_come_back(
    rig: Rig, driver: Driver
) -> None:
    rig.join("i-1")
    rig.scheduler.submit(an_attempt())
    assert stage(rig, Stage.STARTED)
    rig.start("i-1")
    until(rig.scheduler.placements, holds=lambda found: only(found).started_at is not None)
    rig.leave("i-1")
    found = stage(rig, Stage.LOST)
    assert (found.ended_at is None) is driver.has_nodes


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
    rig: Rig, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.module, "PER_PAGE", 3)
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
    assert len(rig.scheduler.nodes()) == (7 if driver.has_nodes else 0)


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


@pytest.mark.usefixtures("listed_machines")
def test_machines_that_cannot_be_listed_are_an_error(rig: Rig) -> None:
    rig.fail_next(1, 503)
    with pytest.raises(Unreachable):
        rig.scheduler.nodes()


def test_a_provider_that_does_not_answer_is_unreachable(rig: Rig) -> None:
    with pytest.raises(Unreachable):
        rig.unreachable().placements()


def test_a_wrong_token_is_an_error_and_not_an_empty_farm(rig: Rig) -> None:
    with pytest.raises(CloudError, match=r": 40[13] "):
        rig.unauthorised().placements()


# On the wire


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("submit", lambda scheduler: scheduler.submit(an_attempt())),
        ("submit-standard", lambda scheduler: scheduler.submit(a_standard_attempt())),
        ("submit-elsewhere", lambda scheduler: scheduler.submit(an_attempt_elsewhere())),
        ("cancel", lambda scheduler: scheduler.cancel("acme-00001-0-1")),
        ("forget", lambda scheduler: scheduler.forget(["acme-00001-0-1"])),
        ("placements", lambda scheduler: scheduler.placements()),
        ("cordon", lambda scheduler: scheduler.set_eligible("i-1", False)),
        ("uncordon", lambda scheduler: scheduler.set_eligible("i-1", True)),
    ],
)
def test_what_kubernetes_is_asked_is_what_was_reviewed(
    name: str, call: Callable[[Scheduler], object]
) -> None:
    answer = {"metadata": {"name": "acme-00001-0-1", "uid": "uid-of-the-job"}, "items": []}
    with recorded(answer) as (url, requests_):
        site = Site(
            orchestrator_id="o1",
            address=url,
            namespace="baton",
            image="baton-agent:1",
            machine_types={"cpu-8-32": "n2d-standard-8", "gpu-4-16-l4": "g2-standard-4"},
            gpus=GPUS,
        )
        call(KubernetesScheduler(site, token="secret-token"))
    check_golden(f"kubernetes/{name}", requests_)


def a_standard_attempt() -> SubmittedAttempt:
    """An attempt of a type that the provider calls otherwise, with an id that is no name there."""
    ref = AttemptRef("Acme_Pictures", "00001", "0", 1)
    return an_attempt(ref=ref, shape=Shape("cpu-8-32", False), cores=8, priority=1000)


def an_attempt_elsewhere() -> SubmittedAttempt:
    """An attempt on a GPU that shall not run where earlier ones failed."""
    avoided: dict[str, Any] = {"avoided_zones": ("z-a",), "avoided_instances": ("i-1", "i-2")}
    ref = AttemptRef("acme", "00001", "0", 3)
    return an_attempt(ref=ref, shape=GPU_SHAPE, **avoided)


@pytest.mark.golden
def test_what_nomad_is_asked_is_what_was_reviewed() -> None:
    attempts = {"plain": an_attempt(), "elsewhere": an_attempt_elsewhere()}
    found = {name: nomad.job_of(attempt, "o1") for name, attempt in attempts.items()}
    check_golden("nomad/submit", found)
