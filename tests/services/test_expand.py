"""Expansion: every page and task of a job is written once, however often and in whatever order it is asked for."""

from shared.models.job import Command
from shared.models.task import TaskStatus
from shared.services.control import order
from tests.builders import a_task
from tests.services.farm import Farm

T = TaskStatus


def test_an_expansion_that_was_killed_half_way_is_finished_by_its_repeat(farm: Farm) -> None:
    farm.limit(3)
    ref = farm.create(250)
    tasks = [
        a_task(task_id=f"{i:03}", page=1, command=f"render {i}", frames=str(i))
        for i in range(100, 200)
    ]
    farm.ports.jobs.add_page(farm.job(ref), 1, tasks)
    farm.push("admit")
    farm.run(ref, "100")
    for _ in range(2):
        assert farm.expand(ref) == 204
    farm.deliver()
    found = farm.tasks(ref)
    assert [(task.task_id, task.command, task.frames) for task in found] == [
        (f"{i:03}", f"render {i}", str(i)) for i in range(250)
    ]
    assert found[100].status is T.SUCCESS
    assert [task.page for task in found] == [i // 100 for i in range(250)]
    assert farm.findings(ref) == []


def test_the_parts_of_a_large_job_are_expanded_in_any_order(farm: Farm) -> None:
    farm.limit(0)
    ref = farm.create(1101)
    assert farm.expand(ref, first_page=10, page_count=2) == 204
    assert [page.number for page in farm.ports.jobs.page_summaries(farm.job(ref))] == [10, 11]
    assert farm.expand(ref, first_page=0) == 204
    farm.deliver()
    commands = [task.command for task in farm.tasks(ref)]
    assert commands == [f"render {i}" for i in range(1101)]
    farm.push("settle", ref)
    assert farm.job(ref).counts == {T.PENDING: 1101}


def test_a_job_that_was_killed_while_it_expanded_ends_with_every_task_killed(farm: Farm) -> None:
    ref = farm.create(3)
    order(ref, Command.KILL, farm.ports)
    assert farm.push("command", ref, first_page=0, page_count=10) == 204
    assert farm.expand(ref) == 204
    farm.push("settle", ref)
    assert {task.status for task in farm.tasks(ref)} == {T.KILLED}
    assert farm.job(ref).is_ended
    assert farm.placed(ref) == []
    assert farm.findings(ref) == []


def test_a_job_that_was_held_while_it_expanded_starts_nothing(farm: Farm) -> None:
    ref = farm.create(2)
    order(ref, Command.HOLD, farm.ports)
    assert farm.expand(ref) == 204
    farm.deliver()
    assert {task.status for task in farm.tasks(ref)} == {T.HOLDING}
    assert farm.findings(ref) == []
