"""Two things at the same moment: what one decides about has changed by the time that it is written."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from shared import wiring
from shared.core.lifecycle import Report
from shared.errors import Unreachable
from shared.models.job import AttemptRef, Command, Fence, Job, JobRef, TaskRef
from shared.models.task import Outcome, Page, Task, TaskStatus, WaitingFor
from shared.ports import Applied, PageDecision, Ports, TaskChange
from shared.services.attempts import end_attempt
from shared.services.control import order, order_tasks
from shared.services.settle import settle
from shared.stores.jobs import FirestoreJobStore
from tests.services.farm import Farm


class Slow(FirestoreJobStore):
    """A store between whose first read of a task and write of it something else happens."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__(wiring.firestore_client())
        self._meanwhile: Callable[[], object] | None = meanwhile

    def change_task(
        self,
        ref: TaskRef,
        decide: Callable[[Task, Job], TaskChange | None],
        *,
        by_task_alone: bool = False,
    ) -> Applied | None:
        def decided(task: Task, job: Job) -> TaskChange | None:
            change = decide(task, job)
            meanwhile, self._meanwhile = self._meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return change

        return super().change_task(ref, decided, by_task_alone=by_task_alone)


def lost_while(farm: Farm, ref: JobRef, meanwhile: Callable[[], object]) -> None:
    """Lose the first task's attempt while something else happens."""
    ports: Ports = replace(farm.ports, jobs=Slow(meanwhile))
    said = Report(outcome=Outcome.LOST, at=wiring.now())
    end_attempt(AttemptRef(*ref, "000", 1), said, ports)


def ordered(farm: Farm, ref: JobRef, what: Command) -> None:
    """Order something for a job and have all of its pages carry it out."""
    order(ref, what, farm.ports)
    farm.deliver("command")


def test_what_is_lost_while_its_job_is_let_go_does_not_hold_for_ever(farm: Farm) -> None:
    ref = farm.submit()
    assert farm.agent(ref).claim().status_code == 200
    ordered(farm, ref, Command.HOLD)
    lost_while(farm, ref, lambda: ordered(farm, ref, Command.UNHOLD))
    assert (farm.job(ref).fence, farm.task(ref).status) == (Fence.OPEN, TaskStatus.PENDING)
    farm.deliver()
    assert "000-2" in farm.placed(ref)
    assert farm.findings(ref) == []


def test_what_is_lost_while_its_job_is_held_waits_because_it_is_held(farm: Farm) -> None:
    ref = farm.submit()
    assert farm.agent(ref).claim().status_code == 200
    lost_while(farm, ref, lambda: ordered(farm, ref, Command.HOLD))
    farm.deliver()
    assert farm.job(ref).waiting_for is WaitingFor.HOLD
    ordered(farm, ref, Command.UNHOLD)
    farm.deliver()
    assert "000-2" in farm.placed(ref)


class Dying(FirestoreJobStore):
    """A store whose job is summed before its tasks move, and whose process ends as soon as they have."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(wiring.firestore_client())
        self._ports = ports

    def change_page(
        self,
        ref: JobRef,
        number: int,
        decide: Callable[[Page, Job, Sequence[Task]], PageDecision],
    ) -> Page:
        settle(ref, self._ports)
        super().change_page(ref, number, decide)
        raise Unreachable("the process has ended")


def test_a_task_that_is_retried_just_as_its_job_is_summed_is_not_forgotten(farm: Farm) -> None:
    ref = farm.submit()
    farm.run(ref, outcome="failed")
    settle(ref, farm.ports)
    assert farm.job(ref).is_ended
    with pytest.raises(Unreachable):
        order_tasks(ref, Command.RETRY, ["000"], replace(farm.ports, jobs=Dying(farm.ports)))
    farm.published()
    farm.sweep()
    farm.deliver()
    assert "000-2" in farm.placed(ref)
    assert farm.findings(ref) == []


class Overtaken(FirestoreJobStore):
    """A store before whose first change of a page something else happens."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__(wiring.firestore_client())
        self._meanwhile: Callable[[], object] | None = meanwhile

    def change_page(
        self,
        ref: JobRef,
        number: int,
        decide: Callable[[Page, Job, Sequence[Task]], PageDecision],
    ) -> Page:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().change_page(ref, number, decide)


def test_a_job_that_is_killed_while_some_of_its_tasks_are_retried_ends(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, outcome="failed")
    killed = Overtaken(lambda: ordered(farm, ref, Command.KILL))
    refused = order_tasks(ref, Command.RETRY, ["000"], replace(farm.ports, jobs=killed))
    farm.deliver()
    farm.sweep()
    assert [task.status for task in farm.tasks(ref)] == [TaskStatus.FAILED, TaskStatus.KILLED]
    assert farm.job(ref).is_ended
    assert list(refused) == ["000"]
    assert farm.findings(ref) == []
