"""A job's status and sums from its pages."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from shared.core.outstanding import missing_pages, unfinished_pages
from shared.core.progress import (
    awaits_sync,
    frees_machines,
    ordered,
    scouts_have_passed,
    settled,
    with_sync,
)
from shared.core.task_waiting import why_task_waits
from shared.models.job import (
    Command,
    Fence,
    JobStatus,
    Sync,
    SyncState,
    Upload,
    UploadState,
)
from shared.models.task import TaskStatus, WaitingFor
from tests.builders import NOON, a_job, a_summary, a_task, at

T = TaskStatus
S = JobStatus


@pytest.mark.parametrize(
    ("before", "after", "is_freed"),
    [
        ({T.RUNNING: 3}, {T.RUNNING: 2, T.SUCCESS: 1}, True),
        ({T.RUNNING: 2, T.PENDING: 1}, {T.RUNNING: 2, T.SUCCESS: 1}, True),
        ({T.RUNNING: 2, T.PENDING: 2}, {T.RUNNING: 2, T.PENDING: 1, T.SUCCESS: 1}, False),
        ({T.RUNNING: 2, T.SUCCESS: 1}, {T.RUNNING: 2, T.SUCCESS: 1}, False),
        ({T.RUNNING: 1, T.HOLDING: 2}, {T.FAILED: 1, T.HOLDING: 2}, True),
    ],
)
def test_machines_get_free_when_some_of_a_job_ended_and_nothing_of_it_waits(
    before: Mapping[TaskStatus, int], after: Mapping[TaskStatus, int], is_freed: bool
) -> None:
    assert frees_machines(a_job(counts=before), a_job(counts=after)) is is_freed


def status_of(counts: Mapping[TaskStatus, int], **named: object) -> JobStatus:
    job = a_job(task_count=sum(counts.values()), **named)
    return settled(job, [a_summary(counts=counts)], at(10)).status


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({T.PENDING: 3}, S.PENDING),
        ({T.PENDING: 2, T.RUNNING: 1}, S.RUNNING),
        ({T.HOLDING: 2, T.PENDING: 1}, S.PENDING),
        ({T.HOLDING: 2, T.SUCCESS: 1}, S.HOLDING),
        ({T.SUCCESS: 3}, S.SUCCESS),
        ({T.SUCCESS: 2, T.DOWNLOADED: 1}, S.SUCCESS),
        ({T.DOWNLOADED: 3}, S.DOWNLOADED),
        ({T.SUCCESS: 2, T.FAILED: 1}, S.FAILED),
        ({T.SUCCESS: 2, T.PREEMPTED: 1}, S.PREEMPTED),
        ({T.KILLED: 2, T.PREEMPTED: 1}, S.KILLED),
        ({T.FAILED: 1, T.KILLED: 1, T.RUNNING: 1}, S.RUNNING),
    ],
)
def test_the_status_follows_from_the_counts(
    counts: Mapping[TaskStatus, int], status: JobStatus
) -> None:
    assert status_of(counts) is status


def test_a_job_is_not_ended_before_all_its_pages_are_there() -> None:
    job = settled(a_job(task_count=150), [a_summary(counts={T.SUCCESS: 100})], at(10))
    assert job.status is S.PENDING
    assert not job.is_ended


def test_a_killed_job_says_so_at_once_and_ends_when_its_tasks_have() -> None:
    killed = a_job(task_count=2, fence=Fence.KILLED)
    job = settled(killed, [a_summary(counts={T.RUNNING: 1, T.KILLED: 1})], at(10))
    assert (job.status, job.is_ended) == (S.KILLED, False)
    job = settled(job, [a_summary(counts={T.KILLED: 2})], at(11))
    assert (job.status, job.is_ended) == (S.KILLED, True)


def test_syncing_shows_until_it_is_done() -> None:
    sync = Sync(state=SyncState.SYNCING, done_count=3, total_count=7)
    job = settled(a_job(sync=sync), [a_summary()], at(1))
    assert (job.status, job.waiting_for) == (S.SYNCING, WaitingFor.SYNC)
    assert job.waiting_note == "3 of 7 files are ready"


def test_a_held_job_says_whether_it_waits_for_scouts_or_for_somebody() -> None:
    held = [a_summary(counts={T.HOLDING: 1})]
    assert settled(a_job(scouts_pending=True), held, NOON).waiting_for is WaitingFor.SCOUT
    assert settled(a_job(), held, NOON).waiting_for is WaitingFor.HOLD


def test_nothing_of_a_held_job_waits_for_anything_else() -> None:
    job = a_job(fence=Fence.HELD, scouts_pending=True, waiting_for=WaitingFor.LIMIT)
    for status in (T.HOLDING, T.PENDING):
        assert settled(job, [a_summary(counts={status: 1})], NOON).waiting_for is WaitingFor.HOLD
        task = a_task(status=status)
        assert why_task_waits(job, task, is_placed=False) is WaitingFor.HOLD


def test_the_reason_goes_when_nothing_waits() -> None:
    job = a_job(waiting_for=WaitingFor.LIMIT, waiting_note="the account is full")
    assert settled(job, [a_summary(counts={T.RUNNING: 1})], NOON).waiting_for is None
    assert settled(job, [a_summary(counts={T.SUCCESS: 1})], NOON).waiting_for is None
    assert settled(job, [a_summary()], NOON).waiting_for is WaitingFor.LIMIT


def test_cost_is_the_sum_of_the_pages_and_the_first_end_is_kept() -> None:
    pages = [
        a_summary(counts={T.SUCCESS: 1}, cost_micros=5),
        a_summary(number=1, counts={T.SUCCESS: 1}, cost_micros=7),
    ]
    job = settled(a_job(task_count=2), pages, at(10))
    assert (job.cost_micros, job.ended_at) == (12, at(10))
    assert settled(job, pages, at(99)).ended_at == at(10)


def test_scouts_have_passed_when_every_one_of_them_has() -> None:
    job = a_job(scout_task_ids=("000", "005"))
    assert scouts_have_passed(job, {"000": T.SUCCESS, "005": T.DOWNLOADED})
    assert not scouts_have_passed(job, {"000": T.SUCCESS, "005": T.RUNNING})
    assert not scouts_have_passed(job, {"000": T.SUCCESS})


def test_the_sweep_sees_what_is_missing_and_what_lags_behind() -> None:
    job = ordered(a_job(task_count=300), Command.KILL, Fence.KILLED)
    pages = [a_summary(number=0, command_seq=1), a_summary(number=2)]
    assert missing_pages(job, pages) == [1]
    assert unfinished_pages(job, pages) == [2]


def test_a_retried_job_has_not_ended_even_while_its_tasks_have() -> None:
    failed = [a_summary(counts={T.FAILED: 1})]
    job = settled(a_job(), failed, at(1))
    assert job.is_ended
    job = ordered(job, Command.RETRY_FAILED, Fence.OPEN)
    assert not job.is_ended
    assert not settled(job, failed, at(2)).is_ended


def test_news_of_the_sync_are_told_at_once() -> None:
    job = a_job(status=JobStatus.SYNC_PENDING, sync=Sync(state=SyncState.PENDING, total_count=7))
    under_way = with_sync(job, Sync(state=SyncState.SYNCING, done_count=3, total_count=7))
    assert (under_way.status, under_way.waiting_for) == (JobStatus.SYNCING, WaitingFor.SYNC)
    assert under_way.waiting_note == "3 of 7 files are ready"
    failed = with_sync(under_way, replace(under_way.sync, state=SyncState.FAILED, reason="gone"))
    assert (failed.status, failed.waiting_note) == (JobStatus.SYNC_FAILED, "gone")
    done = with_sync(under_way, Sync(state=SyncState.DONE, done_count=7, total_count=7))
    assert (done.status, done.waiting_for) == (JobStatus.PENDING, WaitingFor.ADMISSION)


@pytest.mark.parametrize("sync", SyncState)
@pytest.mark.parametrize("upload", UploadState)
@pytest.mark.parametrize("fence", Fence)
def test_a_sync_is_awaited_by_jobs_that_live_and_have_all_files_sent(
    sync: SyncState, upload: UploadState, fence: Fence
) -> None:
    job = a_job(sync=Sync(state=sync), upload=Upload(state=upload), fence=fence)
    is_under_way = sync in (SyncState.PENDING, SyncState.SYNCING)
    is_sent = upload is UploadState.DONE
    assert awaits_sync(job) is (is_under_way and is_sent and fence is not Fence.KILLED)
    assert not awaits_sync(replace(job, ended_at=NOON))
