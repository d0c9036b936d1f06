"""Sync: make sure that every input is ready where the job will run, once per job, before any machine is booted for it.

Agents then fetch each file once per zone, not once per task: the zone's cache is shared and single-flight (agent/).
"""

import json
from dataclasses import replace

from shared.models.job import Job, JobRef, Sync, SyncState, UploadState
from shared.ports import Ports
from shared.services.admit import admit
from shared.services.attempts import blob_name, spec_name
from shared.services.settle import settle
from shared.services.upload_daemon import recover
from shared.services.uploads import held

_FILES_TOGETHER = 500


def sync(ref: JobRef, ports: Ports) -> None:
    """Check all inputs of a job, note the progress, and let it start; a repeat begins anew and ends alike."""
    job = ports.jobs.job(ref)
    if job.sync.state in (SyncState.DONE, SyncState.FAILED):
        return
    if job.upload.state is not UploadState.DONE:
        recover(job, ports)  # the end of the upload calls for this once more
        return
    sizes = _inputs(job, ports)
    names = sorted(sizes)
    _note(ref, Sync(state=SyncState.SYNCING, total_count=len(names)), ports)
    done_count = 0
    for start in range(0, len(names), _FILES_TOGETHER):
        some = names[start : start + _FILES_TOGETHER]
        found = held(some, ports.blobs)
        wrong = [
            name for name in some if name not in found or found[name].size_bytes != sizes[name][1]
        ]
        if wrong:
            path = sizes[wrong[0]][0]
            reason = f"{path} is missing or damaged in the store ({len(wrong)} such files or more)"
            _note(
                ref,
                Sync(
                    state=SyncState.FAILED,
                    done_count=done_count,
                    total_count=len(names),
                    reason=reason,
                ),
                ports,
            )
            settle(ref, ports)
            return
        done_count += len(some)
        _note(
            ref, Sync(state=SyncState.SYNCING, done_count=done_count, total_count=len(names)), ports
        )
    _note(ref, Sync(state=SyncState.DONE, done_count=done_count, total_count=done_count), ports)
    settle(ref, ports)
    admit(ref.account_id, ports)


def _inputs(job: Job, ports: Ports) -> dict[str, tuple[str, int]]:
    """Return path and size of each distinct input, by object name."""
    spec = json.loads(ports.blobs.read(spec_name(job)))
    return {
        blob_name(job.account_id, each["md5"]): (each["path"], each["size"])
        for each in spec["inputs"]
    }


def _note(ref: JobRef, progress: Sync, ports: Ports) -> None:
    def changed(job: Job) -> Job:
        return job if job.sync.state is SyncState.DONE else replace(job, sync=progress)

    job = ports.jobs.change_job(ref, changed)
    if progress.state is SyncState.SYNCING and progress.done_count == 0:
        settle(job.ref, ports)
