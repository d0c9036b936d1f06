"""The recovery ladder: where a task runs after its attempts were preempted, lost, or ran out of memory."""

from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from shared.core.orders import edited, on_machine
from shared.models.farm import Placement, Shape, Stage
from shared.models.job import AttemptRef, Command, Job, JobRef
from shared.models.submission import JobEdit
from shared.models.task import Attempt, Outcome, TaskStatus, WaitingFor
from shared.services.control import edit_job, order
from shared.services.explain import explain
from shared.services.reconcile import reconcile
from tests.builders import a_job
from tests.core.test_orders import a_machine
from tests.services.agent import ZONE, Agent
from tests.services.farm import Farm

T = TaskStatus
OWN = a_machine(name="own", cores=4, memory_gib=16, preemptible_micros_per_minute=1500)
LARGER = a_machine(name="larger", cores=8, memory_gib=32, preemptible_micros_per_minute=3000)
LARGEST = a_machine(name="largest", cores=16, memory_gib=64, preemptible_micros_per_minute=5000)
TYPES = (OWN, LARGER, LARGEST)


@pytest.fixture
def farm(farm: Farm) -> Farm:
    """A farm that has three sizes of machines."""
    farm.save_orchestrator(instance_types=[each.name for each in TYPES])
    return farm


def submit(farm: Farm, task_count: int = 1, scouts: tuple[int, ...] = (), **policy: int) -> JobRef:
    """Submit a job for the smallest of them; returns when its tasks are at the scheduler."""
    like = on_machine(a_job(), OWN, True, TYPES)
    return farm.submit(
        task_count,
        scouts=scouts,
        instance_type=like.instance_type,
        price_micros_per_minute=like.price_micros_per_minute,
        standard_micros_per_minute=like.standard_micros_per_minute,
        cores=like.cores,
        memory_mib=like.memory_mib,
        larger=like.larger,
        **policy,
    )


def shapes(farm: Farm, ref: JobRef) -> dict[str, str]:
    """Return what waits at the scheduler, and for which machine."""
    return {
        f"{found.task_id}-{found.number}": each.shape.name
        for each in farm.placements()
        if each.stage is Stage.WAITING
        and (found := AttemptRef.parse(each.attempt_id)).task.job == ref
    }


def placed_agent(farm: Farm, ref: JobRef, number: int, task_id: str = "000") -> Agent:
    """Return an agent with the very token that its attempt was placed with."""
    token = farm.environment(AttemptRef(*ref, task_id, number).attempt_id)["BATON_ATTEMPT_TOKEN"]
    return Agent(web=farm.apps["dispatch"].test_client(), token=token)


def run(farm: Farm, ref: JobRef, number: int, outcome: str, task_id: str = "000") -> int:
    """Have an attempt claimed as it was placed, and end; returns the memory that it was given."""
    agent = placed_agent(farm, ref, number, task_id)
    claimed = agent.claim()
    assert claimed.status_code == 200, claimed.text
    assert agent.finish(outcome).status_code == 200
    farm.scheduler.cancel(AttemptRef(*ref, task_id, number).attempt_id)
    farm.deliver()
    return memory_of(claimed)


def memory_of(claimed: TestResponse) -> int:
    assert claimed.json is not None
    return int(claimed.json["memory_mib"])


def last(farm: Farm, ref: JobRef, task_id: str = "000") -> Attempt:
    return farm.task(ref, task_id).attempts[-1]


def paid(farm: Farm, ref: JobRef, *numbers: int) -> list[tuple[str, bool, int, float]]:
    """Return type, class, price and cores of the ledger's entries of the first task."""
    entries = {entry.attempt: entry for entry in farm.ports.jobs.job_ledger(ref)}
    return [
        (
            entry.instance_type,
            entry.is_preemptible,
            entry.price_micros_per_minute,
            entry.core_minutes / entry.billed_minutes,
        )
        for entry in (entries[AttemptRef(*ref, "000", number)] for number in numbers)
    ]


