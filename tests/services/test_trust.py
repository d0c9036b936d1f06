"""What an agent says counts for more than that the scheduler does not hear of its machine, for as long as it speaks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.models.farm import FleetInstance, Node, Placement, PoolKey, Shape, Stage
from shared.models.job import AttemptRef, JobRef
from shared.models.task import Outcome, TaskStatus
from shared.services.observe import Observation
from shared.services.reconcile import reconcile
from shared.services.trust import ALIVE, trust_agents
from tests.services.agent import INSTANCE, ZONE
from tests.services.farm import Farm, ago

ALIVE_S = ALIVE.total_seconds()
POOL = PoolKey(ZONE, "cpu-4-16", True)
MACHINE = FleetInstance(name=INSTANCE, pool=POOL, created_at=ago(3600))
SILENT = Node(name=INSTANCE, node_id="n", zone=ZONE, is_up=False, is_eligible=True)


def placed(farm: Farm, ref: JobRef, stage: Stage = Stage.LOST, **fields: Any) -> Placement:
    """Return the attempt of the first task as a scheduler lists it."""
    return replace(
        Placement(
            attempt_id=AttemptRef(*ref, "000", 1).attempt_id,
            shape=Shape(farm.instance_type, True),
            stage=stage,
            instance=INSTANCE,
        ),
        **fields,
    )


def seen(*placements: Placement, **fields: Any) -> Observation:
    """Return a look at a machine that the provider has and the scheduler does not hear of."""
    known: dict[str, Any] = {"nodes": [SILENT], "pools": [POOL], "listed": [MACHINE]}
    return Observation(at=ago(0), placements=placements, **known | fields)


def stages(farm: Farm, look: Observation) -> Sequence[Stage]:
    return [each.stage for each in trust_agents(look, farm.ports.jobs).placements]


def running(farm: Farm, *, silent_s: float = 10) -> JobRef:
    """Return a job whose task runs, its agent last heard of so long ago."""
    ref = farm.submit()
    farm.agent(ref).claim()
    farm.backdate(ref, started=600, alive=silent_s)
    return ref


def test_a_render_goes_on_while_only_the_scheduler_misses_its_machine(farm: Farm) -> None:
    ref = running(farm, silent_s=ALIVE_S - 10)
    look = trust_agents(seen(placed(farm, ref)), farm.ports.jobs)
    assert [each.stage for each in look.placements] == [Stage.STARTED]
    assert reconcile(look.placements, farm.scheduler, farm.ports) == 0
    assert farm.task(ref).status is TaskStatus.RUNNING
    assert farm.placed(ref) == ["000-1"], "nothing was forgotten"


def test_a_render_whose_agent_has_fallen_silent_too_is_lost_and_tried_again(farm: Farm) -> None:
    ref = running(farm, silent_s=ALIVE_S + 10)
    look = trust_agents(seen(placed(farm, ref)), farm.ports.jobs)
    assert reconcile(look.placements, farm.scheduler, farm.ports) == 1
    assert farm.task(ref).attempts[0].outcome is Outcome.LOST
    farm.deliver()
    assert farm.placed(ref) == ["000-2"]
    assert farm.findings(ref) == []


@pytest.mark.parametrize(
    "listed",
    [[], [replace(MACHINE, is_stopped=True)], [replace(MACHINE, is_retiring=True)]],
)
def test_what_ran_on_a_machine_that_is_gone_is_lost_at_once(
    farm: Farm, listed: Sequence[FleetInstance]
) -> None:
    assert stages(farm, seen(placed(farm, running(farm)), listed=listed)) == [Stage.LOST]


@pytest.mark.parametrize(
    "told", [{"ended_at": ago(1)}, {"cause": Outcome.PREEMPTED, "ended_at": None}]
)
def test_what_was_seen_to_end_is_lost_at_once(farm: Farm, told: dict[str, Any]) -> None:
    assert stages(farm, seen(placed(farm, running(farm), **told))) == [Stage.LOST]


@pytest.mark.parametrize(
    "unknown",
    [
        {"fleet_error": "the provider did not answer"},
        {"pools": []},  # the scheduler starts the machines
        {"pools": [POOL], "failed": {POOL: "unreachable"}},
    ],
)
def test_where_the_provider_cannot_say_the_scheduler_must_still_know_the_machine(
    farm: Farm, unknown: dict[str, Any]
) -> None:
    attempt = placed(farm, running(farm))
    assert stages(farm, seen(attempt, listed=[], **unknown)) == [Stage.STARTED]
    assert stages(farm, seen(attempt, listed=[], nodes=[], **unknown)) == [Stage.LOST]


def test_what_shows_as_started_on_a_silent_machine_runs_by_its_agents_word_alone(
    farm: Farm,
) -> None:
    ref = running(farm)
    attempt = placed(farm, ref, Stage.STARTED)
    assert stages(farm, seen(attempt)) == [Stage.STARTED]
    farm.backdate(ref, started=600, alive=ALIVE_S + 10)
    assert stages(farm, seen(attempt)) == [Stage.LOST]
    heard = replace(SILENT, node_id="n2", is_up=True)
    assert stages(farm, seen(attempt, nodes=[SILENT, heard])) == [Stage.STARTED]
    joining = replace(SILENT, is_joining=True)
    assert stages(farm, seen(attempt, nodes=[joining])) == [Stage.STARTED]


def test_the_word_of_another_attempt_says_nothing_of_this_one(farm: Farm) -> None:
    ref = running(farm)
    old = placed(farm, ref, attempt_id=AttemptRef(*ref, "000", 2).attempt_id)
    assert stages(farm, seen(old)) == [Stage.LOST]


def test_what_no_agent_has_claimed_is_lost(farm: Farm) -> None:
    ref = farm.submit()
    assert stages(farm, seen(placed(farm, ref))) == [Stage.LOST]
