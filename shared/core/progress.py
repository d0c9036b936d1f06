"""A job's status and sums, from its pages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from shared.core.outstanding import noted, outstanding, unfinished_pages
from shared.models.job import (
    Command,
    Fence,
    Job,
    JobStatus,
    Sync,
    SyncState,
    Upload,
    UploadState,
)
from shared.models.task import ENDED, PageSummary, TaskStatus, WaitingFor

_MIB = 1024 * 1024

_UPLOAD_STATUS: Mapping[UploadState, JobStatus] = {
    UploadState.WAITING: JobStatus.UPLOAD_PENDING,
    UploadState.SENDING: JobStatus.UPLOADING,
    UploadState.FAILED: JobStatus.SYNC_FAILED,
}

_SYNC_STATUS: Mapping[SyncState, JobStatus] = {
    SyncState.PENDING: JobStatus.SYNC_PENDING,
    SyncState.SYNCING: JobStatus.SYNCING,
    SyncState.FAILED: JobStatus.SYNC_FAILED,
}

# Reasons that are gone once the job itself has none of them any more.
_OWN_REASONS = (
    None,
    WaitingFor.UPLOAD,
    WaitingFor.SYNC,
    WaitingFor.SCOUT,
    WaitingFor.HOLD,
)

# The first of these that any task of an ended job has is the job's own status.
_VERDICTS: Sequence[tuple[TaskStatus, JobStatus]] = (
    (TaskStatus.FAILED, JobStatus.FAILED),
    (TaskStatus.KILLED, JobStatus.KILLED),
    (TaskStatus.PREEMPTED, JobStatus.PREEMPTED),
    (TaskStatus.SUCCESS, JobStatus.SUCCESS),
    (TaskStatus.DOWNLOADED, JobStatus.DOWNLOADED),
)


def settled(job: Job, pages: Sequence[PageSummary], now: datetime) -> Job:
    """Return the job with the sums of its pages, and the status that follows from them."""
    counts: Counter[TaskStatus] = Counter()
    for page in pages:
        counts.update(page.counts)
    counts = +counts
    has_ended = sum(counts[status] for status in ENDED) == job.task_count
    if unfinished_pages(job, pages):
        has_ended = False  # a retry may be on its way down to tasks that have ended
    job = replace(
        job,
        orders=outstanding(job, pages),
        counts=dict(counts),
        cost_micros=sum(page.cost_micros for page in pages),
        status=_status(job, counts, has_ended=has_ended),
    )
    if counts[TaskStatus.RUNNING] and job.started_at is None:
        job = replace(job, started_at=now)
    if has_ended:
        return replace(
            job,
            ended_at=job.ended_at or now,
            waiting_for=None,
            waiting_note="",
            waiting_shapes={},
            unserved_since={},
        )
    return _with_reason(replace(job, ended_at=None), counts)


def frees_machines(before: Job, after: Job) -> bool:
    """Tell whether some of the job has ended since then and nothing of it waits for a machine."""
    ended = [sum(job.counts.get(status, 0) for status in ENDED) for job in (before, after)]
    return ended[0] < ended[1] and not after.counts.get(TaskStatus.PENDING)


def _status(job: Job, counts: Counter[TaskStatus], *, has_ended: bool) -> JobStatus:
    if has_ended:
        return next(verdict for status, verdict in _VERDICTS if counts[status])
    if job.fence is Fence.KILLED:
        return JobStatus.KILLED
    if counts[TaskStatus.RUNNING]:
        return JobStatus.RUNNING
    if job.upload.state is not UploadState.DONE:
        return _UPLOAD_STATUS[job.upload.state]
    if job.sync.state is not SyncState.DONE:
        return _SYNC_STATUS[job.sync.state]
    if counts[TaskStatus.PENDING] or counts.total() < job.task_count:
        return JobStatus.PENDING
    return JobStatus.HOLDING


def with_upload(job: Job, upload: Upload) -> Job:
    """Return the job with news of its upload, and the status that follows from them."""
    return _told(replace(job, upload=upload))


def with_sync(job: Job, sync: Sync) -> Job:
    """Return the job with news of its inputs, and the status that follows from them."""
    return _told(replace(job, sync=sync))


def _told(job: Job) -> Job:
    if job.is_ended:
        return job
    counts = Counter(dict(job.counts))
    return _with_reason(replace(job, status=_status(job, counts, has_ended=False)), counts)


def awaits_upload(job: Job) -> bool:
    """Tell whether a daemon's files would still be of use to the job."""
    return _wants_inputs(job) and job.upload.state is not UploadState.DONE


