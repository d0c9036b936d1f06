"""Reconcile: settle what the scheduler saw end and no agent reported."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from shared.core.lifecycle import Report
from shared.errors import StaleAttempt
from shared.models.farm import Placement, Stage
from shared.models.job import AttemptRef, JobRef
from shared.models.task import Outcome, Task, TaskStatus
from shared.ports import Ports, Scheduler
from shared.services.attempts import end_attempt
from shared.services.unclaimed import take_back

# What a scheduler may know of an end that the agent did not live to report.
_CAUSES: Mapping[Outcome, str] = {
    Outcome.OUT_OF_MEMORY: "out of memory, says the scheduler",
    Outcome.PREEMPTED: "preempted, says the scheduler",
}


def reconcile(placements: Sequence[Placement], scheduler: Scheduler, ports: Ports) -> int:
    """Bring the tasks in line with what the scheduler listed before this call; returns how many attempts ended so.

    An agent reports before its process ends, so an attempt that ended at the scheduler and still runs here will never
    report.
    """
    lost_count = 0
    done: list[str] = []
    for ref, group in _by_job(placements).items():
        tasks = {task.task_id: task for task in ports.jobs.tasks(ref, _task_ids(group))}
        for attempt, placement in group:
            task = tasks.get(attempt.task_id)
            if task is not None and _runs(task, attempt):
                if not _lose(task, attempt, placement, ports):
                    continue
                lost_count += 1
            elif task is not None and _waits(task, attempt) and not take_back(attempt, ports):
                continue  # it was claimed this very moment: the next look will tell
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


def _runs(task: Task, attempt: AttemptRef) -> bool:
    return task.live is not None and task.live.number == attempt.number


def _waits(task: Task, attempt: AttemptRef) -> bool:
    return task.status is TaskStatus.PENDING and task.attempt == attempt.number


def _lose(task: Task, attempt: AttemptRef, placement: Placement, ports: Ports) -> bool:
    assert task.live is not None, "only what runs is lost"
    if placement.cause is not None and placement.cause in _CAUSES:
        return lose(task, attempt, _CAUSES[placement.cause], ports, outcome=placement.cause)
    is_gone = placement.stage is Stage.LOST
    reason = (
        f"instance {task.live.instance} is gone" if is_gone else "the agent ended without a word"
    )
    return lose(task, attempt, reason, ports)


def lose(
    task: Task,
    attempt: AttemptRef,
    reason: str,
    ports: Ports,
    *,
    outcome: Outcome = Outcome.LOST,
) -> bool:
    """End a running attempt that will never report, billed to its last sign of life; False when it does not run."""
    live = task.live
    assert live is not None, "only what runs is lost"
    said = Report(outcome=outcome, at=max(live.alive_at, live.started_at), reason=reason)
    try:
        end_attempt(attempt, said, ports)
    except StaleAttempt:
        return False
    return True
