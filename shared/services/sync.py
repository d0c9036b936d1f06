"""Sync: make sure that every input is ready where the job will run, once per job, before any machine is booted for it.

However many there are, one message looks for some of them, notes how far that is, and asks for the next. Agents then
fetch each file once per zone, not once per task: the zone's cache is shared and single-flight (agent/).
"""

from collections.abc import Callable
from dataclasses import replace

import orjson

from shared.core.progress import awaits_sync, with_sync
from shared.errors import NotFound
from shared.models.job import Job, JobRef, Sync, SyncState, UploadState
from shared.ports import Ports
from shared.services.admit import admit
from shared.services.attempts import blob_name, spec_name
from shared.services.inputs import correct_sizes, note_sizes, read_inputs
from shared.services.settle import settle
from shared.services.upload_daemon import recover, sent_again
from shared.services.uploads import held

# Where a store answers for thirty files a second, these still take half the time that a message has.
FILES_TOGETHER = 2_000

Change = Callable[[Job], Job]


def sync(ref: JobRef, ports: Ports) -> None:
    """Look for the next inputs of a job, from where its progress stands; after the last of them it may start.

    Of several who look for the same files the first to note it goes on, the others leave it to that one: a message
    that came twice ends here. Raises: CloudError, and nothing is noted of these files.
    """
    job = ports.jobs.job(ref)
    if awaits_sync(job):
        moved = _change(job, _looked_for(job, ports), ports)
        if moved is None:
            return
        job = moved
    if job.upload.state is not UploadState.DONE:
        recover(job, ports)  # the end of the upload calls for this once more
    elif awaits_sync(job):
        ports.bus.publish("sync", [{"account_id": ref.account_id, "job_id": ref.job_id}])
    elif job.sync.state in (SyncState.DONE, SyncState.FAILED):
        settle(ref, ports)
        if job.sync.state is SyncState.DONE:
            admit(ref.account_id, ports)


def _change(before: Job, change: Change, ports: Ports) -> Job | None:
    """Note what was found of a job's inputs; None when it is about files that somebody else was through with first."""
    is_first = False

    def changed(now: Job) -> Job:
        nonlocal is_first
        is_as_it_was = (now.sync, now.upload) == (before.sync, before.upload)
        is_first = is_as_it_was and awaits_sync(now)
        return change(now) if is_first else now

    job = ports.jobs.change_job(before.ref, changed)
    return job if is_first else None


def _looked_for(job: Job, ports: Ports) -> Change:
    """Look for the next files, and return what that means for the job."""
    is_daemons = job.upload.file_count > 0
    try:
        progress = _progress(job, ports, is_daemons=is_daemons)
    except NotFound:
        progress = _failed(job, "the list of its inputs is not in the store any more")
    if is_daemons and progress.state is SyncState.FAILED:
        return lambda now: sent_again(now, progress.reason)
    return lambda now: with_sync(now, progress)


def _progress(job: Job, ports: Ports, *, is_daemons: bool) -> Sync:
    """Return how far the sync is with the next files. Of what a daemon sent, the store says how large it is.

    Raises: NotFound when a list is gone.
    """
    before = job.sync
    listed = read_inputs(job.ref, before.done_count, FILES_TOGETHER + 1, ports.blobs)
    some = listed[:FILES_TOGETHER]
    names = {each.md5: blob_name(job.account_id, each.md5) for each in some}
    stored = held(names.values(), ports.blobs)
    missing = [each.md5 for each in some if names[each.md5] not in stored]
    sizes = {
        each.md5: found.size_bytes
        for each in some
        if (found := stored.get(names[each.md5])) and found.size_bytes != each.size_bytes
    }
    wrong = missing if is_daemons else [*missing, *sizes]
    if wrong:
        path = _path_of(job, wrong[0], ports)
        said = f"{path} is missing or damaged in the store ({len(wrong)} such files or more)"
        return _failed(job, said)
    note_sizes(job.ref, before.done_count, sizes, ports.blobs)
    done_count = before.done_count + len(some)
    if len(listed) > len(some):
        return replace(before, state=SyncState.SYNCING, done_count=done_count)
    if is_daemons:
        correct_sizes(job, ports.blobs)
    if not ports.blobs.stat([spec_name(job)]):
        raise NotFound(spec_name(job))
    return Sync(state=SyncState.DONE, done_count=done_count, total_count=done_count)


def _failed(job: Job, reason: str) -> Sync:
    return replace(job.sync, state=SyncState.FAILED, reason=reason)


def _path_of(job: Job, md5: str, ports: Ports) -> str:
    """Return a path of the artist's for a file."""
    spec = orjson.loads(ports.blobs.read(spec_name(job)))
    return next(str(each["path"]) for each in spec["inputs"] if each["md5"] == md5)
