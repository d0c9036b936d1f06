"""What people order, carried down to tasks, the scheduler and the agents."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from google.cloud import firestore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.core.orders import edited
from shared.core.outstanding import MOST_ORDERS
from shared.errors import Conflict, InvalidTransition, NotFound
from shared.models.farm import Placement
from shared.models.job import Command, Job, JobRef, JobStatus, Sync, SyncState
from shared.models.submission import JobEdit
from shared.models.task import TASKS_PER_PAGE, Task, TaskStatus
from shared.services.attempts import blob_name
from shared.services.control import carry_out, edit_job, order, order_tasks, review_job
from tests.builders import NOON
from tests.core.test_orders import a_machine
from tests.md5 import md5_of
from tests.services.agent import Agent
from tests.services.farm import Farm

T = TaskStatus
BIGGER = a_machine(name="bigger")


@pytest.fixture
def farm(farm: Farm) -> Farm:
    """A farm that has two kinds of machines."""
    farm.save_orchestrator(instance_types=(farm.instance_type, BIGGER.name))
    return farm


def edit(farm: Farm, ref: JobRef, what: JobEdit) -> Job:
    return edit_job(ref, lambda job: edited(job, what, BIGGER), farm.ports)


def waiting(farm: Farm) -> dict[str, str]:
    """Return what each attempt that waits at the scheduler waits for."""
    found: list[Placement] = [each for each in farm.placements() if each.stage == "waiting"]
    return {
        "-".join(each.attempt_id.split("-")[-2:]): each.shape.instance_type
        for each in found
        if each.shape is not None
    }


def placed_agent(farm: Farm, ref: JobRef, task_id: str) -> Agent:
    """Return an agent with the very token that its attempt was placed with."""
    attempt_id = f"{ref.account_id}-{ref.job_id}-{task_id}-1"
    token = farm.environment(attempt_id)["BATON_ATTEMPT_TOKEN"]
    return Agent(web=farm.apps["dispatch"].test_client(), token=token)


def test_another_machine_is_for_the_attempts_that_have_not_started(farm: Farm) -> None:
    ref = farm.submit(3)
    first, second = (placed_agent(farm, ref, task_id) for task_id in ("000", "001"))
    assert first.claim().status_code == 200
    edit(farm, ref, JobEdit(instance_type="bigger", is_preemptible=False))
    refused = second.claim()
    assert (refused.status_code, "AttemptWithdrawn" in refused.text) == (410, True)
    farm.deliver()
    assert {key: value for key, value in waiting(farm).items() if not key.startswith("000")} == {
        "001-2": "bigger",
        "002-2": "bigger",
    }
    assert first.claim().status_code == 200
    assert first.finish().status_code == 200
    farm.run(ref, "001", 2)
    attempts = [farm.task(ref, task_id).attempts[-1] for task_id in ("000", "001")]
    assert [each.instance_type for each in attempts] == [farm.instance_type, "bigger"]
    assert [each.price_micros_per_minute for each in attempts] == [1500, 6000]
    billed = {
        (entry.attempt.task_id, entry.attempt.number): entry.core_minutes / entry.billed_minutes
        for entry in farm.ports.jobs.job_ledger(ref)
    }
    assert billed == {("000", 1): 1, ("001", 2): BIGGER.cores}
    assert farm.push("settle", ref) == 204
    assert farm.findings(ref) == []


def test_another_priority_reaches_what_waits_at_the_scheduler(farm: Farm) -> None:
    ref = farm.submit(2)
    edit(farm, ref, JobEdit(priority=50))
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]


def test_an_edit_said_again_takes_nothing_back(farm: Farm) -> None:
    ref = farm.submit(1)
    for _ in range(2):
        edit(farm, ref, JobEdit(priority=50))
        farm.deliver()
    assert farm.placed(ref) == ["000-2"]


def test_fewer_instances_stop_nothing_and_let_nothing_more_start(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(3)
    edit(farm, ref, JobEdit(max_instances=1))
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "001-1"]
    farm.run(ref, "000")
    farm.deliver()
    assert farm.placed(ref) == ["001-1"]


@pytest.mark.parametrize("is_edit_first", [True, False])
def test_an_edit_and_a_command_close_together_are_both_carried_out(
    farm: Farm, is_edit_first: bool
) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    if is_edit_first:
        edit(farm, ref, JobEdit(instance_type="bigger"))
    order(ref, Command.RETRY_FAILED, farm.ports)
    if not is_edit_first:
        edit(farm, ref, JobEdit(instance_type="bigger"))
    farm.deliver()
    assert waiting(farm) == {"000-2": "bigger", "001-2": "bigger"}
    assert farm.findings(ref) == []


def test_an_edit_does_not_repeat_the_command_before_it(farm: Farm) -> None:
    ref = farm.submit(2)
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    farm.run(ref, "000", outcome="failed")
    edit(farm, ref, JobEdit(priority=50))
    farm.deliver()
    assert farm.task(ref, "000").status is T.FAILED


def test_an_edit_whose_messages_were_lost_is_finished_by_the_sweep(farm: Farm) -> None:
    ref = farm.submit(1)
    edit(farm, ref, JobEdit(instance_type="bigger"))
    farm.published()
    farm.sweep()
    farm.deliver()
    assert waiting(farm) == {"000-2": "bigger"}


def test_an_edit_of_what_has_ended_is_for_the_retry(farm: Farm) -> None:
    ref = farm.submit(1)
    farm.run(ref, outcome="failed")
    farm.deliver()
    assert edit(farm, ref, JobEdit(instance_type="bigger")).is_ended
    assert farm.published("command") == []
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert waiting(farm) == {"000-2": "bigger"}


def test_a_job_that_is_being_killed_is_not_edited(farm: Farm) -> None:
    ref = farm.submit(1)
    order(ref, Command.KILL, farm.ports)
    with pytest.raises(InvalidTransition, match="being killed"):
        edit(farm, ref, JobEdit(priority=9))


def test_inputs_that_failed_are_made_ready_by_a_retry_of_the_sync(farm: Farm) -> None:
    waits = Sync(state=SyncState.PENDING, total_count=1)
    ref = farm.create(inputs={"/a": b"a"}, sync=waits)
    farm.ports.blobs.delete(blob_name(farm.account_id, md5_of(b"a")))
    farm.expand(ref)
    assert farm.push("sync", ref) == 204
    assert farm.job(ref).status is JobStatus.SYNC_FAILED
    farm.upload({"/a": b"a"})
    order(ref, Command.RETRY_SYNC, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["000-1"]


def test_tasks_that_cannot_follow_are_named_and_the_others_follow(farm: Farm) -> None:
    ref = farm.submit(3)
    farm.run(ref, "000")
    refused = order_tasks(ref, Command.KILL, ["000", "001", "007"], farm.ports)
    assert refused == {
        "000": "task 000 is success: kill does not apply",
        "007": f"job {ref.job_id} has no task 007",
    }
    assert [task.status for task in farm.tasks(ref)] == [T.SUCCESS, T.KILLED, T.PENDING]


def test_a_retry_of_a_task_said_again_changes_nothing(farm: Farm) -> None:
    ref = farm.submit(1)
    farm.run(ref, outcome="failed")
    farm.deliver()
    assert order_tasks(ref, Command.RETRY, ["000"], farm.ports) == {}
    before = farm.task(ref)
    assert order_tasks(ref, Command.RETRY, ["000"], farm.ports) == {}
    assert farm.task(ref) == before
    farm.deliver()
    agent = farm.agent(ref, number=2)
    agent.claim()
    assert order_tasks(ref, Command.RETRY, ["000"], farm.ports) == {}
    assert agent.finish().json == {"status": "success"}
    assert farm.push("settle", ref) == 204
    assert farm.findings(ref) == []


def test_tasks_that_are_not_there_are_named(farm: Farm) -> None:
    with pytest.raises(NotFound, match="007"):
        order_tasks(farm.submit(1), Command.KILL, ["007"], farm.ports)


def test_who_looked_at_a_job_first_is_noted(farm: Farm) -> None:
    ref = farm.submit(1)
    with pytest.raises(InvalidTransition):
        review_job(ref, "ines", farm.ports)
    farm.run(ref)
    farm.deliver()
    before = farm.job(ref)
    job = review_job(ref, "ines", farm.ports)
    assert job == replace(before, reviewed_by="ines", reviewed_at=job.reviewed_at)
    assert review_job(ref, "kai", farm.ports) == job


def test_tasks_are_killed_even_while_the_scheduler_cannot_be_told(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.fail_scheduler(method="DELETE")
    assert order_tasks(ref, Command.KILL, ["000", "001"], farm.ports) == {}
    assert [task.status for task in farm.tasks(ref)] == [T.KILLED, T.KILLED]
    farm.deliver()
    assert farm.job(ref).is_ended
    farm.sweep()
    assert farm.placed(ref) == []


# --- one command after the other -------------------------------------------------------------


def statuses(farm: Farm, ref: JobRef) -> list[TaskStatus]:
    return [task.status for task in farm.tasks(ref)]


def test_two_retries_close_together_are_both_carried_out(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    farm.run(ref, "001", outcome="preempted")
    farm.deliver()
    order(ref, Command.RETRY_FAILED, farm.ports)
    order(ref, Command.RETRY_PREEMPTED, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]
    assert farm.job(ref).orders == ()
    assert farm.findings(ref) == []


def test_what_was_let_go_runs_even_if_a_retry_follows_at_once(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    order(ref, Command.HOLD, farm.ports)
    farm.deliver()
    order(ref, Command.UNHOLD, farm.ports)
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]


def test_what_was_retried_is_held_if_a_hold_follows_at_once(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    farm.deliver()
    order(ref, Command.RETRY_FAILED, farm.ports)
    order(ref, Command.HOLD, farm.ports)
    farm.deliver()
    assert statuses(farm, ref) == [T.HOLDING, T.HOLDING]
    order(ref, Command.UNHOLD, farm.ports)
    farm.deliver()
    assert farm.placed(ref) == ["000-2", "001-2"]
    assert farm.findings(ref) == []


def test_commands_whose_messages_were_lost_are_all_finished_by_the_sweep(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    farm.deliver()
    order(ref, Command.RETRY_FAILED, farm.ports)
    edit(farm, ref, JobEdit(instance_type="bigger"))
    order(ref, Command.HOLD, farm.ports)
    farm.published()
    farm.sweep()
    farm.deliver()
    assert statuses(farm, ref) == [T.HOLDING, T.HOLDING]
    assert farm.push("settle", ref) == 204
    assert farm.findings(ref) == []


def test_a_page_that_is_written_late_learns_all_that_was_said_before(farm: Farm) -> None:
    ref = farm.create(TASKS_PER_PAGE + 1)
    farm.expand(ref, 0, 1)
    order(ref, Command.HOLD, farm.ports)
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert set(statuses(farm, ref)) == {T.HOLDING}


def test_too_many_commands_for_pages_that_are_behind_are_refused_but_a_kill_is_not(
    farm: Farm,
) -> None:
    ref = farm.create(2)
    for number in range(MOST_ORDERS):
        order(ref, (Command.RETRY_FAILED, Command.RETRY)[number % 2], farm.ports)
    with pytest.raises(Conflict, match="on their way"):
        order(ref, Command.HOLD, farm.ports)
    order(ref, Command.KILL, farm.ports)
    farm.expand(ref)
    farm.deliver()
    assert statuses(farm, ref) == [T.KILLED, T.KILLED]
    assert (farm.job(ref).is_ended, farm.job(ref).orders) == (True, ())
    order(ref, Command.RETRY, farm.ports)
    farm.deliver()
    assert statuses(farm, ref) == [T.PENDING, T.PENDING]


def test_what_older_code_was_told_and_has_not_done_is_done(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    farm.deliver()
    told = {"command": "retry_failed", "command_seq": 2, "ordered_seq": 1, "edited_seq": 2}
    farm.document(ref).update(told | {"ended_at": None, "orders": firestore.DELETE_FIELD})
    carry_out(ref, 0, 1, farm.ports)
    assert [task.attempt for task in farm.tasks(ref)] == [2, 2]


def test_what_single_tasks_are_told_comes_after_what_the_job_was_told(farm: Farm) -> None:
    ref = farm.submit(2)
    order(ref, Command.HOLD, farm.ports)
    assert order_tasks(ref, Command.UNHOLD, ["001"], farm.ports) == {}
    farm.deliver()
    assert statuses(farm, ref) == [T.HOLDING, T.PENDING]
    assert farm.placed(ref) == ["001-2"]
    assert farm.findings(ref) == []


PAGES = 3
STATUSES = (T.PENDING, T.PENDING, T.HOLDING, T.FAILED, T.PREEMPTED, T.KILLED, T.SUCCESS)
ORDERS = [
    each
    for each in Command
    if each not in (Command.REVIEWED, Command.EDIT, Command.RELEASE, Command.RETRY_SYNC)
]


def written(farm: Farm) -> JobRef:
    """Return a job of some pages, each with tasks of many kinds, of which some are at the scheduler."""
    ref = farm.create(PAGES * TASKS_PER_PAGE, orchestrator_id=farm.account_id)
    for number in range(PAGES):
        tasks = [
            Task(task_id=f"{number}{i:02}", page=number, command="", frames="", status=status)
            for i, status in enumerate(STATUSES)
        ]
        farm.ports.jobs.add_page(farm.job(ref), number, tasks)
        farm.ports.jobs.place(ref, farm.page(ref, number), [f"{number}00"], NOON)
    return ref


def tasks_of(farm: Farm, ref: JobRef) -> list[Task]:
    """Return the tasks as they would be if all that waits at the scheduler were taken back."""
    found = []
    for number in range(PAGES):
        page = farm.page(ref, number)
        tasks = farm.ports.jobs.tasks(ref, sorted(page.statuses))
        waiting = [
            task.task_id
            for task in tasks
            if task.status is T.PENDING and page.is_placed(task.task_id)
        ]
        assert page.in_flight_count == len(waiting)
        found += [replace(task, attempt=task.attempt + (task.task_id in waiting)) for task in tasks]
    return found


@given(
    st.lists(st.one_of(st.sampled_from(ORDERS), st.integers(0, PAGES - 1)), max_size=10),
    st.permutations(range(PAGES)),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tasks_whose_messages_come_late_end_as_those_whose_come_at_once(
    farm: Farm, steps: list[Command | int], last: Sequence[int]
) -> None:
    late, at_once = written(farm), written(farm)
    for step in steps:
        if isinstance(step, int):
            carry_out(late, step, 1, farm.ports)
            continue
        try:
            order(late, step, farm.ports)
        except InvalidTransition:
            continue
        order(at_once, step, farm.ports)
        carry_out(at_once, 0, PAGES, farm.ports)
    for number in [*last, *reversed(last)]:  # each message comes twice
        carry_out(late, number, 1, farm.ports)
    assert tasks_of(farm, late) == tasks_of(farm, at_once)
    for number in range(PAGES):
        assert farm.page(late, number).counts == farm.page(at_once, number).counts
