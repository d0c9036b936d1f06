"""Which tasks may start next."""

from hypothesis import given
from hypothesis import strategies as st

from shared.core.admission import turns
from shared.models.job import Fence, Job, Sync, SyncState
from shared.models.task import PageSummary, TaskStatus
from tests.builders import a_job, a_summary, an_account, at

T = TaskStatus


def waiting(count: int, in_flight_count: int = 0, running_count: int = 0) -> PageSummary:
    placed_count = in_flight_count - running_count
    counts = {T.PENDING: count + placed_count, T.RUNNING: running_count}
    return a_summary(counts=counts, admitted_count=in_flight_count + 4, ended_count=4)


def quotas(*pairs: tuple[Job, PageSummary], limit: int = 10) -> dict[str, int]:
    pages = {job.ref: [page] for job, page in pairs}
    jobs = [job for job, _ in pairs]
    account = an_account(max_instances=limit)
    return {turn.job.job_id: turn.quota for turn in turns(account, jobs, pages)}


def test_the_more_urgent_job_goes_first_then_the_older() -> None:
    urgent = a_job(job_id="00003", priority=9, created_at=at(3))
    older = a_job(job_id="00002", created_at=at(1))
    younger = a_job(job_id="00001", created_at=at(2))
    pairs = [(younger, waiting(5)), (older, waiting(5)), (urgent, waiting(5))]
    assert list(quotas(*pairs).items()) == [("00003", 5), ("00002", 5), ("00001", 0)]


def test_what_is_in_flight_counts_also_of_jobs_that_may_start_nothing() -> None:
    held = a_job(job_id="00001", fence=Fence.HELD)
    job = a_job(job_id="00002")
    assert quotas((held, waiting(5, 3, 2)), (job, waiting(20, 4, 1))) == {"00002": 3}


def test_a_job_stays_within_its_own_limit() -> None:
    job = a_job(max_instances=4)
    assert quotas((job, waiting(20, 3, 3))) == {"00001": 1}


def test_a_job_whose_inputs_are_not_ready_waits() -> None:
    assert quotas((a_job(sync=Sync(state=SyncState.SYNCING)), waiting(5))) == {}


def test_the_reason_names_the_limit_that_binds() -> None:
    job, page = a_job(max_instances=2), waiting(20, 2, 2)
    (turn,) = turns(an_account(), [job], {job.ref: [page]})
    assert (turn.quota, turn.note) == (0, "the job runs 2 instances at most")


PAGES = st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(0, 30)).map(
    lambda each: waiting(each[0], max(each[1], each[2]), min(each[1], each[2]))
)


@given(
    st.lists(st.tuples(PAGES, st.integers(1, 9), st.integers(0, 20)), max_size=6),
    st.integers(0, 100),
)
def test_no_limit_is_ever_exceeded(
    given_jobs: list[tuple[PageSummary, int, int]], limit: int
) -> None:
    jobs = [
        a_job(job_id=str(index).zfill(5), priority=priority, max_instances=most)
        for index, (_, priority, most) in enumerate(given_jobs)
    ]
    pages = {job.ref: [page] for job, (page, _, _) in zip(jobs, given_jobs, strict=True)}
    result = turns(an_account(max_instances=limit), jobs, pages)
    in_flight = sum(page.in_flight_count for page, _, _ in given_jobs)
    assert sum(turn.quota for turn in result) <= max(limit - in_flight, 0)
    for turn in result:
        (page,) = pages[turn.job.ref]
        assert 0 <= turn.quota <= page.ready_count
        if turn.job.max_instances:
            most = max(turn.job.max_instances, page.in_flight_count)
            assert turn.quota + page.in_flight_count <= most
