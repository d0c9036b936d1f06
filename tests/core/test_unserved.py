"""Jobs for which no machine can be had: what they say, and how many places they keep."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.admission import turns
from shared.core.task_waiting import why_task_waits
from shared.core.unserved import PATIENCE, PROBE_COUNT, explained, is_unserved, own_shape, room
from shared.models.farm import Shape
from shared.models.job import Job
from shared.models.task import UNSERVED, PageSummary, WaitingFor
from tests.builders import NOON, a_job, a_task, an_account, at
from tests.core.test_admission import PAGES, waiting

W = WaitingFor
OWN = own_shape(a_job())
LATER = NOON + PATIENCE


def unserved(reason: WaitingFor = W.STOCK_OUT, **fields: Any) -> Job:
    """Return a job that no machine can be had for since noon."""
    return explained(a_job(**fields), {OWN: reason}, {}, NOON)


# --- since when -----------------------------------------------------------------------------


@pytest.mark.parametrize("reason", sorted(UNSERVED))
def test_a_job_is_unserved_once_no_machine_could_be_had_for_long(reason: WaitingFor) -> None:
    job = unserved(reason)
    assert not is_unserved(job, LATER - timedelta(seconds=1))
    assert is_unserved(job, LATER)
    assert is_unserved(explained(job, {OWN: W.ZONE_OFF}, {}, LATER), LATER)


def test_a_machine_that_boots_changes_nothing_until_an_attempt_starts_on_it() -> None:
    job = unserved()
    booting = explained(job, {OWN: W.BOOT}, {OWN: at(-9)}, at(60))
    assert is_unserved(booting, LATER)
    assert is_unserved(explained(booting, {OWN: W.STOCK_OUT}, {}, at(90)), LATER)
    started = explained(booting, {OWN: W.BOOT}, {OWN: at(80)}, at(90))
    assert (started.unserved_since, started.waiting_shapes) == ({}, {OWN.name: W.BOOT})
    assert explained(job, {OWN: W.SCHEDULER}, {}, at(90)).unserved_since == {}


def test_a_machine_that_merely_boots_makes_nobody_unserved() -> None:
    assert explained(a_job(), {OWN: W.BOOT}, {}, NOON).unserved_since == {}


def test_a_job_is_unserved_for_what_it_asks_for_itself() -> None:
    larger = Shape("cpu-8-32", True)
    job = explained(a_job(), {OWN: W.BOOT, larger: W.STOCK_OUT}, {}, NOON)
    assert not is_unserved(job, LATER)
    assert not is_unserved(replace(unserved(), instance_type="cpu-8-32"), LATER)


# --- how many places it keeps ---------------------------------------------------------------


def quotas(job: Job, page: PageSummary, other: PageSummary) -> list[int]:
    """Return how many start of an unserved job, and of another one after it."""
    second = a_job(job_id="00002", created_at=at(1))
    pages = {job.ref: [page], second.ref: [other]}
    found = turns(an_account(max_instances=100), [job, second], pages, unserved={job.ref})
    by_id = {turn.job.job_id: turn.quota for turn in found}
    return [by_id.get(each, 0) for each in ("00001", "00002")]


def test_no_more_of_it_wait_than_run_but_a_few() -> None:
    assert quotas(unserved(), waiting(500), waiting(500)) == [PROBE_COUNT, 100 - PROBE_COUNT]
    assert quotas(unserved(), waiting(500, PROBE_COUNT), waiting(500)) == [0, 96]
    assert quotas(unserved(), waiting(500, 23, 20), waiting(0)) == [17, 0]
    assert quotas(unserved(), waiting(500, 60), waiting(500)) == [0, 40]


def test_what_holds_it_back_is_told_as_its_own_reason() -> None:
    job = unserved(W.QUOTA)
    (turn,) = turns(an_account(), [job], {job.ref: [waiting(50, 6, 2)]}, unserved={job.ref})
    assert (turn.quota, turn.waiting_for, turn.is_limited) == (0, W.QUOTA, False)
    told = replace(job, waiting_for=W.QUOTA, waiting_note="the quota of 2 is used up")
    (turn,) = turns(an_account(), [told], {job.ref: [waiting(50, 6, 2)]}, unserved={job.ref})
    assert turn.note == "the quota of 2 is used up"


def test_a_limit_that_leaves_it_less_than_its_probes_is_told() -> None:
    job = unserved()
    (turn,) = turns(
        an_account(max_instances=0), [job], {job.ref: [waiting(50)]}, unserved={job.ref}
    )
    assert (turn.quota, turn.waiting_for) == (0, W.LIMIT)


@given(PAGES, PAGES, st.integers(0, 60))
def test_it_never_gets_more_than_without_that_and_the_others_never_less(
    page: PageSummary, other: PageSummary, most: int
) -> None:
    job, second = a_job(priority=9), a_job(job_id="00002")
    pages = {job.ref: [page], second.ref: [other]}
    account = an_account(max_instances=most)
    before = {turn.job.ref: turn.quota for turn in turns(account, [job, second], pages)}
    found = turns(account, [job, second], pages, unserved={job.ref})
    after = {turn.job.ref: turn.quota for turn in found}
    assert after.get(job.ref, 0) == min(before.get(job.ref, 0), max(room([page]), 0))
    assert after.get(second.ref, 0) >= before.get(second.ref, 0)
    in_flight = page.in_flight_count + other.in_flight_count
    assert sum(after.values()) <= max(most - in_flight, 0)


# --- what is told while it is not for long --------------------------------------------------


def reason_of(job: Job, page: PageSummary) -> WaitingFor:
    (turn,) = turns(an_account(), [job], {job.ref: [page]})
    return turn.waiting_for


def test_no_limit_is_told_while_nothing_of_a_job_runs_and_no_machine_can_be_had() -> None:
    assert reason_of(unserved(), waiting(90, 10)) is W.STOCK_OUT
    assert reason_of(unserved(), waiting(90, 10, 1)) is W.LIMIT
    assert reason_of(unserved(W.BOOT), waiting(90, 10)) is W.LIMIT
    assert reason_of(a_job(), waiting(90, 10)) is W.LIMIT
    larger = Shape("cpu-8-32", True)
    both = explained(a_job(), {OWN: W.STOCK_OUT, larger: W.BOOT}, {}, NOON)
    assert reason_of(both, waiting(90, 10)) is W.LIMIT


@pytest.mark.parametrize("said", [W.LIMIT, W.BUDGET, W.LICENCE, W.STOCK_OUT, None])
def test_a_task_that_is_placed_waits_for_what_its_shape_waits_for(said: WaitingFor | None) -> None:
    job = unserved(waiting_for=said)
    assert why_task_waits(job, a_task(), is_placed=True) is W.STOCK_OUT
    unknown = a_job(waiting_for=W.LIMIT)
    assert why_task_waits(unknown, a_task(), is_placed=True) is W.SCHEDULER


@pytest.mark.parametrize(
    ("said", "told"),
    [(W.LIMIT, W.LIMIT), (W.STOCK_OUT, W.STOCK_OUT), (W.BOOT, W.ADMISSION), (None, W.ADMISSION)],
)
def test_a_task_that_is_not_placed_waits_for_what_holds_back_its_job(
    said: WaitingFor | None, told: WaitingFor
) -> None:
    assert why_task_waits(unserved(waiting_for=said), a_task(), is_placed=False) is told
