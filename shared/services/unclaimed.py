"""Unclaimed: take back an attempt that no agent may, or will, claim."""

from shared.core.lifecycle import withdraw
from shared.log import log
from shared.models.job import AttemptRef, Job
from shared.models.task import Task
from shared.ports import Ports, TaskChange
from shared.services.ask import ask_to_settle


def take_back(attempt: AttemptRef, ports: Ports, reason: str = "") -> bool:
    """Withdraw an attempt that no agent will claim, so that the next can be placed; False when it is not waiting."""

    def decide(task: Task, _: Job) -> TaskChange | None:
        moved = withdraw(task, attempt.number)
        return TaskChange(task=moved.task, page=moved.page) if moved else None

    applied = ports.jobs.change_task(attempt.task, decide)
    if applied is None:
        return False
    log("WARNING", "attempt withdrawn unclaimed", attempt_id=attempt.attempt_id, reason=reason)
    ask_to_settle(attempt.task.job, ports, is_urgent=applied.open_count == 0)
    ports.bus.publish("admit", [{"account_id": attempt.account_id}])
    return True
