"""Recall: what waits for machines that cannot be had makes room for other jobs of its account."""

from collections.abc import Mapping, Sequence

from shared.core.admission import Turn
from shared.core.lifecycle import command
from shared.core.recovery import next_step
from shared.core.unserved import is_unserved, own_shape, room
from shared.log import log
from shared.models.job import AttemptRef, Command, Job, JobRef
from shared.models.task import Page, PageSummary, Task, TaskStatus
from shared.ports import PageDecision, Ports, TaskChange
from shared.services.control import cancel_or_leave

# So many attempts a round: the scheduler is told of each, well within the time that a handler has.
TOGETHER = 1000


def make_room(
    unserved: Sequence[Job],
    turns: Sequence[Turn],
    pages: Mapping[JobRef, Sequence[PageSummary]],
    ports: Ports,
) -> None:
    """Take back most of what unserved jobs have waiting, where a limit holds back another job, and ask for a round.

    A few stay (core/unserved.py). Said twice, the second finds nothing that is too much.
    """
    for job in unserved:
        if any(turn.is_limited for turn in turns if turn.job.ref != job.ref):
            count = _recall(job, pages[job.ref], ports)
            if count:
                log("INFO", "attempts recalled", **job.ref._asdict(), attempt_count=count)
                ports.bus.publish("admit", [{"account_id": job.account_id}])


def _recall(job: Job, pages: Sequence[PageSummary], ports: Ports) -> int:
    """Take back what an unserved job has too many of, the last of its tasks first; returns how many."""
    most = min(-room(pages), TOGETHER)
    taken: list[AttemptRef] = []
    for page in reversed(pages):
        if len(taken) < most and page.in_flight_count > page.counts.get(TaskStatus.RUNNING, 0):
            taken += _recall_of_page(job, page.number, most - len(taken), ports)
    cancel_or_leave(job, taken, ports)
    return len(taken)


def _recall_of_page(job: Job, number: int, most: int, ports: Ports) -> list[AttemptRef]:
    """Take back, as an edit does, what waits on one page for the machine that the job asks for."""
    taken: list[AttemptRef] = []

    def decide(page: Page, now: Job, tasks: Sequence[Task]) -> PageDecision:
        taken.clear()
        changes = []
        in_order = sorted(tasks, key=lambda task: int(task.task_id))
        waiting = [each for each in in_order if _waits_for_own_machine(now, page, each)]
        for task in waiting[-most:] if is_unserved(now, ports.now()) else ():
            moved = command(task, Command.EDIT, is_placed=True, now=ports.now())
            assert moved is not None, "what is placed is taken back by an edit"
            changes.append(TaskChange(task=moved.task, page=moved.page))
            taken.append(AttemptRef(job.account_id, job.job_id, task.task_id, task.attempt))
        return PageDecision(changes=changes, command_seq=page.command_seq)

    ports.jobs.change_page(job.ref, number, decide)
    return taken


def _waits_for_own_machine(job: Job, page: Page, task: Task) -> bool:
    if task.status is not TaskStatus.PENDING or not page.is_placed(task.task_id):
        return False
    step = next_step(job, task.attempts, counted_from=task.counted_from)
    return step.shape == own_shape(job)
