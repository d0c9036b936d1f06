"""The life of a task."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from shared.core.lifecycle import (
    COMMANDS,
    ENDS,
    FENCES,
    LOST_RETRIES,
    UNCLAIMED_ATTEMPTS,
    Moved,
    Report,
    claim,
    command,
    downloaded,
    most_losses,
    report,
    withdraw,
)
from shared.core.recovery import next_step
from shared.errors import AttemptWithdrawn, InvalidTransition, StaleAttempt
from shared.models.job import Command, Fence, Job, Rung
from shared.models.task import ENDED, Outcome, Task, TaskStatus
from shared.schemas.retries import PreemptedPolicy
from tests.builders import a_job, a_task, an_attempt, at

T = TaskStatus
FIRST = "claim-0000000000000001"
SECOND = "claim-0000000000000002"


def running(job: Job | None = None, **named: object) -> Task:
    moved = claim(a_task(**named), job or a_job(), an_attempt(number=1, claim=FIRST))
    assert moved is not None
    return moved.task


def ended(outcome: Outcome, job: Job | None = None, seconds: float = 30) -> Moved:
    said = Report(outcome=outcome, at=at(seconds), claim=FIRST)
    moved = report(running(), job or a_job(), 1, said)
    assert moved is not None
    return moved


def test_every_outcome_and_every_command_has_an_answer() -> None:
    assert set(ENDS) == set(Outcome)
    of_whole_jobs = {Command.RETRY_SYNC, Command.REVIEWED}
    assert set(FENCES) == set(Command) - of_whole_jobs - {Command.EDIT}
    assert {order for _, order in COMMANDS} == set(Command) - of_whole_jobs


def test_a_claim_starts_the_task_once() -> None:
    task = running()
    assert task.status is T.RUNNING
    assert claim(task, a_job(), an_attempt(number=1, claim=FIRST)) is None
    with pytest.raises(StaleAttempt):
        claim(task, a_job(), an_attempt(number=1, claim=SECOND))


@pytest.mark.parametrize("number", [1, 3])
def test_a_claim_of_another_attempt_is_stale(number: int) -> None:
    with pytest.raises(StaleAttempt):
        claim(a_task(attempt=2), a_job(), an_attempt(number=number))


@pytest.mark.parametrize("fence", [Fence.HELD, Fence.KILLED])
def test_one_write_on_the_job_stops_every_claim(fence: Fence) -> None:
    with pytest.raises(AttemptWithdrawn):
        claim(a_task(), a_job(fence=fence), an_attempt())


@pytest.mark.parametrize("status", [T.HOLDING, T.KILLED])
def test_a_task_that_does_not_wait_is_not_claimed(status: TaskStatus) -> None:
    with pytest.raises(AttemptWithdrawn):
        claim(a_task(status=status), a_job(), an_attempt())


def test_success_is_billed_by_started_minutes_at_the_copied_price() -> None:
    moved = ended(Outcome.SUCCESS, seconds=61)
    assert moved.task.status is T.SUCCESS
    assert moved.ended is not None
    assert (moved.ended.billed_minutes, moved.ended.cost_micros) == (2, 3000)
    assert moved.page.cost_micros == 3000


def test_a_report_said_twice_counts_once() -> None:
    moved = ended(Outcome.SUCCESS)
    said = Report(outcome=Outcome.SUCCESS, at=at(99), claim=FIRST)
    assert report(moved.task, a_job(), 1, said) is None


def test_a_report_of_another_process_is_refused() -> None:
    with pytest.raises(StaleAttempt):
        report(running(), a_job(), 1, Report(outcome=Outcome.SUCCESS, at=at(1), claim=SECOND))


def test_a_report_of_an_attempt_never_claimed_is_refused() -> None:
    with pytest.raises(StaleAttempt):
        report(a_task(), a_job(), 1, Report(outcome=Outcome.SUCCESS, at=at(1), claim=FIRST))


def test_preemptions_are_retried_as_often_as_the_job_says() -> None:
    once = ended(Outcome.PREEMPTED, a_job(preempted_retries=1))
    assert (once.task.status, once.task.attempt) == (T.PENDING, 2)
    never = ended(Outcome.PREEMPTED, a_job(preempted_retries=0))
    assert never.task.status is T.PREEMPTED


def test_a_lost_attempt_is_retried_whatever_the_job_says_but_not_for_ever() -> None:
    task = a_task()
    for number in range(1, LOST_RETRIES + 2):
        moved = claim(task, a_job(), an_attempt(number=number, claim=FIRST))
        assert moved is not None
        moved = report(moved.task, a_job(), number, Report(outcome=Outcome.LOST, at=at(1)))
        assert moved is not None
        task = moved.task
    assert task.status is T.FAILED
    assert len(task.attempts) == LOST_RETRIES + 1


def test_a_preemption_counts_apart_from_a_loss() -> None:
    job = a_job(preempted_retries=1)
    moved = ended(Outcome.LOST, job)
    again = claim(moved.task, job, an_attempt(number=2, claim=FIRST))
    assert again is not None
    said = Report(outcome=Outcome.PREEMPTED, at=at(1), claim=FIRST)
    moved_again = report(again.task, job, 2, said)
    assert moved_again is not None
    assert moved_again.task.status is T.PENDING


def after(job: Job, *outcomes: Outcome, is_scout: bool = False, begun: Task | None = None) -> Task:
    """Return a task whose attempts, after those of `begun`, ended so, each on what the ladder said."""
    task = begun or a_task(is_scout=is_scout)
    for outcome in outcomes:
        assert task.status is T.PENDING
        memory_mib = next_step(job, task.attempts, counted_from=task.counted_from).memory_mib
        attempt = an_attempt(number=task.attempt, claim=FIRST, memory_mib=memory_mib)
        claimed = claim(task, job, attempt)
        assert claimed is not None
        moved = report(claimed.task, job, task.attempt, Report(outcome=outcome, at=at(1)))
        assert moved is not None
        task = moved.task
    return task


LARGER = tuple(
    Rung(
        instance_type=f"cpu-{gib}",
        cores=4,
        memory_mib=gib * 1024,
        price_micros_per_minute=3,
        preemptible_micros_per_minute=1,
    )
    for gib in (32, 48, 64)
)
MANY_LARGER = tuple(replace(LARGER[0], memory_mib=gib * 1024) for gib in range(17, 33))
RAN_OUT = Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize("is_scout", [False, True])
def test_what_ran_out_of_memory_is_retried_as_often_as_the_job_says(is_scout: bool) -> None:
    job = a_job(out_of_memory_retries=2, larger=LARGER)
    twice = after(job, RAN_OUT, RAN_OUT, is_scout=is_scout)
    assert (twice.status, twice.attempt) == (T.PENDING, 3)
    for_good = after(job, RAN_OUT, RAN_OUT, RAN_OUT, is_scout=is_scout)
    assert for_good.status is T.FAILED
    assert for_good.attempts[-1].reason == (
        "out of memory; no retry is left (out_of_memory_retries: 2)"
    )
    assert [each.reason for each in for_good.attempts[:-1]] == ["", ""]


def test_what_ran_out_of_memory_fails_where_there_is_no_larger_machine() -> None:
    failed = after(a_job(out_of_memory_retries=9, larger=LARGER[:1]), RAN_OUT, RAN_OUT)
    assert failed.status is T.FAILED
    assert "no instance type larger than" in failed.attempts[-1].reason


def test_each_cause_is_counted_by_itself() -> None:
    job = a_job(preempted_retries=1, out_of_memory_retries=1, larger=LARGER)
    losses = [Outcome.LOST] * LOST_RETRIES
    task = after(job, *losses, Outcome.PREEMPTED, RAN_OUT)
    assert (task.status, task.attempt) == (T.PENDING, LOST_RETRIES + 3)
    for last, status in (
        (Outcome.LOST, T.FAILED),
        (Outcome.PREEMPTED, T.PREEMPTED),
        (RAN_OUT, T.FAILED),
    ):
        assert after(job, *losses, Outcome.PREEMPTED, RAN_OUT, last).status is status


@pytest.mark.parametrize("is_scout", [False, True])
@pytest.mark.parametrize(
    ("cause", "retries"),
    [(Outcome.PREEMPTED, 2), (Outcome.LOST, LOST_RETRIES), (RAN_OUT, 2)],
)
def test_a_retry_by_a_person_brings_a_new_allowance(
    cause: Outcome, retries: int, is_scout: bool
) -> None:
    job = a_job(preempted_retries=2, out_of_memory_retries=2, larger=MANY_LARGER)
    spent = [cause] * (retries + 1)
    over = after(job, *spent, is_scout=is_scout)
    assert over.status in ENDED
    for _ in range(2):
        again = command(over, Command.RETRY, is_placed=False, now=at(0))
        assert again is not None
        assert command(again.task, Command.RETRY, is_placed=False, now=at(0)) is None
        assert after(job, *spent[1:], begun=again.task).status is T.PENDING
        over = after(job, *spent, begun=again.task)
        assert over.status is ENDS[cause]


def test_an_attempt_that_nobody_claimed_counts_for_no_cause() -> None:
    job = a_job(out_of_memory_retries=1, larger=LARGER, standard_after=1)
    withdrawn = withdraw(a_task(), 1)
    assert withdrawn is not None
    assert next_step(job, withdrawn.task.attempts) == next_step(job)


def test_what_runs_out_of_memory_while_its_job_is_held_holds_and_while_it_is_killed_is_killed() -> (
    None
):
    held = a_job(fence=Fence.HELD, larger=LARGER)
    assert ended(RAN_OUT, held).task.status is T.HOLDING
    killed = ended(RAN_OUT, a_job(fence=Fence.KILLED, larger=LARGER)).task
    assert (killed.status, killed.attempts[-1].reason) == (T.KILLED, "")


def test_what_ends_while_its_job_is_killed_is_killed_but_a_frame_that_is_done_is_done() -> None:
    killed = a_job(fence=Fence.KILLED, preempted_retries=5)
    assert ended(Outcome.PREEMPTED, killed).task.status is T.KILLED
    assert ended(Outcome.FAILED, killed).task.status is T.KILLED
    assert ended(Outcome.SUCCESS, killed).task.status is T.SUCCESS


def test_what_is_retried_while_its_job_is_held_holds() -> None:
    held = a_job(fence=Fence.HELD, preempted_retries=1)
    assert ended(Outcome.PREEMPTED, held).task.status is T.HOLDING


def test_killing_a_running_task_ends_and_bills_its_attempt() -> None:
    moved = command(running(), Command.KILL, is_placed=True, now=at(30))
    assert moved is not None and moved.ended is not None
    assert moved.task.status is T.KILLED
    assert moved.ended.billed_minutes == 1
    late = Report(outcome=Outcome.SUCCESS, at=at(40), claim=FIRST)
    assert report(moved.task, a_job(), 1, late) is None


def test_holding_a_placed_task_takes_its_attempt_back() -> None:
    moved = command(a_task(), Command.HOLD, is_placed=True, now=at(0))
    assert moved is not None
    assert (moved.task.status, moved.task.attempt) == (T.HOLDING, 2)
    assert moved.page.ended_count == 1
    with pytest.raises(StaleAttempt):
        claim(moved.task, a_job(), an_attempt(number=1))


def test_a_retry_is_a_new_attempt() -> None:
    failed = ended(Outcome.FAILED).task
    moved = command(failed, Command.RETRY_FAILED, is_placed=True, now=at(99))
    assert moved is not None
    assert (moved.task.status, moved.task.attempt, moved.page.ended_count) == (T.PENDING, 2, 0)


def test_an_edit_takes_back_what_waits_at_the_scheduler_and_nothing_else() -> None:
    moved = command(a_task(), Command.EDIT, is_placed=True, now=at(0))
    assert moved is not None
    assert (moved.task.status, moved.task.attempt, moved.page.ended_count) == (T.PENDING, 2, 1)
    assert command(a_task(), Command.EDIT, is_placed=False, now=at(0)) is None
    with pytest.raises(InvalidTransition):
        command(running(), Command.EDIT, is_placed=True, now=at(0))


@pytest.mark.parametrize("retry", [each for each in Command if each.startswith("retry_")][:3])
def test_a_retry_that_is_said_again_changes_nothing(retry: Command) -> None:
    for task in (a_task(attempt=2), running()):
        assert command(task, retry, is_placed=False, now=at(0)) is None


def test_a_command_that_does_not_apply_is_refused() -> None:
    with pytest.raises(InvalidTransition):
        command(ended(Outcome.SUCCESS).task, Command.HOLD, is_placed=False, now=at(0))


def test_a_withdrawn_attempt_makes_way_for_the_next_until_it_is_hopeless() -> None:
    task = a_task()
    for number in range(1, UNCLAIMED_ATTEMPTS + 1):
        assert task.status is T.PENDING
        moved = withdraw(task, number)
        assert moved is not None
        task = moved.task
    assert task.status is T.FAILED
    again = command(task, Command.RETRY, is_placed=False, now=at(0))
    assert again is not None
    moved = withdraw(again.task, again.task.attempt)
    assert moved is not None
    assert moved.task.status is T.PENDING


@pytest.mark.parametrize("retries", [0, 2])
def test_a_policy_names_no_more_losses_than_another_attempt_may_follow(retries: int) -> None:
    policy = {"max_retries": retries, "standard_after": most_losses(retries)}
    PreemptedPolicy().load(policy)
    with pytest.raises(ValidationError, match="at most 5 more than max_retries"):
        PreemptedPolicy().load(policy | {"standard_after": most_losses(retries) + 1})
    job, task = a_job(preempted_retries=retries), a_task()
    losses = [Outcome.PREEMPTED] * retries + [Outcome.LOST] * LOST_RETRIES
    for number, outcome in enumerate([*losses, Outcome.LOST], start=1):
        assert task.status is T.PENDING
        claimed = claim(task, job, an_attempt(number=number, claim=FIRST))
        assert claimed is not None
        moved = report(claimed.task, job, number, Report(outcome=outcome, at=at(30)))
        assert moved is not None
        task = moved.task
    assert task.status is T.FAILED


def test_what_people_take_back_is_no_sign_of_a_machine_that_never_comes() -> None:
    task = a_task()
    for _ in range(UNCLAIMED_ATTEMPTS):
        moved = command(task, Command.EDIT, is_placed=True, now=at(0))
        assert moved is not None
        task = moved.task
    moved = withdraw(task, task.attempt)
    assert moved is not None
    assert (moved.task.status, moved.task.unclaimed) == (T.PENDING, 1)


def test_a_claim_shows_that_machines_come() -> None:
    assert running(unclaimed=UNCLAIMED_ATTEMPTS - 1).unclaimed == 0


def test_a_claimed_attempt_is_not_withdrawn() -> None:
    assert withdraw(running(), 1) is None


def test_downloaded_is_said_of_the_frames_of_the_last_attempt_only() -> None:
    done = ended(Outcome.SUCCESS).task
    assert downloaded(done, 2) is None
    moved = downloaded(done, 1)
    assert moved is not None and moved.task.status is T.DOWNLOADED
    assert downloaded(moved.task, 1) is None


# --- any order of anything -----------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """The task's present attempt is given to the scheduler."""


