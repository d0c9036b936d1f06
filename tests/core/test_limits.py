"""Budgets and licences: what they leave a job, and what is said."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.core.admission import Turn, turns
from shared.core.budgets import Spending, attempt_micros, first_day, renewal
from shared.core.limits import seats_taken
from shared.core.pricing import dollars
from shared.models.account import Budget, Period
from shared.models.job import Job, JobRef
from shared.models.task import PageSummary, TaskStatus, WaitingFor
from tests.builders import NOON, a_job, a_summary, an_account, at
from tests.core.test_admission import waiting

T = TaskStatus
PRICE = 1500
HOUR = 60 * PRICE
DOLLAR = 1_000_000


def ended(costs: int, **counts: int) -> PageSummary:
    """Return a page whose attempts have ended and cost so much in all."""
    by_status = {TaskStatus(name): count for name, count in counts.items()}
    count = sum(counts.values())
    return a_summary(counts=by_status, admitted_count=count, ended_count=count, cost_micros=costs)


def taken(
    pairs: Sequence[tuple[Job, PageSummary]],
    spent: Mapping[Budget, int] | None = None,
    **account: Any,
) -> dict[str, Turn]:
    """Return the turn of each job, by id."""
    pages = {job.ref: [page] for job, page in pairs}
    jobs = [job for job, _ in pairs]
    spending = None if spent is None else Spending(spent, attempt_micros(jobs, pages, NOON), NOON)
    found = turns(an_account(**{"max_instances": 1000} | account), jobs, pages, spending)
    return {turn.job.job_id: turn for turn in found}


def test_what_is_spent_and_what_is_under_way_leave_the_rest_of_a_budget() -> None:
    job = a_job(project="relay", price_micros_per_minute=PRICE)
    budget = Budget(project="relay", limit_micros=10 * HOUR)
    (turn,) = taken([(job, waiting(20, 3, 1))], {budget: 2 * HOUR}).values()
    assert (turn.quota, turn.waiting_for) == (5, WaitingFor.BUDGET)


NO_ROOM = "has no room for another attempt"


@pytest.mark.parametrize(
    ("budget", "note"),
    [
        (Budget(limit_micros=520 * DOLLAR), f"the account's budget {NO_ROOM}"),
        (
            Budget(limit_micros=520 * DOLLAR, period=Period.MONTH),
            f"the account's budget {NO_ROOM}; it renews on 2026-04-01 (UTC)",
        ),
        (
            Budget(limit_micros=520 * DOLLAR, project="relay"),
            f"the budget of project relay, $520.00, {NO_ROOM}",
        ),
        (
            Budget(limit_micros=520 * DOLLAR, project="relay", period=Period.MONTH),
            f"the budget of project relay, $520.00 a month, {NO_ROOM}; it renews on 2026-04-01 (UTC)",
        ),
    ],
    ids=["account", "account-month", "project", "project-month"],
)
@given(
    spent=st.integers(0, 600 * DOLLAR),
    in_flight=st.integers(0, 600),
    price=st.integers(DOLLAR, 9 * DOLLAR),
)
def test_a_budget_is_told_alike_however_much_of_it_is_used_up(
    budget: Budget, note: str, spent: int, in_flight: int, price: int
) -> None:
    job = a_job(project="relay", price_micros_per_minute=price)
    (turn,) = taken([(job, waiting(600, in_flight))], {budget: spent}, max_instances=9000).values()
    assert (turn.waiting_for, turn.note) == (WaitingFor.BUDGET, note)


def test_a_budget_renews_with_the_next_month_in_utc() -> None:
    monthly = Budget(limit_micros=1, period=Period.MONTH)
    last = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert str(renewal(monthly, last)) == "2027-01-01"
    assert str(renewal(monthly, last + timedelta(seconds=1))) == "2027-02-01"
    assert str(renewal(monthly, datetime(2028, 2, 1, tzinfo=UTC))) == "2028-03-01"
    assert renewal(Budget(limit_micros=1), last) is None


def test_a_budget_holds_back_the_jobs_of_its_project_only() -> None:
    relay, otter = a_job(job_id="00001", project="relay"), a_job(job_id="00002", project="otter")
    spent = {Budget(project="relay", limit_micros=DOLLAR): 2 * DOLLAR}
    found = taken([(relay, waiting(5)), (otter, waiting(5))], spent)
    assert [found[each].quota for each in ("00001", "00002")] == [0, 5]


def test_the_budget_of_the_account_is_shared_by_priority() -> None:
    late = a_job(job_id="00001", project="relay")
    urgent = a_job(job_id="00002", project="otter", priority=9)
    found = taken([(late, waiting(5)), (urgent, waiting(5))], {Budget(limit_micros=7 * HOUR): 0})
    assert [found[each].quota for each in ("00001", "00002")] == [2, 5]


def test_nothing_starts_on_a_budget_that_is_lower_than_what_was_spent() -> None:
    (turn,) = taken([(a_job(), waiting(5, 2, 2))], {Budget(limit_micros=1): HOUR}).values()
    assert turn.quota == 0


def test_a_job_takes_a_seat_of_each_of_its_licences() -> None:
    both = a_job(job_id="00001", licences=("arnold", "yeti"), priority=9)
    one = a_job(job_id="00002", licences=("arnold",))
    free = a_job(job_id="00003", priority=1)
    pairs = [(both, waiting(5, 1, 1)), (one, waiting(9)), (free, waiting(4))]
    found = taken(pairs, licences={"arnold": 6, "yeti": 3})
    assert [turn.quota for turn in found.values()] == [2, 3, 4]
    assert (found["00001"].waiting_for, found["00001"].note) == (
        WaitingFor.LICENCE,
        "yeti: all 3 seats are taken",
    )
    assert found["00002"].note == "arnold: all 6 seats are taken"


def test_a_product_that_is_not_named_is_not_limited() -> None:
    (turn,) = taken([(a_job(licences=("redshift",)), waiting(9))], licences={"yeti": 1}).values()
    assert turn.quota == 9


def test_a_single_seat_is_the_only_one() -> None:
    (turn,) = taken([(a_job(licences=("yeti",)), waiting(2))], licences={"yeti": 1}).values()
    assert turn.note == "yeti: the only seat is taken"


@pytest.mark.parametrize(
    ("most", "seats", "hours", "reason"),
    [
        (3, 4, 5, WaitingFor.LIMIT),
        (4, 3, 5, WaitingFor.LICENCE),
        (5, 4, 3, WaitingFor.BUDGET),
        (3, 3, 3, WaitingFor.BUDGET),
        (3, 3, 4, WaitingFor.LICENCE),
    ],
)
def test_of_several_limits_the_one_that_leaves_the_least_is_told(
    most: int, seats: int, hours: int, reason: WaitingFor
) -> None:
    job = a_job(licences=("yeti",), max_instances=most)
    spent = {Budget(limit_micros=hours * HOUR): 0}
    (turn,) = taken([(job, waiting(9))], spent, licences={"yeti": seats}).values()
    assert (turn.quota, turn.waiting_for) == (3, reason)


def forecast(
    *pages: PageSummary, others: Sequence[tuple[Job, PageSummary]] = (), **job: Any
) -> int:
    mine = a_job(**{"price_micros_per_minute": PRICE} | job)
    there = {each.ref: [page] for each, page in others} | {mine.ref: list(pages)}
    return attempt_micros([mine, *(each for each, _ in others)], there, NOON)[mine.ref]


def test_an_attempt_costs_what_those_before_it_did() -> None:
    assert forecast(ended(30 * PRICE, success=2), ended(30 * PRICE, downloaded=1)) == 20 * PRICE


@given(st.integers(1, 10**7), st.integers(1, 10**5), st.integers(1, 5000))
@example(1500, 11, 5)
def test_what_an_attempt_costs_is_right_to_the_micro_dollar(
    price: int, minutes: int, count: int
) -> None:
    found = forecast(ended(minutes * price, success=count), price_micros_per_minute=price)
    assert found == max(-(-minutes * price // count), price)


def test_a_task_that_was_tried_again_costs_all_of_its_attempts() -> None:
    page = a_summary(counts={T.SUCCESS: 2}, admitted_count=5, ended_count=5, cost_micros=50 * PRICE)
    assert forecast(page) == 25 * PRICE


def test_what_was_withdrawn_makes_no_attempt_cheaper() -> None:
    counts = {T.SUCCESS: 2, T.PENDING: 90}
    page = a_summary(counts=counts, admitted_count=92, ended_count=92, cost_micros=20 * PRICE)
    assert forecast(page) == 10 * PRICE


def test_tasks_that_are_retried_after_they_succeeded_cost_an_hour_at_most() -> None:
    counts = {T.SUCCESS: 1, T.PENDING: 99}
    page = a_summary(counts=counts, admitted_count=101, ended_count=101, cost_micros=505 * PRICE)
    assert forecast(page) == HOUR


def test_long_attempts_cost_what_they_cost() -> None:
    assert forecast(ended(900 * PRICE, success=3)) == 300 * PRICE


def test_of_a_job_that_nothing_is_known_of_others_on_such_machines_are_believed() -> None:
    other, elsewhere = a_job(job_id="00007"), a_job(job_id="00008", instance_type="cpu-8-32")
    others = [(other, ended(40 * PRICE, success=4)), (elsewhere, ended(900 * PRICE, success=1))]
    assert forecast(waiting(5), others=others) == 10 * PRICE
    assert forecast(waiting(5), others=others, is_preemptible=False) == HOUR


def test_what_has_been_running_for_longer_than_an_hour_costs_that() -> None:
    assert forecast(waiting(5, 2, 2), started_at=at(-7200)) == 120 * PRICE
    assert forecast(waiting(5, 2, 0), started_at=at(-7200)) == HOUR
    assert forecast(waiting(5, 2, 2), started_at=at(-60)) == HOUR


def test_no_attempt_is_cheaper_than_a_minute() -> None:
    assert forecast(ended(1, failed=1)) == PRICE


def test_a_month_begins_with_its_first_day() -> None:
    monthly = Budget(limit_micros=1, period=Period.MONTH)
    assert str(first_day(monthly, NOON)) == "2026-03-01"
    assert first_day(Budget(limit_micros=1), NOON) is None


@pytest.mark.parametrize(
    ("micros", "said"),
    [(0, "$0.00"), (1500, "$0.0015"), (10_000, "$0.01"), (1_234_567_890, "$1,234.57")],
)
def test_an_amount_is_told_in_cents(micros: int, said: str) -> None:
    assert dollars(micros) == said


PAGES = st.tuples(
    st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**9)
).map(
    lambda each: a_summary(
        counts={T.PENDING: each[0] + max(each[1:3]) - min(each[1:3]), T.RUNNING: min(each[1:3])},
        admitted_count=max(each[1:3]) + 4,
        ended_count=4,
        cost_micros=each[3],
    )
)
JOBS = st.fixed_dictionaries(
    {
        "priority": st.integers(1, 9),
        "max_instances": st.integers(0, 20),
        "project": st.sampled_from(["relay", "otter"]),
        "licences": st.sampled_from([(), ("arnold",), ("yeti",), ("arnold", "yeti")]),
        "price_micros_per_minute": st.integers(0, 10**6),
    }
)
BUDGETS = st.dictionaries(
    st.builds(
        Budget, limit_micros=st.integers(1, 10**10), project=st.sampled_from(["", "relay", "otter"])
    ),
    st.integers(0, 10**10),
    max_size=3,
)
SEATS = st.dictionaries(st.sampled_from(["arnold", "yeti", "karma"]), st.integers(1, 40))


@given(st.lists(st.tuples(PAGES, JOBS), max_size=6), st.integers(0, 9000), SEATS, BUDGETS)
def test_no_limit_is_ever_exceeded(
    said: list[tuple[PageSummary, dict[str, Any]]],
    most: int,
    seats: dict[str, int],
    spent: dict[Budget, int],
) -> None:
    pairs = [(a_job(job_id=f"{i:05}", **fields), page) for i, (page, fields) in enumerate(said)]
    jobs = [job for job, _ in pairs]
    before = {job.ref: page.in_flight_count for job, page in pairs}
    each = attempt_micros(jobs, {job.ref: [page] for job, page in pairs}, NOON)
    found = taken(pairs, spent, max_instances=most, licences=seats)
    quotas = {job.ref: found[job.job_id].quota if job.job_id in found else 0 for job in jobs}
    after = {ref: before[ref] + quotas[ref] for ref in before}

    def is_within(limit: int, weights: Mapping[JobRef, int], base: int = 0) -> bool:
        """Tell whether it is kept; what was over it before got no more."""
        had = base + sum(before[ref] * weight for ref, weight in weights.items())
        has = base + sum(after[ref] * weight for ref, weight in weights.items())
        return has <= max(limit, had)

    assert all(quota >= 0 for quota in quotas.values())
    assert is_within(most, dict.fromkeys(before, 1))
    for job in jobs:
        assert is_within(job.max_instances or 10**6, {job.ref: 1})
    for product, count in seats.items():
        assert is_within(count, {job.ref: 1 for job in jobs if product in job.licences})
    for budget, micros in spent.items():
        covered = [job for job in jobs if budget.project in ("", job.project)]
        assert is_within(budget.limit_micros, {job.ref: each[job.ref] for job in covered}, micros)
    for turn in found.values():
        # What is less than all is as much as the limit told leaves: nobody waits for nothing.
        assert turn.quota <= turn.ready_count
        if turn.waiting_for is WaitingFor.LICENCE and turn.quota < turn.ready_count:
            held = seats_taken(jobs, after)
            assert any(held[name] >= seats[name] for name in turn.job.licences if name in seats)


@given(st.lists(st.tuples(PAGES, JOBS), max_size=6), st.integers(0, 9000), SEATS, BUDGETS)
def test_a_round_that_is_repeated_starts_nothing_more(
    said: list[tuple[PageSummary, dict[str, Any]]],
    most: int,
    seats: dict[str, int],
    spent: dict[Budget, int],
) -> None:
    pairs = [(a_job(job_id=f"{i:05}", **fields), page) for i, (page, fields) in enumerate(said)]
    limits: dict[str, Any] = {"max_instances": most, "licences": seats}
    found = taken(pairs, spent, **limits)
    again = [
        (job, _placed(page, found[job.job_id].quota if job.job_id in found else 0))
        for job, page in pairs
    ]
    assert all(turn.quota == 0 for turn in taken(again, spent, **limits).values())


def _placed(page: PageSummary, count: int) -> PageSummary:
    return a_summary(
        counts=page.counts,
        admitted_count=page.admitted_count + count,
        ended_count=page.ended_count,
        cost_micros=page.cost_micros,
    )
