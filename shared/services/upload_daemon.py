"""The queue of uploads: what artists' clients leave to a daemon that sees their files.

A job says how far its upload is; the queue only leads daemons to it, one at a time, by a lease that their reports keep
alive. Whatever a daemon says may come twice, late, or from one whose lease has run out.
docs/uploads.md tells who gets what.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import orjson

from shared.core.permissions import Action, check
from shared.core.progress import awaits_upload, with_upload
from shared.errors import InvalidRequest, NotFound
from shared.log import log
from shared.models.account import Principal
from shared.models.job import Job, JobRef, Sync, SyncState, Upload, UploadState
from shared.models.upload import AwaitedFile, HandedOut, QueuedUpload, SentBytes
from shared.ports import Ports
from shared.services.attempts import blob_name, spec_name
from shared.services.inputs import input_list, inputs_name
from shared.services.projects import check_job, visible
from shared.services.uploads import MAX_LOOKED_FOR, held

# Daemons report every 15 s (5 s before version 7), and try a report for up to 11 s.
LEASE = timedelta(seconds=90)
# A refused `finish` comes again for up to 11 s; only then may the next daemon have the upload.
PAUSE = timedelta(seconds=20)
# So often an upload is handed out that then fails or whose files do not arrive, before a person must look at it.
MOST_TRIES = 5
MAX_COMPLAINTS = 20
_MAX_REASON = 1000
_UPLOAD_ID = re.compile(r"[0-9]{1,12}")
# Daemons of old send a whole traceback; what an artist needs stands behind its last error's name.
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception): ", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def files_name(ref: JobRef) -> str:
    """Where it stands which files a daemon shall send for a job, and all else that its agents will need."""
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}/upload.json"


def listed(environment: Mapping[str, str], files: Sequence[AwaitedFile]) -> bytes:
    """Return the content of that object."""
    return orjson.dumps({"environment": environment, "files": [each._asdict() for each in files]})


def enqueue(job: Job, ports: Ports) -> None:
    """Let daemons know of a job's upload; a job that is in the queue already, or needs no upload, stays as it is."""
    if awaits_upload(job) and job.upload.state is not UploadState.FAILED:
        ports.uploads.add(
            QueuedUpload(ref=job.ref, location=job.location, available_at=ports.now())
        )


def withdraw(job: Job, ports: Ports) -> None:
    """Take the upload of a job that has ended out of the queue."""
    if job.upload.state is not UploadState.DONE:
        ports.uploads.remove(job.ref)


def next_upload(principal: Principal, location: str, daemon: str, ports: Ports) -> HandedOut | None:
    """Hand out the upload that waits longest at exactly this location; None when none does.

    `daemon` marks who asks. Raises: Forbidden.
    """
    check(principal, Action.SUBMIT)
    now = ports.now()
    for some in ports.uploads.waiting(principal.account_id, location, now):
        jobs = {job.ref: job for job in ports.jobs.jobs(each.ref for each in some)}
        mine = {job.ref for job in visible(principal, jobs.values(), ports)}
        for each in some:
            job = jobs.get(each.ref)
            if job is None or not awaits_upload(job) or job.upload.state is UploadState.FAILED:
                ports.uploads.remove(each.ref)
            elif job.ref in mine and (found := _hand_out(each, job, daemon, ports)):
                return found
    return None


def _hand_out(queued: QueuedUpload, job: Job, daemon: str, ports: Ports) -> HandedOut | None:
    """Give one upload to a daemon; None when another was faster, or nobody can send it any more."""
    try:
        _, files = _listed(job, ports)
    except NotFound:
        # Refused instead, it would stand before all others of its location for ever.
        _fail(job.ref, "the list of its files is not in the store any more", ports)
        return None
    if not ports.uploads.change(queued, holder=daemon, available_at=ports.now() + LEASE):
        return None

    def begun(upload: Upload) -> Upload:
        return replace(
            upload, state=UploadState.SENDING, sent_bytes=0, tries=upload.tries + 1, reason=""
        )

    _change(job.ref, begun, ports)
    return HandedOut(
        job_id=job.job_id,
        project=job.project,
        files={file.source: file.md5 for file in files},
    )


