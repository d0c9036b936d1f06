"""Reconcile: settle what the scheduler saw end and no agent reported."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from shared.core.lifecycle import Report, withdraw
from shared.errors import NotFound, StaleAttempt
from shared.log import log
from shared.models.farm import Placement, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import Outcome, Task, TaskStatus
from shared.ports import Ports, Scheduler, TaskChange
from shared.services.ask import ask_to_settle
from shared.services.attempts import end_attempt


def reconcile(placements: Sequence[Placement], scheduler: Scheduler, ports: Ports) -> int:
    """Bring the tasks in line with what the scheduler listed before this call; returns how many attempts were lost.

    An agent reports before its process ends, so an attempt that ended at the scheduler and still runs here will never
    report.
    """
    lost_count = 0
    done: list[str] = []
    for ref, group in _by_job(placements).items():
        tasks = {task.task_id: task for task in ports.jobs.tasks(ref, _task_ids(group))}
        for attempt, placement in group:
            task = tasks.get(attempt.task_id)
            if task is not None:
                lost_count += _settle_ended(task, attempt, placement, ports)
            done.append(placement.attempt_id)
    scheduler.forget(done)
    return lost_count


def _by_job(
    placements: Iterable[Placement],
) -> dict[JobRef, list[tuple[AttemptRef, Placement]]]:
    groups: dict[JobRef, list[tuple[AttemptRef, Placement]]] = defaultdict(list)
    for placement in placements:
        if placement.stage in (Stage.ENDED, Stage.LOST):
            ref = AttemptRef.parse(placement.attempt_id)
            groups[ref.task.job].append((ref, placement))
    return groups


def _task_ids(group: Iterable[tuple[AttemptRef, Placement]]) -> list[str]:
    return [ref.task_id for ref, _ in group]


def _settle_ended(task: Task, attempt: AttemptRef, placement: Placement, ports: Ports) -> int:
    """End or withdraw an attempt that is over at the scheduler; returns 1 when it was running here."""
    live = task.live
    if live is not None and live.number == attempt.number:
        where = (
            f"instance {live.instance} is gone"
            if placement.stage is Stage.LOST
            else "the agent ended without a word"
        )
        said = Report(outcome=Outcome.LOST, at=max(live.alive_at, live.started_at), reason=where)
        try:
            end_attempt(attempt, said, ports)
        except StaleAttempt:
            return 0
        return 1
    if task.status is TaskStatus.PENDING and task.attempt == attempt.number:
        take_back(attempt, ports)
    return 0


def take_back(attempt: AttemptRef, ports: Ports) -> None:
    """Withdraw an attempt that no agent will claim, so that the next one can be placed."""

    def decide(task: Task, _: Job) -> TaskChange | None:
        moved = withdraw(task, attempt.number)
        return TaskChange(task=moved.task, page=moved.page) if moved else None

    try:
        applied = ports.jobs.change_task(attempt.task, decide)
    except NotFound:
        return
    if applied is not None:
        log("WARNING", "attempt withdrawn unclaimed", attempt_id=attempt.attempt_id)
        ask_to_settle(attempt.task.job, ports, is_urgent=applied.open_count == 0)
        ports.bus.publish("admit", [{"account_id": attempt.account_id}])
