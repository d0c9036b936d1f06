"""Jobs for which no machine can be had: they say so, whatever limit they are at, and make room for others."""

from dataclasses import replace

import pytest

from shared.core.unserved import PATIENCE, PROBE_COUNT
from shared.models.farm import Shape, Stage
from shared.models.job import Command, JobRef
from shared.models.task import WaitingFor
from shared.services.admit import admit
from shared.services.control import order_tasks
from shared.services.explain import explain
from shared.services.inspection import tasks_of
from tests.services.farm import Farm
from tests.services.test_licences import give

W = WaitingFor
NOTE = "no zone has such a machine left for now"
OTHER = "another-type"


@pytest.fixture(autouse=True)
def two_types(farm: Farm) -> None:
    """Have the orchestrator offer another instance type too."""
    farm.save_orchestrator(instance_types=(farm.instance_type, OTHER))


def tick(farm: Farm, reason: WaitingFor = W.STOCK_OUT, **after: float) -> None:
    """Have a tick tell why what waits at the scheduler waits."""
    shape = Shape(farm.instance_type, True)
    now = farm.ports_in(**after or {"seconds": 0}).now()
    explain(farm.placements(), {shape: (reason, NOTE)}, farm.ports.jobs, now)


def later(farm: Farm) -> None:
    """Run a round of admission when the patience with what is unserved has ended."""
    admit(farm.account_id, farm.ports_in(seconds=PATIENCE.total_seconds() + 5))


def told(farm: Farm, ref: JobRef) -> tuple[WaitingFor | None, str]:
    job = farm.job(ref)
    return job.waiting_for, job.waiting_note


def reasons(farm: Farm, ref: JobRef) -> list[WaitingFor | None]:
    return [each.waiting_for for each in tasks_of(farm.job(ref), farm.ports)]


