"""What a job says of itself while an upload daemon has its files."""

import pytest

from shared.core.progress import awaits_upload, settled, with_upload
from shared.models.job import Fence, JobStatus, Sync, SyncState, Upload, UploadState
from shared.models.task import TaskStatus, WaitingFor
from tests.builders import NOON, a_job, a_summary

U, S = UploadState, JobStatus
MIB = 1024 * 1024
PENDING = Sync(state=SyncState.PENDING)


@pytest.mark.parametrize(
    ("upload", "location", "status", "note"),
    [
        (Upload(state=U.WAITING, file_count=3), "lisbon", S.UPLOAD_PENDING, "at location 'lisbon'"),
        (Upload(state=U.WAITING, file_count=3), "", S.UPLOAD_PENDING, "without a location"),
        (Upload(state=U.WAITING, reason="it fell silent"), "", S.UPLOAD_PENDING, "it fell silent;"),
        (
            Upload(state=U.SENDING, sent_bytes=5 * MIB, total_bytes=9 * MIB + 1),
            "",
            S.UPLOADING,
            "5 of 10 MiB",
        ),
        (Upload(state=U.FAILED, reason="disk full"), "", S.SYNC_FAILED, "failed: disk full"),
    ],
)
def test_a_job_says_how_far_its_upload_is(
    upload: Upload, location: str, status: JobStatus, note: str
) -> None:
    job = with_upload(a_job(sync=PENDING, location=location), upload)
    for each in (job, settled(job, [a_summary()], NOON)):
        assert (each.status, each.waiting_for) == (status, WaitingFor.UPLOAD)
        assert note in each.waiting_note


def test_after_its_upload_a_job_waits_for_its_inputs_and_then_for_its_turn() -> None:
    job = with_upload(a_job(sync=PENDING), Upload(state=U.WAITING))
    job = with_upload(job, Upload(state=U.DONE))
    assert (job.status, job.waiting_for) == (S.SYNC_PENDING, WaitingFor.SYNC)
    lone = with_upload(a_job(), Upload(state=U.WAITING))
    lone = with_upload(lone, Upload(state=U.DONE))
    assert (lone.status, lone.waiting_for) == (S.PENDING, WaitingFor.ADMISSION)


def test_a_killed_job_is_killed_whatever_its_upload_says() -> None:
    killed = a_job(fence=Fence.KILLED, sync=PENDING, upload=Upload(state=U.SENDING))
    assert not awaits_upload(killed)
    job = settled(killed, [a_summary(counts={TaskStatus.KILLED: 1})], NOON)
    assert (job.status, job.waiting_for, job.is_ended) == (S.KILLED, None, True)
    assert with_upload(job, Upload(state=U.WAITING)).status is S.KILLED


@pytest.mark.parametrize("state", UploadState)
def test_files_are_of_use_until_they_are_all_there(state: UploadState) -> None:
    job = a_job(sync=PENDING, upload=Upload(state=state))
    assert awaits_upload(job) is (state is not U.DONE)