def test_after_two_preemptions_the_third_attempt_is_standard_and_paid_as_such(farm: Farm) -> None:
    ref = submit(farm, preempted_retries=3, standard_after=2)
    for number in (1, 2):
        assert shapes(farm, ref) == {f"000-{number}": "own:p"}
        run(farm, ref, number, "preempted")
    assert shapes(farm, ref) == {"000-3": "own:s"}
    run(farm, ref, 3, "success")
    assert paid(farm, ref, 1, 2, 3) == [
        ("own", True, 1500, 4),
        ("own", True, 1500, 4),
        ("own", False, 6000, 4),
    ]
    assert farm.task(ref).status is T.SUCCESS
    assert last(farm, ref).note == (
        "standard: 2 preemptible attempts were lost; "
        f"again in {ZONE}: attempt 2 was preempted there, but nothing elsewhere took it"
    )
    assert farm.findings(ref) == []


@pytest.mark.parametrize("outcome", ["preempted", "killed"])  # nobody ordered it: it is lost
def test_a_task_that_lost_its_machine_avoids_that_zone(farm: Farm, outcome: str) -> None:
    ref = submit(farm, 2, preempted_retries=1)
    run(farm, ref, 1, outcome)
    avoided = {
        f"{each.task_id}-{each.number}": farm.avoided_zones(each.attempt_id)
        for each in (AttemptRef(*ref, "000", 2), AttemptRef(*ref, "001", 1))
    }
    assert avoided == {"000-2": [ZONE], "001-1": []}
    assert farm.task(ref).count(Outcome(outcome) if outcome == "preempted" else Outcome.LOST) == 1


def test_what_ran_out_of_memory_goes_to_the_next_larger_machines_and_no_further(farm: Farm) -> None:
    ref = submit(farm, out_of_memory_retries=2)
    assert run(farm, ref, 1, "out_of_memory") == 15_360
    assert shapes(farm, ref) == {"000-2": "larger:p"}
    assert run(farm, ref, 2, "out_of_memory") == 30_720
    assert shapes(farm, ref) == {"000-3": "largest:p"}
    assert run(farm, ref, 3, "out_of_memory") == 61_440
    assert farm.task(ref).status is T.FAILED
    assert last(farm, ref).reason == "out of memory; no retry is left (out_of_memory_retries: 2)"
    assert last(farm, ref).note == "largest: out of memory on larger"
    assert paid(farm, ref, 1, 2, 3) == [
        ("own", True, 1500, 4),
        ("larger", True, 3000, 8),
        ("largest", True, 5000, 16),
    ]
    assert farm.findings(ref) == []


def test_a_retry_by_a_person_begins_a_new_allowance_where_the_task_had_come_to(farm: Farm) -> None:
    ref = submit(farm, preempted_retries=1, standard_after=3, out_of_memory_retries=1)
    for number in (1, 2):
        run(farm, ref, number, "preempted")
    assert farm.task(ref).status is T.PREEMPTED
    order(ref, Command.RETRY_PREEMPTED, farm.ports)
    farm.deliver()
    assert shapes(farm, ref) == {"000-3": "own:p"}
    run(farm, ref, 3, "preempted")
    assert shapes(farm, ref) == {"000-4": "own:s"}
    for number in (4, 5):
        run(farm, ref, number, "out_of_memory")
    assert farm.task(ref).status is T.FAILED
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert shapes(farm, ref) == {"000-6": "largest:s"}
    assert run(farm, ref, 6, "success") == 61_440
    assert farm.findings(ref) == []


def test_only_machines_that_the_jobs_orchestrator_has_are_larger_ones(farm: Farm) -> None:
    farm.save_orchestrator(instance_types=["own", "largest"])
    ref = submit(farm)
    run(farm, ref, 1, "out_of_memory")
    assert shapes(farm, ref) == {"000-2": "largest:p"}
    run(farm, ref, 2, "out_of_memory")
    assert "no instance type larger than largest" in last(farm, ref).reason
    assert farm.task(ref).status is T.FAILED


