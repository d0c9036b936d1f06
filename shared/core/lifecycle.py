"""The life of a task: who may move it, from where to where.

Three tables, and nothing else, move a task. CLAIM and REPORTS are what agents and observers say about one attempt,
COMMANDS what people and the server order. docs/states.md is generated from them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from shared.core.pricing import billed_minutes, cost_micros
from shared.core.recovery import is_on_ladder, why_no_larger
from shared.errors import AttemptWithdrawn, InvalidTransition, StaleAttempt
from shared.models.job import Command, Fence, Job, Order
from shared.models.task import ENDED, Attempt, Outcome, PageChange, Task, TaskStatus

T = TaskStatus

# So many attempts in a row may come to nothing before an agent claims one; then something is wrong with the task's
# machine or image.
UNCLAIMED_ATTEMPTS = 20

# An attempt that is lost through nobody's fault is tried again this often, whatever the job's own policy.
LOST_RETRIES = 5


def most_losses(preempted_retries: int) -> int:
    """Return after how many attempts that were preempted or lost another one may follow."""
    return preempted_retries + LOST_RETRIES


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is said about the end of one attempt. `claim` is None when an observer speaks, not the agent."""

    outcome: Outcome
    at: datetime
    claim: str | None = None
    exit_code: int | None = None
    reason: str = ""
    memory_peak_mib: int = 0
    output_count: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A task after a move, and what the move does to its page; `ended` is the attempt that ended by it."""

    task: Task
    page: PageChange
    ended: Attempt | None = None


# How an attempt ended -> the task's status once no retry is left.
ENDS: Mapping[Outcome, TaskStatus] = {
    Outcome.SUCCESS: T.SUCCESS,
    Outcome.FAILED: T.FAILED,
    Outcome.OUT_OF_MEMORY: T.FAILED,
    Outcome.PREEMPTED: T.PREEMPTED,
    Outcome.LOST: T.FAILED,
    Outcome.KILLED: T.KILLED,
}

# (status, command) -> status. A pair that is missing is refused for a single task, and passed over for a whole job.
COMMANDS: Mapping[tuple[TaskStatus, Command], TaskStatus] = {
    (T.PENDING, Command.HOLD): T.HOLDING,
    (T.HOLDING, Command.HOLD): T.HOLDING,
    (T.HOLDING, Command.UNHOLD): T.PENDING,
    (T.PENDING, Command.UNHOLD): T.PENDING,
    (T.RUNNING, Command.UNHOLD): T.RUNNING,
    (T.HOLDING, Command.RELEASE): T.PENDING,
    (T.HOLDING, Command.KILL): T.KILLED,
    (T.PENDING, Command.KILL): T.KILLED,
    (T.RUNNING, Command.KILL): T.KILLED,
    (T.KILLED, Command.KILL): T.KILLED,
    (T.FAILED, Command.RETRY): T.PENDING,
    (T.PREEMPTED, Command.RETRY): T.PENDING,
    (T.KILLED, Command.RETRY): T.PENDING,
    (T.FAILED, Command.RETRY_FAILED): T.PENDING,
    (T.PREEMPTED, Command.RETRY_PREEMPTED): T.PENDING,
    (T.FAILED, Command.RETRY_ALL): T.PENDING,
    (T.PREEMPTED, Command.RETRY_ALL): T.PENDING,
    (T.KILLED, Command.RETRY_ALL): T.PENDING,
    (T.SUCCESS, Command.RETRY_ALL): T.PENDING,
    (T.DOWNLOADED, Command.RETRY_ALL): T.PENDING,
    # What has been retried already: a client that lost the answer says it again.
    **{
        (status, retry): status
        for status in (T.PENDING, T.RUNNING)
        for retry in (
            Command.RETRY,
            Command.RETRY_ALL,
            Command.RETRY_FAILED,
            Command.RETRY_PREEMPTED,
        )
    },
    # What is at the scheduler as another machine, or with another priority, is taken back.
    (T.PENDING, Command.EDIT): T.PENDING,
}

FENCES: Mapping[Command, Fence] = {
    Command.HOLD: Fence.HELD,
    Command.KILL: Fence.KILLED,
    Command.UNHOLD: Fence.OPEN,
    Command.RELEASE: Fence.OPEN,
    Command.RETRY: Fence.OPEN,
    Command.RETRY_ALL: Fence.OPEN,
    Command.RETRY_FAILED: Fence.OPEN,
    Command.RETRY_PREEMPTED: Fence.OPEN,
}


def claim(task: Task, job: Job, attempt: Attempt) -> Moved | None:
    """Let the agent that holds `attempt` run the task; None when this very process has claimed it already.

    Raises: StaleAttempt; AttemptWithdrawn when a command on the job, or on the task, came first.
    """
    if attempt.number != task.attempt:
        raise StaleAttempt(
            f"attempt {attempt.number} of task {task.task_id}: now at {task.attempt}"
        )
    if task.live is not None:
        if task.live.claim == attempt.claim:
            return None
        raise StaleAttempt(f"attempt {attempt.number} of task {task.task_id} runs elsewhere")
    if job.fence is not Fence.OPEN or task.status is not T.PENDING:
        raise AttemptWithdrawn(f"job is {job.fence}, task {task.task_id} is {task.status}")
    return _move(replace(task, unclaimed=0), T.RUNNING, attempts=(*task.attempts, attempt))


def report(task: Task, job: Job, number: int, said: Report) -> Moved | None:
    """End attempt `number` as `said`; None when that has been said before, so that a repeat changes nothing.

    Raises: StaleAttempt when the attempt was never claimed, or another process holds it.
    """
    ended = next((a for a in task.attempts if a.number == number), None)
    if ended is None:
        raise StaleAttempt(f"attempt {number} of task {task.task_id} is not running")
    if said.claim is not None and said.claim != ended.claim:
        raise StaleAttempt(f"attempt {number} of task {task.task_id} belongs to another process")
    if ended.outcome is not None:
        return None
    if said.outcome is Outcome.KILLED and job.fence is not Fence.KILLED:
        # Nobody here ordered it (that would have ended the attempt already): its machine or scheduler was told to stop.
        said = replace(said, outcome=Outcome.LOST, reason=said.reason or "stopped from outside")
    ended = _end(ended, said)
    task = replace(task, attempts=(*task.attempts[:-1], ended))
    if job.fence is not Fence.KILLED and _is_tried_again(task, job, said.outcome):
        after = T.HOLDING if job.fence is Fence.HELD else T.PENDING
        return _move(task, after, attempt=number + 1, ended=ended)
    outcome = said.outcome
    if job.fence is Fence.KILLED and outcome is not Outcome.SUCCESS:
        outcome = Outcome.KILLED
    if outcome is Outcome.OUT_OF_MEMORY:
        reason = f"{ended.reason or 'out of memory'}; {why_no_larger(job, task.attempts, task.counted_from)}"
        ended = replace(ended, reason=reason)
        task = replace(task, attempts=(*task.attempts[:-1], ended))
    return _move(task, ENDS[outcome], ended=ended)


def withdraw(task: Task, number: int) -> Moved | None:
    """Take back an attempt at the scheduler that will never be claimed; None when it is not waiting any more."""
    if task.attempt != number or task.status is not T.PENDING:
        return None
    task = replace(task, unclaimed=task.unclaimed + 1)
    after = T.FAILED if task.unclaimed >= UNCLAIMED_ATTEMPTS else T.PENDING
    return _move(task, after, attempt=number + 1, withdrawn=True)


def command(task: Task, order: Command, *, is_placed: bool, now: datetime) -> Moved | None:
    """Carry out `order`; None when the task is there already.

    `is_placed`: a pending task's attempt is at the scheduler.
    Raises: InvalidTransition when the order does not apply.
    """
    after = COMMANDS.get((task.status, order))
    if after is None:
        raise InvalidTransition(f"task {task.task_id} is {task.status}: {order} does not apply")
    if after is task.status and not (order is Command.EDIT and is_placed):
        return None
    if task.status is T.RUNNING:
        live = task.live
        assert live is not None, "a running task has a live attempt"
        ended = _end(live, Report(outcome=Outcome.KILLED, at=now, reason="killed by command"))
        return _move(replace(task, attempts=(*task.attempts[:-1], ended)), after, ended=ended)
    if task.status is T.PENDING and is_placed:
        return _move(task, after, attempt=task.attempt + 1, withdrawn=True)
    if task.status in ENDED:
        number = task.attempt + 1
        return _move(replace(task, unclaimed=0, counted_from=number), after, attempt=number)
    return _move(task, after)


def follow(
    task: Task, orders: Iterable[Order], *, placed: int | None, now: datetime
) -> Moved | None:
    """Carry out one command on the whole job after the other; None when that leaves the task as it is.

    One that does not apply is passed over. `placed` is the attempt that was last given to the scheduler.
    """
    after: Moved | None = None
    for order in orders:
        present = after.task if after else task
        if order.is_for_ladder and not is_on_ladder(present.attempts):
            continue
        try:
            is_placed = placed == present.attempt
            moved = command(present, order.command, is_placed=is_placed, now=now)
        except InvalidTransition:
            continue
        after = _joined(after, moved) if after and moved else moved or after
    return after if after and after.task != task else None


def _joined(first: Moved, then: Moved) -> Moved:
    """Return two moves as one; at most one attempt ends by them: the first leaves none that lives."""
    page = replace(
        then.page,
        before=first.page.before,
        ended_count=first.page.ended_count + then.page.ended_count,
        cost_micros=first.page.cost_micros + then.page.cost_micros,
    )
    return Moved(task=then.task, page=page, ended=first.ended or then.ended)


def downloaded(task: Task, number: int) -> Moved | None:
    """Note that the frames of a successful attempt arrived; None when they are not the current ones, or it is known."""
    if task.status is not T.SUCCESS or not task.attempts or task.attempts[-1].number != number:
        return None
    return _move(task, T.DOWNLOADED)


def _is_tried_again(task: Task, job: Job, outcome: Outcome) -> bool:
    if outcome is Outcome.PREEMPTED:
        return task.count(Outcome.PREEMPTED) <= job.preempted_retries
    if outcome is Outcome.OUT_OF_MEMORY:
        return not why_no_larger(job, task.attempts, task.counted_from)
    return outcome is Outcome.LOST and task.count(Outcome.LOST) <= LOST_RETRIES


def _end(attempt: Attempt, said: Report) -> Attempt:
    minutes = billed_minutes(attempt.started_at, said.at)
    return replace(
        attempt,
        ended_at=said.at,
        outcome=said.outcome,
        exit_code=said.exit_code,
        reason=said.reason,
        memory_peak_mib=max(attempt.memory_peak_mib, said.memory_peak_mib),
        billed_minutes=minutes,
        cost_micros=cost_micros(minutes, attempt.price_micros_per_minute),
        output_count=said.output_count,
        output_bytes=said.output_bytes,
    )


def _move(
    task: Task,
    after: TaskStatus,
    *,
    attempt: int | None = None,
    attempts: tuple[Attempt, ...] | None = None,
    ended: Attempt | None = None,
    withdrawn: bool = False,
) -> Moved:
    moved = replace(
        task,
        status=after,
        attempt=task.attempt if attempt is None else attempt,
        attempts=task.attempts if attempts is None else attempts,
    )
    change = PageChange(
        before=task.status,
        after=after,
        attempt=moved.attempt,
        ended_count=int(ended is not None or withdrawn),
        cost_micros=ended.cost_micros if ended else 0,
    )
    return Moved(task=moved, page=change, ended=ended)