def note_progress(
    principal: Principal, upload_id: str, daemon: str, sent: SentBytes, ports: Ports
) -> None:
    """Keep the lease of the daemon that reports, and show how far it is; anybody else's report changes nothing.

    Raises: Forbidden; NotFound.
    """
    job = _job(principal, upload_id, ports)
    queued = ports.uploads.find(job.ref)
    if queued is None or queued.holder != daemon or not awaits_upload(job):
        return
    if not ports.uploads.change(queued, holder=daemon, available_at=ports.now() + LEASE):
        return

    def further(upload: Upload) -> Upload:
        return replace(
            upload,
            state=UploadState.SENDING,
            sent_bytes=max(upload.sent_bytes, sent.sent_bytes),
            total_bytes=max(sent.total_bytes, sent.sent_bytes) or upload.total_bytes,
            reason="",
        )

    _change(job.ref, further, ports)


def finish_upload(
    principal: Principal,
    upload_id: str,
    daemon: str,
    md5s: Mapping[str, str],
    ports: Ports,
) -> None:
    """Let a job go on whose files are all in the store, whoever says so; the agents' list gets the MD5s.

    Files that have not arrived send the upload back into the queue, and after some tries its job fails visibly; those
    beyond the first 5,000 only the sync looks for. Raises: Forbidden; NotFound; InvalidRequest naming the files that
    are missing.
    """
    job = _job(principal, upload_id, ports)
    if not awaits_upload(job):
        return
    environment, files = _listed(job, ports)
    inputs, missing = _inputs(job, files, md5s, ports)
    if missing:
        _send_back(job, daemon, _told(missing), ports)
        raise InvalidRequest({f"upload_files.{path}": why for path, why in missing.items()})
    content = orjson.dumps({"environment": environment, "inputs": inputs})
    ports.blobs.write(spec_name(job), content, "application/json")
    ports.blobs.write(inputs_name(job.ref), input_list(inputs), "text/plain")
    file_count = len({each["md5"] for each in inputs})

    def arrived(now: Job) -> Job:
        if not awaits_upload(now):
            return now
        now = replace(now, sync=replace(now.sync, total_count=file_count))
        upload = replace(now.upload, state=UploadState.DONE, reason="")
        return with_upload(now, replace(upload, sent_bytes=upload.total_bytes))

    ports.jobs.change_job(job.ref, arrived)
    ports.uploads.remove(job.ref)
    ports.bus.publish("sync", [{"account_id": job.account_id, "job_id": job.job_id}])


def fail_upload(
    principal: Principal, upload_id: str, daemon: str, reason: str, ports: Ports
) -> None:
    """Show on the job why its daemon gave up, and let the next one try; nobody else's trouble counts.

    After some tries the job fails visibly, and a retry of it queues the upload again. Raises: Forbidden; NotFound.
    """
    job = _job(principal, upload_id, ports)
    _send_back(job, daemon, _plain(reason), ports)


def recover(job: Job, ports: Ports) -> None:
    """Queue what fell out of the queue, and say so on the job when its daemon has fallen silent."""
    if not awaits_upload(job) or job.upload.state is UploadState.FAILED:
        return
    queued = ports.uploads.find(job.ref)
    if queued is None:
        enqueue(job, ports)
    elif queued.available_at > ports.now():
        return
    if job.upload.state is UploadState.SENDING:
        _wait(job.ref, "the last upload daemon fell silent", ports)


def sent_again(job: Job, reason: str) -> Job:
    """Return a job whose files the sync did not find: a daemon shall send them; after some tries a person must look.

    Its list of inputs is written anew then, and its sync begins with the first of them.
    """
    is_over = job.upload.tries >= MOST_TRIES
    upload = replace(
        job.upload,
        state=UploadState.FAILED if is_over else UploadState.WAITING,
        reason=f"{reason}, after {job.upload.tries} tries" if is_over else reason,
    )
    sync = Sync(state=SyncState.PENDING, total_count=job.sync.total_count)
    return with_upload(replace(job, sync=sync), upload)


