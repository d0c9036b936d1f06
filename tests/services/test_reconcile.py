"""Reconciling with the scheduler: what ended there without a word here is settled, once."""

import pytest

from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, JobRef
from shared.models.task import Outcome, TaskStatus
from shared.services.reconcile import reconcile
from tests.services.agent import INSTANCE
from tests.services.farm import Farm

T = TaskStatus


def look(farm: Farm) -> int:
    """Reconcile with what the scheduler lists now; returns how many attempts were lost."""
    return reconcile(farm.placements(), farm.scheduler, farm.ports)


def seen(farm: Farm, ref: JobRef, stage: Stage, number: int = 1) -> Placement:
    """Return an attempt of the first task as the scheduler would list it."""
    attempt_id = AttemptRef(*ref, "000", number).attempt_id
    shape = Shape(farm.instance_type, True)
    return Placement(attempt_id=attempt_id, shape=shape, stage=stage)


def end(farm: Farm, ref: JobRef, number: int = 1) -> None:
    """Have the process of an attempt of the first task end."""
    farm.scheduler.cancel(AttemptRef(*ref, "000", number).attempt_id)


def test_an_attempt_that_ended_without_a_word_is_lost_and_tried_again(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.agent(ref).claim()
    end(farm, ref)
    assert look(farm) == 1
    (lost,) = farm.task(ref).attempts
    assert (lost.outcome, lost.reason) == (Outcome.LOST, "the agent ended without a word")
    assert [each.attempt_id for each in farm.placements()] == [
        f"{farm.account_id}-{ref.job_id}-001-1"
    ]
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-1"]
    farm.run(ref, number=2)
    farm.deliver()
    assert farm.task(ref).status is T.SUCCESS
    assert farm.findings(ref) == []


@pytest.mark.parametrize(("started", "alive", "minutes"), [(600, 290, 6), (90, 90, 1), (50, 10, 1)])
def test_a_lost_attempt_is_billed_until_its_last_sign_of_life(
    farm: Farm, started: int, alive: int, minutes: int
) -> None:
    ref = farm.submit()
    farm.agent(ref).claim()
    farm.backdate(ref, started=started, alive=alive)
    end(farm, ref)
    look(farm)
    assert farm.ledger() == [("000-1", "lost", minutes)]


def test_an_instance_that_is_gone_is_named(farm: Farm) -> None:
    ref = farm.submit()
    farm.agent(ref).claim()
    assert reconcile([seen(farm, ref, Stage.LOST)], farm.scheduler, farm.ports) == 1
    assert farm.task(ref).attempts[0].reason == f"instance {INSTANCE} is gone"


def test_what_is_lost_too_often_fails(farm: Farm) -> None:
    ref = farm.submit()
    for number in range(1, 7):
        assert farm.agent(ref, number=number).claim().status_code == 200
        end(farm, ref, number)
        assert look(farm) == 1
        farm.push("admit")
    assert farm.task(ref).status is T.FAILED
    assert len(farm.ledger()) == 6
    farm.deliver()
    assert farm.findings(ref) == []


def test_an_attempt_that_ended_unclaimed_is_withdrawn_and_costs_nothing(farm: Farm) -> None:
    ref = farm.submit()
    end(farm, ref)
    assert look(farm) == 0
    task = farm.task(ref)
    assert (task.status, task.attempt, task.attempts) == (T.PENDING, 2, ())
    assert farm.agent(ref).claim().status_code == 409
    farm.deliver()
    assert farm.placed(ref) == ["000-2"]
    assert farm.ledger() == []
    assert farm.findings(ref) == []


def test_a_task_that_no_agent_ever_claims_fails_in_the_end(farm: Farm) -> None:
    ref = farm.submit()
    for number in range(1, 21):
        assert farm.task(ref).status is T.PENDING
        reconcile([seen(farm, ref, Stage.ENDED, number)], farm.scheduler, farm.ports)
        farm.push("admit")
    assert farm.task(ref).status is T.FAILED
    farm.deliver()
    assert farm.job(ref).is_ended
    assert farm.findings(ref) == []


def test_what_waits_or_runs_at_the_scheduler_is_left_alone(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.agent(ref).claim()
    before = farm.state()
    assert look(farm) == 0
    assert reconcile([seen(farm, ref, Stage.STARTED)], farm.scheduler, farm.ports) == 0
    assert reconcile([seen(farm, ref, Stage.FORGOTTEN)], farm.scheduler, farm.ports) == 0
    assert farm.state() == before


def test_what_reported_its_end_is_only_forgotten(farm: Farm) -> None:
    ref = farm.submit()
    farm.run(ref)
    before = farm.task(ref)
    assert look(farm) == 0
    assert farm.placements() == []
    assert farm.task(ref) == before
    assert farm.ledger() == [("000-1", "success", 1)]


def test_a_second_look_changes_nothing(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.agent(ref).claim()
    for task_id in ("000", "001"):
        farm.scheduler.cancel(AttemptRef(*ref, task_id, 1).attempt_id)
    listed = farm.placements()
    assert reconcile(listed, farm.scheduler, farm.ports) == 1
    farm.deliver()
    before = farm.state()
    assert reconcile(listed, farm.scheduler, farm.ports) == 0
    assert farm.state() == before


def test_the_late_word_of_a_lost_agent_changes_nothing(farm: Farm) -> None:
    ref = farm.submit()
    agent = farm.agent(ref)
    agent.claim()
    end(farm, ref)
    look(farm)
    farm.deliver()
    before = farm.state()
    assert agent.heartbeat().status_code == 409
    assert agent.finish("success").json == {"status": "pending"}
    assert farm.state() == before
    assert farm.ledger() == [("000-1", "lost", 1)]


def test_an_attempt_of_a_job_that_is_not_there_is_forgotten(farm: Farm) -> None:
    ref = JobRef(farm.account_id, "00099")
    assert reconcile([seen(farm, ref, Stage.ENDED)], farm.scheduler, farm.ports) == 0
