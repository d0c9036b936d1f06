"""Commands on a whole job, of which its pages learn when they do."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.lifecycle import Moved, command, follow
from shared.core.orders import edited, obeyed
from shared.core.outstanding import MOST_ORDERS, noted, orders_after, outstanding
from shared.core.progress import settled
from shared.core.recovery import is_on_ladder
from shared.errors import Conflict, InvalidTransition
from shared.models.job import Command, Fence, Job, Order
from shared.models.submission import JobEdit
from shared.models.task import TASKS_PER_PAGE, Attempt, Outcome, PageSummary, Task, TaskStatus
from tests.builders import a_job, a_summary, a_task, an_attempt, at

T = TaskStatus
PAGES = 3


def told(*commands: Command, **named: object) -> Job:
    """Return a job of some pages that was told all of this before any of them knew."""
    job = a_job(task_count=PAGES * TASKS_PER_PAGE, **named)
    for each in commands:
        job = noted(job, each)
    return job


def alternating(count: int) -> list[Command]:
    return [(Command.RETRY_FAILED, Command.RETRY_PREEMPTED)[number % 2] for number in range(count)]


def test_a_page_carries_out_all_that_it_is_behind_of_in_order() -> None:
    job = told(Command.UNHOLD, Command.RETRY_FAILED, Command.HOLD)
    assert [(each.seq, each.command) for each in orders_after(job, 1)] == [
        (2, Command.RETRY_FAILED),
        (3, Command.HOLD),
    ]
    assert orders_after(job, job.command_seq) == ()


@pytest.mark.parametrize(
    ("seqs", "left"),
    [
        ([0, 2, 2], [1, 2]),
        ([1, 2, 2], [2]),
        ([2, 2, 2], []),
        ([2, 2], [1, 2]),  # the third is not written yet, and is behind of all then
    ],
)
def test_what_all_pages_have_carried_out_is_forgotten(seqs: list[int], left: list[int]) -> None:
    job = told(Command.RETRY_FAILED, Command.HOLD)
    pages = [a_summary(number=n, command_seq=seq) for n, seq in enumerate(seqs)]
    assert [each.seq for each in outstanding(job, pages)] == left
    assert settled(job, pages, at(1)).orders == outstanding(job, pages)


def test_a_command_said_again_takes_the_place_of_the_last_and_reaches_every_page() -> None:
    job = told(Command.HOLD, Command.RETRY_ALL, Command.RETRY_ALL)
    assert [each.seq for each in job.orders] == [1, 3]
    for_ladder = noted(noted(job, Command.EDIT), Command.EDIT, is_for_ladder=True)
    assert [each.is_for_ladder for each in for_ladder.orders[-2:]] == [False, True]


@pytest.mark.parametrize("lift", [Command.UNHOLD, Command.RELEASE])
def test_a_hold_that_was_lifted_is_none_for_pages_that_never_knew(lift: Command) -> None:
    job = told(Command.HOLD, Command.RETRY_FAILED, lift, Command.HOLD)
    assert [each.seq for each in job.orders] == [2, 3, 4]
    job = noted(job, lift)
    assert [(each.seq, each.command) for each in job.orders] == [
        (2, Command.RETRY_FAILED),
        (5, lift),
    ]


def test_so_many_are_on_their_way_at_once_and_only_a_kill_or_a_release_comes_on_top() -> None:
    full = told(*alternating(MOST_ORDERS))
    with pytest.raises(Conflict, match=f"{MOST_ORDERS} commands are on their way"):
        obeyed(full, Command.HOLD)
    with pytest.raises(Conflict):
        edited(full, JobEdit(priority=9), None)
    assert obeyed(full, alternating(MOST_ORDERS)[-1]).command_seq == MOST_ORDERS + 1
    killed = obeyed(full, Command.KILL)
    assert (killed.fence, killed.orders[-1].command) == (Fence.KILLED, Command.KILL)
    assert obeyed(killed, Command.KILL) == killed
    released = obeyed(replace(full, scouts_pending=True), Command.RELEASE)
    assert released.orders[-1].command is Command.RELEASE


def test_there_is_room_again_once_the_pages_have_carried_them_out() -> None:
    full = told(*alternating(MOST_ORDERS))
    behind = [a_summary(number=n, command_seq=3) for n in range(PAGES)]
    job = obeyed(settled(full, behind, at(1)), Command.HOLD)
    assert [each.seq for each in job.orders] == list(range(4, MOST_ORDERS + 2))


# --- any commands, and any order in which the pages carry them out --------------------------


@dataclass
class Sheet:
    """A page's tasks as the store keeps them, and the figures that their moves add up to."""

    tasks: list[Task]
    placed: dict[str, int]
    is_written: bool = True
    is_spared: bool = False  # a hold was lifted before it knew of that
    command_seq: int = 0
    ended_count: int = 0
    cost_micros: int = 0

    def apply(self, index: int, moved: Moved | None) -> None:
        if moved is None:
            return
        assert moved.page.before is self.tasks[index].status
        assert (moved.page.after, moved.page.attempt) == (moved.task.status, moved.task.attempt)
        assert moved.ended is None or moved.ended in moved.task.attempts
        self.tasks[index] = moved.task
        self.ended_count += moved.page.ended_count
        self.cost_micros += moved.page.cost_micros

    def taken_back(self) -> tuple[list[Task], int]:
        """The tasks, and how many attempts ended, if all that waits at the scheduler were taken back.

        A hold that is lifted before a page knew of it leaves there what at once it would have taken back.
        """
        waiting = {
            task.task_id
            for task in self.tasks
            if task.status is T.PENDING and self.placed.get(task.task_id) == task.attempt
        }
        tasks = [
            replace(task, attempt=task.attempt + (task.task_id in waiting)) for task in self.tasks
        ]
        return tasks, self.ended_count + len(waiting)

    def summary(self, number: int) -> PageSummary:
        """The page's last task stands for all others of its hundred."""
        counts = Counter(task.status for task in self.tasks)
        counts[self.tasks[-1].status] += TASKS_PER_PAGE - len(self.tasks)
        return a_summary(number=number, counts=counts, command_seq=self.command_seq)