def _change(ref: JobRef, change: Callable[[Upload], Upload], ports: Ports) -> Job:
    """Change what a job says of its upload, unless it is done or nobody wants it any more."""

    def changed(job: Job) -> Job:
        return with_upload(job, change(job.upload)) if awaits_upload(job) else job

    return ports.jobs.change_job(ref, changed)


def _job(principal: Principal, upload_id: str, ports: Ports) -> Job:
    """Return the job of an upload. Raises: Forbidden; NotFound, also for what is not theirs."""
    check(principal, Action.SUBMIT)
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise NotFound(f"upload {upload_id[:20]}")
    return ports.jobs.job(check_job(principal, upload_id.zfill(5), ports))


def _listed(job: Job, ports: Ports) -> tuple[Mapping[str, str], list[AwaitedFile]]:
    content = orjson.loads(ports.blobs.read(files_name(job.ref)))
    return content["environment"], [AwaitedFile(**each) for each in content["files"]]


def _inputs(
    job: Job, files: Sequence[AwaitedFile], md5s: Mapping[str, str], ports: Ports
) -> tuple[list[dict[str, object]], dict[str, str]]:
    """Return each file as a node shall have it, and why some are not there, by the artist's path."""
    known = {file.source: file.md5 or md5s.get(file.source) for file in files}
    md5s_there = dict.fromkeys(md5 for md5 in known.values() if md5)
    names = {md5: blob_name(job.account_id, md5) for md5 in islice(md5s_there, MAX_LOOKED_FOR)}
    stored = held(names.values(), ports.blobs)
    found: dict[str, dict[str, object]] = {}
    missing: dict[str, str] = {}
    for file in files:
        md5 = known[file.source]
        said = md5s.get(file.source, md5)
        blob = stored.get(names.get(md5, "")) if md5 else None
        if md5 is None:
            missing[file.source] = "no MD5 was reported"
        elif said != md5:
            missing[file.source] = "has changed since the job was submitted"
        elif blob is None and md5 in names:
            missing[file.source] = "has not arrived in the store"
        elif found.get(file.path, {"md5": md5})["md5"] != md5:
            missing[file.source] = f"another file is at {file.path} on the node"
        else:
            found[file.path] = {
                "path": file.path,
                "md5": md5,
                "size": blob.size_bytes if blob else file.size_bytes,
                "executable": file.executable,
            }
        if len(missing) >= MAX_COMPLAINTS:
            break
    return list(found.values()), missing


def _told(missing: Mapping[str, str]) -> str:
    path, why = next(iter(missing.items()))
    more = f" ({len(missing)} such files or more)" if len(missing) > 1 else ""
    return f"{path}: {why}{more}"


def _plain(said: str) -> str:
    """Return what an artist needs of a daemon's words."""
    raised = list(_RAISED.finditer(said)) if said.startswith("Traceback") else []
    last = said[raised[-1].end() :] if raised else said
    return _CONTROL.sub(" ", last).strip()[:_MAX_REASON] or "the daemon did not say why"


def _send_back(job: Job, daemon: str, reason: str, ports: Ports) -> None:
    """Let the next daemon try what this one did not do; only the lease's holder gives it back."""
    queued = ports.uploads.find(job.ref)
    if queued is None or queued.holder != daemon:
        log("INFO", "trouble with an upload passed over", job_id=job.job_id)
    elif job.upload.tries >= MOST_TRIES:
        _fail(job.ref, f"{reason}, after {job.upload.tries} tries", ports)
    elif ports.uploads.change(queued, holder="", available_at=ports.now() + PAUSE):
        _wait(job.ref, reason, ports)


def _wait(ref: JobRef, reason: str, ports: Ports) -> None:
    _change(ref, lambda now: replace(now, state=UploadState.WAITING, reason=reason), ports)


def _fail(ref: JobRef, reason: str, ports: Ports) -> None:
    _change(ref, lambda now: replace(now, state=UploadState.FAILED, reason=reason), ports)
    ports.uploads.remove(ref)