def test_a_process_that_claims_again_is_told_the_memory_that_it_has(farm: Farm) -> None:
    ref = submit(farm)
    run(farm, ref, 1, "out_of_memory")
    agent = placed_agent(farm, ref, 2)
    assert memory_of(agent.claim()) == 30_720
    edit(farm, ref, JobEdit(out_of_memory_retries=0))
    assert memory_of(agent.claim()) == 30_720


def test_one_that_was_claimed_before_its_memory_was_noted_has_the_jobs(farm: Farm) -> None:
    ref = farm.submit(instance_type="own")
    agent = placed_agent(farm, ref, 1)
    assert memory_of(agent.claim()) == 0
    farm.ports.jobs.change_job(ref, lambda job: replace(job, memory_mib=15_360))
    assert memory_of(agent.claim()) == 15_360


def edit(farm: Farm, ref: JobRef, what: JobEdit) -> None:
    machine = next((each for each in TYPES if each.name == what.instance_type), None)

    def change(job: Job) -> Job:
        return edited(job, what, machine, TYPES)

    edit_job(ref, change, farm.ports)
    farm.deliver()


def test_an_edit_of_the_machine_takes_back_what_waits_for_a_larger_one(farm: Farm) -> None:
    ref = submit(farm)
    run(farm, ref, 1, "out_of_memory")
    before = placed_agent(farm, ref, 2)
    edit(farm, ref, JobEdit(instance_type="largest"))
    assert before.claim().status_code == 409
    assert shapes(farm, ref)["000-3"] == "largest:p"
    run(farm, ref, 3, "success")
    assert paid(farm, ref, 1, 3) == [("own", True, 1500, 4), ("largest", True, 5000, 16)]
    assert farm.findings(ref) == []


def test_an_edit_of_the_policy_reaches_what_waits_at_the_scheduler(farm: Farm) -> None:
    ref = submit(farm, preempted_retries=3)
    run(farm, ref, 1, "preempted")
    assert shapes(farm, ref) == {"000-2": "own:p"}
    edit(farm, ref, JobEdit(standard_after=1))
    assert shapes(farm, ref)["000-3"] == "own:s"
    assert farm.findings(ref) == []


def test_an_edit_of_the_policy_leaves_what_it_does_not_touch_where_it_is(farm: Farm) -> None:
    ref = submit(farm, 3, preempted_retries=3)
    run(farm, ref, 1, "preempted", task_id="001")
    edit(farm, ref, JobEdit(standard_after=1))
    farm.deliver()
    waiting = [farm.task(ref, each).attempt for each in ("000", "001", "002")]
    assert waiting == [1, 3, 1]
    assert placed_agent(farm, ref, 1).claim().status_code == 200
    farm.deliver()
    assert farm.findings(ref) == []


def test_what_is_no_zone_of_the_orchestrator_is_none_to_avoid(farm: Farm) -> None:
    ref = submit(farm, preempted_retries=1)
    agent = placed_agent(farm, ref, 1)
    assert agent.call("claim", instance="i-1", zone="elsewhere").status_code == 200
    assert agent.finish("preempted").status_code == 200
    farm.deliver()
    assert farm.avoided_zones(AttemptRef(*ref, "000", 2).attempt_id) == []


def test_an_attempt_that_was_placed_for_another_machine_is_not_claimed(farm: Farm) -> None:
    """Between the edit and the message that takes it back, its agent may come."""
    ref = submit(farm, preempted_retries=3)
    run(farm, ref, 1, "preempted")
    edit_job(ref, lambda job: edited(job, JobEdit(standard_after=1), None), farm.ports)
    refused = placed_agent(farm, ref, 2).claim()
    assert (refused.status_code, "asks for own:s now, not for own:p" in refused.text) == (410, True)


