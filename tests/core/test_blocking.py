"""Which instances a job keeps away from: a bad machine is told from a bad scene."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.blocking import (
    FAILURES,
    MOST_BLOCKED,
    REFUSALS,
    Awaited,
    blocked,
    failures_there,
    is_look_due,
    is_refused,
    most_blocked,
    split_by_use,
    suspects,
)
from shared.core.lifecycle import UNCLAIMED_ATTEMPTS, withdraw
from shared.models.farm import Instance, Placement, Shape, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.money import Ending
from shared.models.task import TaskStatus
from tests.builders import a_job, a_task, at
from tests.core.farm import (
    OTHER_SHAPE,
    SHAPE,
    A,
    B,
    S,
    an_instance,
    an_orchestrator,
    decide,
    drained,
    grown,
    retired,
    wants,
)

T = TaskStatus

names = st.integers(0, 30).map(lambda number: f"i-{number}")
some_names = st.lists(names, unique=True, max_size=30)
endings = st.lists(
    st.builds(lambda name, seconds: Ending(name, at(seconds)), names, st.integers(0, 99)),
    max_size=60,
)


def summed(**counts: int) -> Job:
    return a_job(counts={T(status): count for status, count in counts.items()})


@pytest.mark.parametrize(
    ("before", "after", "is_due"),
    [
        (summed(success=1), summed(success=1, failed=1), True),
        (summed(downloaded=1, failed=2), summed(downloaded=1, failed=3), True),
        (summed(failed=3), summed(failed=3, success=1), True),
        (summed(success=1, failed=3), summed(success=9, failed=3), False),
        (summed(success=1, failed=3), summed(success=1, pending=3), False),
        (summed(failed=3), summed(failed=9), False),
        (summed(), summed(success=1), False),
    ],
)
def test_nobody_looks_unless_something_failed_and_something_succeeds(
    before: Job, after: Job, is_due: bool
) -> None:
    assert is_look_due(before, after) is is_due


def test_nobody_looks_once_the_list_is_full() -> None:
    full = tuple(f"i-{number}" for number in range(MOST_BLOCKED))
    after = replace(summed(success=1, failed=1), blocked_instances=full)
    assert not is_look_due(summed(success=1), after)


@settings(deadline=None)
@given(endings, some_names)
def test_a_suspect_failed_three_times_and_is_not_known_yet(
    failures: list[Ending], known: list[str]
) -> None:
    found = suspects(failures, known)
    counts = failures_there(failures, [f"i-{number}" for number in range(31)])
    assert set(found) == {
        name for name, count in counts.items() if count >= FAILURES and name not in known
    }
    assert [counts[name] for name in found] == sorted(
        (counts[name] for name in found), reverse=True
    )


@settings(deadline=None)
@given(endings)
def test_a_suspect_has_failed_three_times_since_the_moment_it_is_given(
    failures: list[Ending],
) -> None:
    for name, since in suspects(failures, ()).items():
        ended = [each.at for each in failures if each.instance == name]
        assert since in ended
        assert sum(moment >= since for moment in ended) >= FAILURES
        assert sum(moment > since for moment in ended) < FAILURES


@settings(deadline=None)
@given(endings, st.randoms())
def test_the_order_of_the_books_does_not_matter(failures: list[Ending], chance: object) -> None:
    shuffled = list(failures)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(suspects(shuffled, ()).items()) == list(suspects(failures, ()).items())


@settings(deadline=None)
@given(some_names, some_names, some_names, some_names)
def test_never_more_than_a_quarter_is_blocked_and_what_is_blocked_stays_so(
    known: list[str], failing: list[str], ran: list[str], succeeded: list[str]
) -> None:
    found = blocked(known, failing, ran={*ran, *failing}, succeeded=succeeded)
    assert found[: len(known)] == tuple(known)
    assert len(set(found)) == len(found)
    assert set(found) <= {*known, *failing}
    everywhere = {*ran, *failing, *known}
    assert len(found) <= max(len(known), 1, len(everywhere) // 4)
    assert blocked(found, failing, ran={*ran, *failing}, succeeded=succeeded) == found


@settings(deadline=None)
@given(some_names, some_names)
def test_nothing_is_blocked_for_a_job_that_succeeds_nowhere_else(
    failing: list[str], ran: list[str]
) -> None:
    assert blocked((), failing, ran=ran, succeeded=()) == ()
    for name in failing:
        assert blocked((), [name], ran=ran, succeeded=[name]) == ()


def test_the_list_has_an_end_however_many_run_the_job() -> None:
    assert most_blocked([f"i-{number}" for number in range(10_000)]) == MOST_BLOCKED


def test_refusals_alone_never_fail_a_task() -> None:
    job, task = a_job(blocked_instances=("bad",)), a_task()
    for _ in range(UNCLAIMED_ATTEMPTS):
        if is_refused(job, task, "bad"):
            moved = withdraw(task, task.attempt)
            assert moved is not None
            task = moved.task
    assert (task.status, task.attempt) == (T.PENDING, REFUSALS + 1)


def test_only_the_blocked_instance_is_refused() -> None:
    job = a_job(blocked_instances=("bad",))
    assert is_refused(job, a_task(), "bad")
    assert not is_refused(job, a_task(), "good")


# The instances that are there


def waiting(job: JobRef, shape: Shape = SHAPE) -> Placement:
    attempt_id = AttemptRef(*job, "000", 1).attempt_id
    return Placement(attempt_id=attempt_id, shape=shape, stage=Stage.WAITING)


FIRST, SECOND = JobRef("studio", "00001"), JobRef("studio", "00002")
IDLE = an_instance("bad", S.IDLE)


@pytest.mark.parametrize(
    ("instance", "placements", "jobs", "is_useless"),
    [
        (IDLE, [waiting(FIRST)], {FIRST: ["bad"]}, True),
        (IDLE, [waiting(FIRST), waiting(SECOND)], {FIRST: ["bad"], SECOND: ["bad"]}, True),
        (IDLE, [waiting(FIRST), waiting(SECOND)], {FIRST: ["bad"], SECOND: []}, False),
        (IDLE, [waiting(FIRST), waiting(SECOND)], {FIRST: ["bad"]}, False),
        (IDLE, [waiting(FIRST), waiting(SECOND, OTHER_SHAPE)], {FIRST: ["bad"]}, True),
        (IDLE, [waiting(FIRST, OTHER_SHAPE)], {FIRST: ["bad"]}, False),
        (IDLE, [], {FIRST: ["bad"]}, False),
        (IDLE, [waiting(FIRST)], {FIRST: ["another"]}, False),
        (an_instance("bad", S.DRAINING), [waiting(FIRST)], {FIRST: ["bad"]}, True),
        (an_instance("bad", S.BUSY), [waiting(FIRST)], {FIRST: ["bad"]}, False),
    ],
)
def test_an_idle_instance_is_useless_if_all_that_waits_for_its_like_keeps_away_from_it(
    instance: Instance,
    placements: list[Placement],
    jobs: dict[JobRef, list[str]],
    is_useless: bool,
) -> None:
    awaited = {ref: Awaited(1, blocked) for ref, blocked in jobs.items()}
    useful, useless = split_by_use([instance], placements, awaited)
    if is_useless:
        assert (useful, useless) == ([], [replace(instance, is_unused=True, is_blocked=True)])
    else:
        assert (useful, useless) == ([instance], [])


def test_one_task_beside_one_blocked_instance_gets_another_one_at_once() -> None:
    useful, useless = split_by_use([IDLE], [waiting(FIRST)], {FIRST: Awaited(1, ["bad"])})
    decisions = decide(an_orchestrator(), [wants(1)], [*useful, *useless])
    assert (grown(decisions), drained(decisions)) == ({B: 1}, {"bad"})
    assert not grown(decide(an_orchestrator(), [wants(1)], [IDLE]))


def test_a_blocked_instance_is_not_kept_for_the_minimum_of_its_pool() -> None:
    _, useless = split_by_use([IDLE], [waiting(FIRST)], {FIRST: Awaited(1, ["bad"])})
    full = an_orchestrator(min_sizes={A.pool_id: 1}, max_instances=1)
    leaving = decide(full, [wants(1)], useless)
    assert (grown(leaving), drained(leaving)) == ({}, {"bad"})
    out = [replace(each, status=S.DRAINING) for each in useless]
    assert retired(decide(full, [wants(1)], out)) == {"bad"}
    assert grown(decide(full, [wants(1)])) == {A: 1}
    merely_unused = [replace(IDLE, is_unused=True)]
    assert not drained(decide(full, [wants(1)], merely_unused))