def awaits_sync(job: Job) -> bool:
    """Tell whether inputs that are there must still be made ready, and would be of use to the job."""
    is_under_way = job.sync.state in (SyncState.PENDING, SyncState.SYNCING)
    return _wants_inputs(job) and is_under_way and job.upload.state is UploadState.DONE


def _wants_inputs(job: Job) -> bool:
    return job.fence is not Fence.KILLED and not job.is_ended


def _with_reason(job: Job, counts: Counter[TaskStatus]) -> Job:
    """Give the reason that the job itself knows; those of limits and machines come from admission and autoscale."""
    if job.upload.state is not UploadState.DONE and job.status in _UPLOAD_STATUS.values():
        return replace(job, waiting_for=WaitingFor.UPLOAD, waiting_note=_upload_note(job))
    if job.status in (JobStatus.SYNC_PENDING, JobStatus.SYNCING, JobStatus.SYNC_FAILED):
        note = job.sync.reason or f"{job.sync.done_count} of {job.sync.total_count} files are ready"
        return replace(job, waiting_for=WaitingFor.SYNC, waiting_note=note)
    is_held = job.fence is Fence.HELD
    if job.status is JobStatus.HOLDING and job.scouts_pending and not is_held:
        ready = "the other tasks start when all scouts have succeeded"
        return replace(job, waiting_for=WaitingFor.SCOUT, waiting_note=ready)
    if job.status is JobStatus.HOLDING or (is_held and counts[TaskStatus.PENDING]):
        return replace(job, waiting_for=WaitingFor.HOLD, waiting_note="held by a person")
    if not counts[TaskStatus.PENDING] and counts.total() == job.task_count:
        return replace(job, waiting_for=None, waiting_note="")
    if job.waiting_for in _OWN_REASONS:
        return replace(job, waiting_for=WaitingFor.ADMISSION, waiting_note="its turn is next")
    return job


def _upload_note(job: Job) -> str:
    upload = job.upload
    if upload.state is UploadState.FAILED:
        return f"the upload failed: {upload.reason}"
    if upload.state is UploadState.SENDING:
        sent, total = upload.sent_bytes // _MIB, -(-upload.total_bytes // _MIB)
        return f"an upload daemon sends {upload.file_count} files: {sent} of {total} MiB are sent"
    place = f"at location {job.location!r}" if job.location else "without a location"
    note = f"waits for an upload daemon {place} ({upload.file_count} files)"
    return f"{upload.reason}; {note}" if upload.reason else note


def scouts_have_passed(job: Job, statuses: Mapping[str, TaskStatus]) -> bool:
    """Tell whether every scout has succeeded; `statuses` holds those of the scouts."""
    passed = (TaskStatus.SUCCESS, TaskStatus.DOWNLOADED)
    return all(statuses.get(task_id) in passed for task_id in job.scout_task_ids)


def ordered(job: Job, order: Command, fence: Fence) -> Job:
    """Return the job with a command on the whole of it: one write, which fences every claim at once.

    Raises: Conflict when too many are on their way to its pages.
    """
    status = JobStatus.KILLED if fence is Fence.KILLED and not job.is_ended else job.status
    scouts = job.scouts_pending and order not in (Command.UNHOLD, Command.RELEASE, Command.KILL)
    return replace(
        noted(job, order),
        command=order,
        fence=fence,
        status=status,
        scouts_pending=scouts,
        ended_at=None,
    )