@pytest.mark.parametrize(
    ("stage", "cause", "shape"),
    [
        (Stage.ENDED, Outcome.OUT_OF_MEMORY, "larger:p"),
        (Stage.LOST, Outcome.PREEMPTED, "own:s"),
        (Stage.LOST, None, "own:s"),
    ],
)
def test_what_only_the_scheduler_knows_of_an_end_decides_the_next_attempt(
    farm: Farm, stage: Stage, cause: Outcome | None, shape: str
) -> None:
    ref = submit(farm, preempted_retries=1, standard_after=1)
    assert placed_agent(farm, ref, 1).claim().status_code == 200
    farm.backdate(ref, started=150, alive=100)
    attempt_id = AttemptRef(*ref, "000", 1).attempt_id
    seen = Placement(attempt_id=attempt_id, shape=Shape("own", True), stage=stage, cause=cause)
    assert reconcile([seen], farm.scheduler, farm.ports) == 1
    outcome = cause or Outcome.LOST
    assert farm.ledger() == [("000-1", outcome, 1)]
    if cause is not None:
        assert "says the scheduler" in last(farm, ref).reason
    farm.deliver()
    assert shapes(farm, ref)["000-2"] == shape
    assert farm.findings(ref) == []


def test_a_cause_of_what_nobody_claimed_counts_for_nothing(farm: Farm) -> None:
    ref = submit(farm, preempted_retries=1, standard_after=1)
    attempt_id = AttemptRef(*ref, "000", 1).attempt_id
    seen = Placement(
        attempt_id=attempt_id,
        shape=Shape("own", True),
        stage=Stage.ENDED,
        cause=Outcome.PREEMPTED,
    )
    assert reconcile([seen], farm.scheduler, farm.ports) == 0
    farm.deliver()
    assert shapes(farm, ref)["000-2"] == "own:p"
    assert farm.ledger() == []


def test_a_scout_goes_up_the_ladder_and_then_lets_the_others_go(farm: Farm) -> None:
    ref = submit(farm, 3, scouts=(1,))
    run(farm, ref, 1, "out_of_memory", task_id="001")
    assert shapes(farm, ref) == {"001-2": "larger:p"}
    assert farm.task(ref, "000").status is T.HOLDING
    run(farm, ref, 2, "success", task_id="001")
    assert shapes(farm, ref) == {"000-1": "own:p", "002-1": "own:p"}
    assert farm.findings(ref) == []


def test_a_scout_that_fails_for_good_lets_none_go(farm: Farm) -> None:
    ref = submit(farm, 2, scouts=(0,), out_of_memory_retries=0)
    run(farm, ref, 1, "out_of_memory")
    assert [each.status for each in farm.tasks(ref)] == [T.FAILED, T.HOLDING]


def test_a_job_that_waits_for_several_machines_says_why_for_each(farm: Farm) -> None:
    ref = submit(farm, 3)
    run(farm, ref, 1, "out_of_memory")
    reasons = {
        Shape("own", True): (WaitingFor.BOOT, "0 of 2 instances are up, 2 booting"),
        Shape("larger", True): (WaitingFor.STOCK_OUT, "no zone has such a machine left for now"),
    }
    for placements in (farm.placements(), farm.placements()[::-1]):
        explain(placements, reasons, farm.ports.jobs, farm.ports.now())
        job = farm.job(ref)
        assert job.waiting_for is WaitingFor.BOOT
        assert job.waiting_note == (
            "0 of 2 instances are up, 2 booting; "
            "on larger (preemptible): no zone has such a machine left for now"
        )


def test_a_second_hand_over_of_a_later_attempt_changes_nothing(farm: Farm) -> None:
    ref = submit(farm)
    run(farm, ref, 1, "out_of_memory")
    before = farm.state()
    assert farm.push("place", ref, page=0, attempts={"000": 2}, is_last=True) == 204
    assert farm.state() == before
