"""Licences: an attempt that finds no seat free waits, and holds back nobody who needs none."""

from dataclasses import replace
from datetime import datetime

import pytest
from google.cloud.firestore import DELETE_FIELD

from shared import wiring
from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, Command, JobRef
from shared.models.task import TaskStatus, WaitingFor
from shared.services.control import order, order_tasks
from shared.services.licences import seats_in_use
from shared.services.reconcile import reconcile
from tests.services.agent import Agent
from tests.services.farm import Farm, ago


def give(farm: Farm, *, since: datetime | None = None, **seats: int) -> None:
    """Let the account have so many seats of each product, and no number of any other."""
    accounts = farm.ports.accounts
    account = accounts.account(farm.account_id)
    accounts.save_account(replace(account, licences=seats, licences_set_at=since or wiring.now()))


def counts(farm: Farm, *refs: JobRef) -> list[int]:
    return [len(farm.placed(ref)) for ref in refs]


def test_no_more_attempts_start_than_there_are_seats(farm: Farm) -> None:
    give(farm, arnold=3)
    first, second = farm.submit(2, licences=("arnold",)), farm.submit(4, licences=("arnold",))
    assert counts(farm, first, second) == [2, 1]
    job = farm.job(second)
    assert (job.waiting_for, job.waiting_note) == (
        WaitingFor.LICENCE,
        "arnold: all 3 seats are taken",
    )
    for ref in (first, second):
        farm.push("settle", ref)
    assert farm.findings(first, second) == []


def test_a_job_that_waits_for_a_seat_holds_back_nobody_who_needs_none(farm: Farm) -> None:
    farm.limit(0)
    urgent = farm.submit(5, priority=9, licences=("arnold", "yeti"))
    modest = farm.submit(4, priority=2)
    farm.limit(6)
    give(farm, yeti=1)
    farm.push("admit")
    assert counts(farm, urgent, modest) == [1, 4]
    assert farm.job(urgent).waiting_note == "yeti: the only seat is taken"


def test_a_seat_that_is_free_again_is_taken_at_once(farm: Farm) -> None:
    give(farm, arnold=1)
    ref = farm.submit(2, licences=("arnold",))
    assert farm.placed(ref) == ["000-1"]
    farm.published()
    farm.run(ref)
    assert len(farm.published("admit")) == 1
    farm.push("admit")
    assert farm.placed(ref) == ["001-1"]
    assert farm.job(ref).waiting_for is WaitingFor.SCHEDULER


def test_more_seats_let_more_start_and_none_stops_for_fewer(farm: Farm) -> None:
    give(farm, arnold=2)
    ref = farm.submit(6, licences=("arnold",))
    give(farm, arnold=3)
    farm.push("admit")
    assert counts(farm, ref) == [3]
    give(farm, arnold=1)
    farm.push("admit")
    assert counts(farm, ref) == [3]
    give(farm)
    farm.push("admit")
    assert counts(farm, ref) == [6]


def test_the_audit_tells_seats_that_were_given_twice_from_seats_that_were_taken_away(
    farm: Farm,
) -> None:
    give(farm, arnold=3)
    ref = farm.submit(3, licences=("arnold",))
    farm.push("settle", ref)
    give(farm, arnold=2)
    assert farm.findings(ref) == []
    give(farm, since=ago(3600), arnold=2)
    assert farm.findings(ref) == ["4: 3 attempts in flight take arnold, there are 2 seats"]


def test_the_seats_that_are_taken_are_those_of_all_jobs(farm: Farm) -> None:
    give(farm, arnold=9, redshift=4)
    farm.submit(2, licences=("arnold",))
    farm.submit(3, licences=("arnold", "yeti"))
    found = {each.product: each.taken for each in seats_in_use(farm.account_id, farm.ports)}
    assert found == {"arnold": 5, "redshift": 0}


def test_a_job_from_before_there_were_licences_takes_none(farm: Farm) -> None:
    give(farm, arnold=1)
    ref = farm.create(2)
    farm.document(ref).update({"licences": DELETE_FIELD})
    farm.expand(ref)
    assert farm.job(ref).licences == ()
    assert counts(farm, ref) == [2]


def say(farm: Farm, ref: JobRef, agent: Agent, what: str) -> None:
    """Have something happen to the first attempt of a job, or be ordered for it; all that is said comes twice."""
    kind, _, which = what.partition(" ")
    attempt_id = AttemptRef(*ref, "000", 1).attempt_id
    for _ in range(2):
        match kind:
            case "claim":
                assert agent.claim().status_code == 200
            case "finish":
                assert agent.finish(which).status_code == 200
            case "gone":
                farm.scheduler.cancel(attempt_id)
                shape = Shape(farm.instance_type, True)
                seen = Placement(attempt_id=attempt_id, shape=shape, stage=Stage.LOST)
                reconcile([seen], farm.scheduler, farm.ports)
            case "task":
                order_tasks(ref, Command(which), ["000"], farm.ports)
            case "job":
                order(ref, Command(which), farm.ports)
    for topic, message in farm.published("command", "settle") * 2:
        assert farm.push(topic, **message) == 204


def holders(farm: Farm, *refs: JobRef) -> list[str]:
    """Return the tasks, by their own documents, that are at the scheduler or run."""
    return [
        f"{ref.job_id}-{task.task_id}"
        for ref in refs
        for task in farm.tasks(ref)
        if task.live
        or (task.status is TaskStatus.PENDING and farm.page(ref, task.page).is_placed(task.task_id))
    ]


@pytest.mark.parametrize(
    "story",
    [
        ["claim", "finish success", "gone"],
        ["claim", "finish failed", "gone"],
        ["claim", "finish out_of_memory", "gone"],
        ["claim", "finish preempted", "gone"],
        ["claim", "finish killed", "gone"],
        ["claim", "gone"],
        ["claim", "gone", "job kill"],
        ["gone"],
        ["job kill"],
        ["job hold"],
        ["job hold", "job unhold"],
        ["task kill"],
        ["task kill", "task retry"],
        ["task hold"],
        ["task hold", "task unhold"],
        ["claim", "job kill", "gone"],
        ["claim", "job kill", "job retry", "gone"],
        ["claim", "task kill", "gone"],
        ["claim", "task kill", "task retry", "gone"],
        ["claim", "job hold", "finish success", "gone"],
        ["claim", "job hold", "gone", "job unhold"],
        ["claim", "finish failed", "job retry", "gone"],
        ["claim", "finish success", "job retry_all", "gone"],
    ],
    ids="+".join,
)
def test_however_an_attempt_ends_its_seat_is_free_once_and_taken_by_the_next(
    farm: Farm, story: list[str]
) -> None:
    give(farm, arnold=1)
    first, *others = [farm.submit(1, licences=("arnold",), preempted_retries=1) for _ in range(3)]
    agent = farm.agent(first)
    assert holders(farm, first, *others) == ["00001-000"]
    for what in story:
        say(farm, first, agent, what)
        (seats,) = seats_in_use(farm.account_id, farm.ports)
        assert seats.taken == len(holders(farm, first, *others)) <= 1
    farm.deliver("admit", "settle", "command", "place")
    (seats,) = seats_in_use(farm.account_id, farm.ports)
    assert seats.taken == len(holders(farm, first, *others)) == 1
    for ref in (first, *others):
        farm.push("settle", ref)
    assert farm.findings(first, *others) == []
