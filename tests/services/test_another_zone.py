"""The ladder to its end: the machine for a task that was preempted boots in another zone, if there is any other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import functions_framework
import pytest
from flask.testing import FlaskClient

from shared import wiring
from shared.models.farm import Decision, PoolKey, Shape, Stage
from shared.models.job import AttemptRef, JobRef
from tests.emulators.farm import StandIn
from tests.services.agent import Agent
from tests.services.farm import Farm
from tests.services.rig import ROOT, Rig
from tests.waiting import until

T = TypeVar("T")
SHAPE = Shape("e2-standard-2", True)
CHEAP, DEAR = "us-central1-a", "us-central1-b"
A, B = PoolKey(CHEAP, *SHAPE), PoolKey(DEAR, *SHAPE)


@dataclass(frozen=True)
class Cloud:
    """Machines that join the scheduler of the tests' stack, and the function that asks for them."""

    compute: StandIn
    web: FlaskClient


@pytest.fixture(scope="module")
def cloud(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory: Path = tmp_path_factory.mktemp("compute")
    nomad = ("--nomad", rig.stack.url("nomad"))
    compute = StandIn("emulators.compute", directory, *nomad, "--boot-s", "0.2")
    compute.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATON_COMPUTE_ENDPOINT", compute.url)
        # The test plays the agents; those of the machines find nobody to claim from.
        patch.setenv("BATON_AGENT_URL", "http://127.0.0.1:1")
        create_app: Any = functions_framework.create_app
        yield Cloud(compute, create_app("autoscale", str(ROOT / "main.py")).test_client())
    assert compute.stop() == 0


@dataclass(frozen=True)
class Place:
    """A farm in two zones, and what happens to it."""

    farm: Farm
    cloud: Cloud

    def set_up(self, *, is_dear_on: bool = True) -> None:
        """Let the farm have both zones, or switch the one off that costs far more."""
        self.farm.save_orchestrator(
            zones={CHEAP: True, DEAR: is_dear_on},
            price_percents={DEAR: 400},
            instance_types=(SHAPE.instance_type,),
            boot_s=1,
        )

    def submit(self, task_count: int = 1) -> JobRef:
        machine = {"instance_type": SHAPE.instance_type, "cores": 2, "memory_mib": 7680}
        return self.farm.submit(task_count, preempted_retries=3, **machine)

    def tick(self) -> None:
        answer = self.cloud.web.post(
            f"/tick?orchestrator_id={self.farm.account_id}",
            headers={"X-Baton-Token": wiring.push_token()},
        )
        assert answer.status_code == 200, answer.text

    def machines(self, pool: PoolKey) -> set[str]:
        orchestrator = wiring.orchestrator_store().orchestrator(self.farm.account_id)
        found = wiring.fleet(orchestrator).instances(pool)
        return {each.name for each in found if not each.is_stopped and not each.is_retiring}

    def decision(self, pool: PoolKey) -> Decision:
        """Return the last decision about a pool."""
        store = wiring.orchestrator_store()
        (found,) = store.decisions(self.farm.account_id, pool, 1)
        return found.decision

    def instance(self, ref: JobRef, number: int, task_id: str = "000") -> str:
        """Return the machine on which an attempt is started, once it is."""
        attempt_id = AttemptRef(*ref, task_id, number).attempt_id

        def look() -> str:
            found = {each.attempt_id: each for each in self.farm.placements()}[attempt_id]
            return found.instance if found.stage is Stage.STARTED else ""

        return until(look)

    def lose(self, ref: JobRef, number: int, task_id: str = "000") -> None:
        """Have an attempt claimed where it was started, and its machine taken back by the provider."""
        instance = self.instance(ref, number, task_id)
        zone = next(each.zone for each in self.farm.scheduler.nodes() if each.name == instance)
        told = self.farm.environment(AttemptRef(*ref, task_id, number).attempt_id)
        web = self.farm.apps["dispatch"].test_client()
        agent = Agent(web=web, token=told["BATON_ATTEMPT_TOKEN"])
        assert agent.call("claim", instance=instance, zone=zone).status_code == 200
        self.cloud.compute.post("/faults", {"kind": "preempt", "instance": instance, "notice_s": 0})
        until(lambda: instance not in self.up())
        assert agent.finish("preempted").status_code == 200
        self.farm.deliver()

    def up(self) -> set[str]:
        return {each.name for each in self.farm.scheduler.nodes() if each.is_up}


@pytest.fixture
def place(farm: Farm, cloud: Cloud) -> Iterator[Place]:
    made = Place(farm, cloud)
    made.set_up()
    yield made
    fleet = wiring.fleet(wiring.orchestrator_store().orchestrator(farm.account_id))
    for pool in (A, B):
        fleet.retire(pool, [each.name for each in fleet.instances(pool)])


def test_the_next_machine_of_a_preempted_task_boots_in_another_zone_though_that_is_dearer(
    place: Place,
) -> None:
    ref = place.submit()
    place.tick()
    assert (len(place.machines(A)), len(place.machines(B))) == (1, 0)
    place.lose(ref, 1)
    place.tick()
    assert (len(place.machines(A)), len(place.machines(B))) == (0, 1)
    decision = place.decision(B)
    assert decision.reason == "1 wait, 0 free or booting: 1 more, 1 keep away from us-central1-a"
    assert place.instance(ref, 2) in place.machines(B)
    # Lost there too, it goes back: what is avoided is where that happened last.
    place.lose(ref, 2)
    place.tick()
    assert (len(place.machines(A)), len(place.machines(B))) == (1, 0)
    assert place.instance(ref, 3) in place.machines(A)
    assert [each.zone for each in place.farm.task(ref).attempts] == [CHEAP, DEAR]


def test_where_no_other_zone_is_open_the_next_machine_boots_where_the_last_one_was_lost(
    place: Place,
) -> None:
    place.set_up(is_dear_on=False)
    ref = place.submit()
    place.tick()
    place.lose(ref, 1)
    place.tick()
    assert (len(place.machines(A)), len(place.machines(B))) == (1, 0)
    said = "1 keep away from here, but no better zone has room"
    assert place.decision(A).reason.endswith(f"1 wait, 0 free or booting: 1 more, {said}")
    assert place.instance(ref, 2) in place.machines(A)


def test_only_what_was_preempted_goes_to_the_dearer_zone(place: Place) -> None:
    ref = place.submit()
    place.tick()
    place.lose(ref, 1)
    place.submit(3)
    place.tick()
    assert (len(place.machines(A)), len(place.machines(B))) == (3, 1)
    said = {place.decision(pool).reason.rpartition(", ")[2] for pool in (A, B)}
    assert said == {"1 keep away from us-central1-a"}