@dataclass(frozen=True)
class Told:
    command: Command
    is_for_ladder: bool = False


@dataclass(frozen=True)
class CarriedOut:
    page: int


@dataclass(frozen=True)
class Written:
    page: int


@dataclass(frozen=True)
class Settled:
    pass


Step = Told | CarriedOut | Written | Settled


@dataclass
class Books:
    """A job whose pages learn late, and beside them the tasks as they are when every page obeys at once."""

    late: list[Sheet]
    at_once: list[Sheet]
    job: Job = field(
        default_factory=lambda: told(scouts_pending=True, standard_micros_per_minute=9)
    )

    def step(self, step: Step) -> None:
        match step:
            case Told():
                self.tell(step)
            case CarriedOut(number):
                self.carry_out(number)
            case Written(number):
                self.late[number].is_written = True
            case Settled():
                written = enumerate(self.late)
                pages = [sheet.summary(number) for number, sheet in written if sheet.is_written]
                self.job = settled(self.job, pages, at(60))

    def tell(self, step: Told) -> None:
        try:
            after = self.told(step)
        except InvalidTransition:
            return
        except Conflict:
            assert len(self.job.orders) >= MOST_ORDERS
            assert step.command is not Command.KILL
            return
        if after.command_seq == self.job.command_seq:
            return
        assert after.command_seq == self.job.command_seq + 1
        for sheet in self.late:
            unknown = {each.command for each in orders_after(self.job, sheet.command_seq)}
            is_lifted = step.command in (Command.UNHOLD, Command.RELEASE)
            sheet.is_spared |= is_lifted and Command.HOLD in unknown
        self.job = after
        for sheet in self.at_once:
            obey_at_once(sheet, step)

    def told(self, step: Told) -> Job:
        if step.is_for_ladder:
            return edited(self.job, JobEdit(standard_after=1 - self.job.standard_after), None)
        if step.command is Command.EDIT:
            return edited(self.job, JobEdit(priority=self.job.priority + 1), None)
        return obeyed(self.job, step.command)

    def carry_out(self, number: int) -> None:
        sheet = self.late[number]
        if not sheet.is_written or sheet.command_seq >= self.job.command_seq:
            return
        orders = orders_after(self.job, sheet.command_seq)
        for index, task in enumerate(sheet.tasks):
            placed = sheet.placed.get(task.task_id)
            sheet.apply(index, follow(task, orders, placed=placed, now=at(30)))
        sheet.command_seq = self.job.command_seq


def obey_at_once(sheet: Sheet, step: Told) -> None:
    for index, task in enumerate(sheet.tasks):
        if step.is_for_ladder and not is_on_ladder(task.attempts):
            continue
        is_placed = sheet.placed.get(task.task_id) == task.attempt
        try:
            moved = command(task, step.command, is_placed=is_placed, now=at(30))
        except InvalidTransition:
            continue
        sheet.apply(index, moved)


def ended_so(*outcomes: Outcome | None) -> tuple[Attempt, ...]:
    return tuple(
        an_attempt(number=number, outcome=outcome)
        for number, outcome in enumerate(outcomes, start=1)
    )