@dataclass(frozen=True)
class Claimed:
    number: int
    claim: str


@dataclass(frozen=True)
class Reported:
    number: int
    outcome: Outcome
    claim: str | None


@dataclass(frozen=True)
class Withdrawn:
    number: int


@dataclass(frozen=True)
class Ordered:
    order: Command


@dataclass(frozen=True)
class Fenced:
    """A command on the whole job opens or closes it to claims."""

    fence: Fence


Step = Placed | Claimed | Reported | Withdrawn | Ordered | Fenced

NUMBERS = st.integers(1, 6)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Placed),
    st.builds(Claimed, NUMBERS, st.sampled_from([FIRST, SECOND])),
    st.builds(
        Reported, NUMBERS, st.sampled_from(list(Outcome)), st.sampled_from([FIRST, SECOND, None])
    ),
    st.builds(Ordered, st.sampled_from(list(Command))),
    st.builds(Withdrawn, NUMBERS),
    st.builds(Fenced, st.sampled_from(list(Fence))),
)


class Books:
    """One task, its page's figures and its ledger, kept exactly as the store keeps them."""

    def __init__(self) -> None:
        self.job = a_job(preempted_retries=2, larger=LARGER)
        self.task = a_task()
        self.counts = Counter({T.PENDING: 1})
        self.placed = 0
        self.admitted_count = 0
        self.ended_count = 0
        self.cost_micros = 0
        self.ledger: dict[int, int] = {}

    def step(self, step: Step) -> None:
        match step:
            case Fenced(fence):
                self.job = replace(self.job, fence=fence)
            case Placed():
                if self.task.status is T.PENDING and self.placed != self.task.attempt:
                    self.placed = self.task.attempt
                    self.admitted_count += 1
            case _:
                try:
                    self.apply(self.moved(step))
                except (StaleAttempt, AttemptWithdrawn, InvalidTransition):
                    return

    def moved(self, step: Claimed | Reported | Withdrawn | Ordered) -> Moved | None:
        match step:
            case Claimed(number, claim_id):
                if number != self.placed:
                    return None  # only what was placed has a token
                return claim(self.task, self.job, an_attempt(number=number, claim=claim_id))
            case Reported(number, outcome, claim_id):
                said = Report(outcome=outcome, at=at(30), claim=claim_id)
                return report(self.task, self.job, number, said)
            case Withdrawn(number):
                return withdraw(self.task, number) if number == self.placed else None
            case Ordered(order):
                is_placed = self.placed == self.task.attempt
                return command(self.task, order, is_placed=is_placed, now=at(30))

    def apply(self, moved: Moved | None) -> None:
        if moved is None:
            return
        self.task = moved.task
        self.counts[moved.page.before] -= 1
        self.counts[moved.page.after] += 1
        self.ended_count += moved.page.ended_count
        self.cost_micros += moved.page.cost_micros
        if moved.ended:
            assert moved.ended.number not in self.ledger, "billed twice"
            self.ledger[moved.ended.number] = moved.ended.cost_micros

    def check(self) -> None:
        live = [attempt for attempt in self.task.attempts if attempt.outcome is None]
        assert len(live) == (self.task.status is T.RUNNING)
        assert +self.counts == Counter({self.task.status: 1})
        is_waiting_there = self.task.status is T.PENDING and self.placed == self.task.attempt
        in_flight = int(is_waiting_there) + len(live)
        assert self.admitted_count - self.ended_count == in_flight
        numbers = [attempt.number for attempt in self.task.attempts]
        assert numbers == sorted(set(numbers))
        assert set(self.ledger) == set(numbers) - {attempt.number for attempt in live}
        assert sum(self.ledger.values()) == self.cost_micros
        if self.task.status in ENDED:
            assert not live


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=400, deadline=None)
def test_whatever_comes_in_whatever_order_the_books_stay_right(steps: list[Step]) -> None:
    books = Books()
    for step in steps:
        books.step(step)
        books.check()


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=200, deadline=None)
def test_saying_everything_twice_changes_nothing(steps: list[Step]) -> None:
    once, twice = Books(), Books()
    for step in steps:
        once.step(step)
        twice.step(step)
        if isinstance(step, Claimed | Reported | Withdrawn):
            twice.step(step)
    assert once.task == twice.task
    assert once.ledger == twice.ledger


def test_a_kill_that_nobody_ordered_is_a_machine_that_was_stopped() -> None:
    """A drained node stops its agent, which says `killed`: the frame is rendered elsewhere."""
    moved = ended(Outcome.KILLED)
    assert moved.task.status is T.PENDING
    assert moved.ended is not None
    assert moved.ended.outcome is Outcome.LOST
    assert ended(Outcome.KILLED, a_job(fence=Fence.KILLED)).task.status is T.KILLED