def test_a_job_at_its_limit_says_that_nothing_it_has_placed_can_run(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    assert told(farm, ref)[0] is W.LIMIT
    tick(farm)
    assert told(farm, ref) == (W.STOCK_OUT, NOTE)
    farm.push("admit")
    farm.push("settle", ref)
    assert told(farm, ref) == (W.STOCK_OUT, NOTE)
    assert reasons(farm, ref) == [W.STOCK_OUT] * 4


def test_a_job_at_its_limit_says_so_while_some_of_it_runs_or_will(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    tick(farm, W.BOOT)
    assert told(farm, ref)[0] is W.LIMIT
    assert reasons(farm, ref) == [W.BOOT] * 2 + [W.LIMIT] * 2
    assert farm.agent(ref).claim().status_code == 200
    first, second = farm.placements()
    shape = Shape(farm.instance_type, True)
    for _ in range(2):
        seen = [replace(first, stage=Stage.STARTED, started_at=farm.ports.now()), second]
        explain(seen, {shape: (W.QUOTA, NOTE)}, farm.ports.jobs, farm.ports.now())
        farm.push("admit")
        assert told(farm, ref)[0] is W.LIMIT
    assert reasons(farm, ref) == [None, W.QUOTA, W.LIMIT, W.LIMIT]


def test_a_limit_is_told_again_once_machines_come(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    tick(farm)
    tick(farm, W.BOOT)
    farm.push("admit")
    assert told(farm, ref)[0] is W.LIMIT


def test_no_limit_is_told_of_a_job_that_has_nothing_left_to_place(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    assert told(farm, ref)[0] is W.LIMIT
    for task_id in ("002", "003"):
        order_tasks(ref, Command.KILL, [task_id], farm.ports)
    farm.deliver()
    assert told(farm, ref) == (W.SCHEDULER, "its tasks are with the scheduler")
    order_tasks(ref, Command.KILL, ["000", "001"], farm.ports)
    farm.deliver()
    assert told(farm, ref) == (None, "")
    assert farm.findings(ref) == []


# --- room for others ------------------------------------------------------------------------


def test_a_job_that_cannot_run_makes_room_for_one_that_can(farm: Farm) -> None:
    farm.limit(10)
    stuck = farm.submit(12)
    tick(farm)
    other = farm.submit(8, instance_type=OTHER)
    assert (farm.placed(other), told(farm, other)[0]) == ([], W.LIMIT)
    farm.sweep(minutes=1)
    assert len(farm.placed(stuck)) == 10
    later(farm)
    assert farm.placed(stuck) == [f"{i:03}-1" for i in range(PROBE_COUNT)]
    later(farm)
    assert (len(farm.placed(stuck)), len(farm.placed(other))) == (PROBE_COUNT, 6)
    assert told(farm, stuck) == (W.STOCK_OUT, NOTE)
    assert reasons(farm, stuck) == [W.STOCK_OUT] * 12
    assert told(farm, other)[0] is W.LIMIT
    assert {task.unclaimed for task in farm.tasks(stuck)} == {0}
    for ref in (stuck, other):
        farm.push("settle", ref)
    assert farm.findings(stuck, other) == []


def test_making_room_twice_is_as_making_it_once(farm: Farm) -> None:
    farm.limit(10)
    farm.submit(12)
    tick(farm)
    farm.submit(2, instance_type=OTHER)
    for _ in range(2):
        later(farm)
    farm.published()
    before = farm.state()
    later(farm)
    assert (farm.state(), farm.published("admit")) == (before, [])


def test_nothing_is_taken_back_while_nobody_else_waits_for_it(farm: Farm) -> None:
    farm.limit(10)
    stuck = farm.submit(12)
    tick(farm)
    later(farm)
    assert len(farm.placed(stuck)) == 10
    farm.limit(20)
    later(farm)
    assert len(farm.placed(stuck)) == 10
    assert told(farm, stuck) == (W.STOCK_OUT, NOTE)


def test_what_is_claimed_in_the_meantime_goes_on(farm: Farm) -> None:
    farm.limit(10)
    stuck = farm.submit(10)
    tick(farm)
    farm.submit(1, instance_type=OTHER)
    agent = farm.agent(stuck, "009")
    assert agent.claim().status_code == 200
    later(farm)
    assert farm.placed(stuck) == [f"{i:03}-1" for i in (*range(PROBE_COUNT), 9)]
    assert (agent.heartbeat().json or {})["action"] == "continue"
    assert farm.agent(stuck, "008").claim().status_code == 409


def test_a_job_gets_its_full_share_when_its_probes_run(farm: Farm) -> None:
    farm.limit(10)
    stuck = farm.submit(12)
    tick(farm)
    other = farm.submit(1, instance_type=OTHER)
    later(farm)
    later(farm)
    assert len(farm.placed(other)) == 1
    tick(farm, W.BOOT, minutes=6)
    later(farm)
    assert len(farm.placed(stuck)) == PROBE_COUNT
    tick(farm, W.SCHEDULER, minutes=7)
    later(farm)
    assert len(farm.placed(stuck)) == 9
    assert told(farm, stuck)[0] is W.LIMIT


def test_a_seat_that_cannot_be_used_is_given_to_another_job(farm: Farm) -> None:
    give(farm, arnold=6)
    stuck = farm.submit(6, licences=("arnold",))
    tick(farm)
    other = farm.submit(2, licences=("arnold",), instance_type=OTHER)
    assert told(farm, other)[0] is W.LICENCE
    later(farm)
    later(farm)
    assert (len(farm.placed(stuck)), len(farm.placed(other))) == (PROBE_COUNT, 2)


def test_the_scheduler_that_cannot_be_told_is_told_by_the_sweep(farm: Farm) -> None:
    farm.limit(10)
    stuck = farm.submit(10)
    tick(farm)
    farm.submit(2, instance_type=OTHER)
    farm.fail_scheduler(method="DELETE", calls=6)
    later(farm)
    assert len(farm.placed(stuck)) == 10
    farm.sweep(minutes=6)
    assert farm.placed(stuck) == [f"{i:03}-1" for i in range(PROBE_COUNT)]