LOST_ONE = ended_so(Outcome.PREEMPTED)
# What a task may be like, and the attempt of it that was last given to the scheduler.
STATES: Sequence[tuple[Task, int | None]] = [
    (a_task(), None),
    (a_task(), 1),
    (a_task(status=T.HOLDING), None),
    (a_task(attempt=2, attempts=LOST_ONE), 1),
    (a_task(attempt=2, attempts=LOST_ONE), 2),
    (a_task(status=T.HOLDING, attempt=2, attempts=LOST_ONE), 1),
    (a_task(status=T.RUNNING, attempts=ended_so(None)), 1),
    (a_task(status=T.RUNNING, attempt=2, attempts=ended_so(Outcome.LOST, None)), 2),
    (a_task(status=T.SUCCESS, attempts=ended_so(Outcome.SUCCESS)), 1),
    (a_task(status=T.DOWNLOADED, attempts=ended_so(Outcome.SUCCESS)), 1),
    (a_task(status=T.FAILED, attempts=ended_so(Outcome.FAILED)), 1),
    (a_task(status=T.PREEMPTED, attempts=LOST_ONE), 1),
    (a_task(status=T.KILLED), None),
    (a_task(status=T.KILLED, attempts=ended_so(Outcome.KILLED)), 1),
]

TOLD = st.sampled_from(
    [Told(each) for each in Command if each is not Command.REVIEWED]
    + [Told(each) for each in Command if each not in (Command.REVIEWED, Command.KILL)] * 2
    + [Told(Command.HOLD), Told(Command.UNHOLD), Told(Command.EDIT, is_for_ladder=True)] * 3
)
NUMBERS = st.integers(0, PAGES - 1)
STEPS: st.SearchStrategy[Step] = st.one_of(
    TOLD, TOLD, st.builds(CarriedOut, NUMBERS), st.builds(Written, NUMBERS), st.builds(Settled)
)
SHEETS = st.lists(
    st.tuples(st.lists(st.sampled_from(STATES), min_size=1, max_size=6), st.booleans()),
    min_size=PAGES,
    max_size=PAGES,
)


def a_sheet(states: Iterable[tuple[Task, int | None]], *, is_written: bool) -> Sheet:
    named = [(replace(task, task_id=f"{n:03}"), placed) for n, (task, placed) in enumerate(states)]
    return Sheet(
        tasks=[task for task, _ in named],
        placed={task.task_id: placed for task, placed in named if placed is not None},
        is_written=is_written,
    )


@given(SHEETS, st.lists(STEPS, min_size=8, max_size=60), st.permutations(range(PAGES)))
@settings(max_examples=400, deadline=None)
def test_pages_that_learn_late_end_as_those_that_obey_each_command_at_once(
    sheets: list[tuple[list[tuple[Task, int | None]], bool]],
    steps: list[Step],
    last: Sequence[int],
) -> None:
    books = Books(
        late=[a_sheet(states, is_written=is_written) for states, is_written in sheets],
        at_once=[a_sheet(states, is_written=True) for states, _ in sheets],
    )
    for step in steps:
        books.step(step)
        assert len(books.job.orders) <= MOST_ORDERS + 2
    for number in [*last, *reversed(last)]:  # each message comes twice
        books.step(Written(number))
        books.step(CarriedOut(number))
    for late, at_once in zip(books.late, books.at_once, strict=True):
        if late.is_spared:
            assert late.taken_back() == at_once.taken_back()
        else:
            assert (late.tasks, late.ended_count) == (at_once.tasks, at_once.ended_count)
        assert late.cost_micros == at_once.cost_micros
        for one, other in zip(late.tasks, at_once.tasks, strict=True):
            assert one.attempt <= other.attempt
    books.step(Settled())
    assert books.job.orders == ()


@given(st.sampled_from(STATES), st.lists(TOLD, max_size=8), st.integers(0, 8))
def test_what_is_carried_out_in_two_parts_ends_as_what_is_carried_out_at_once(
    state: tuple[Task, int | None], commands: list[Told], cut: int
) -> None:
    task, placed = state
    orders = [
        Order(seq=seq, command=each.command, is_for_ladder=each.is_for_ladder)
        for seq, each in enumerate(commands, start=1)
    ]
    whole = follow(task, orders, placed=placed, now=at(30))
    first = follow(task, orders[:cut], placed=placed, now=at(30))
    between = first.task if first else task
    second = follow(between, orders[cut:], placed=placed, now=at(30))
    assert (whole.task if whole else task) == (second.task if second else between)
