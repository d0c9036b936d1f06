"""Uploads of the account's own files. Who may: every token of the account that may submit."""

import hashlib
import secrets

from flask import Request, Response

from functions.submit.callers import caller
from shared import wiring
from shared.http import MIB, Reply, read_body, read_json
from shared.schemas.loading import load
from shared.schemas.uploads import (
    MAX_FINISH_BYTES,
    CompletedUploadSchema,
    DaemonSchema,
    FinishedUploadSchema,
    UploadProgressSchema,
    UploadRequestSchema,
)
from shared.services import upload_daemon
from shared.services.uploads import complete_upload, upload_urls

_LIMIT_BYTES = 4 * MIB
_UPLOAD_REQUEST = UploadRequestSchema()
_COMPLETED_UPLOAD = CompletedUploadSchema()
_DAEMON = DaemonSchema()
_UPLOAD_PROGRESS = UploadProgressSchema()
_FINISHED_UPLOAD = FinishedUploadSchema()


def get_upload_urls(request: Request) -> Reply:
    """Give signed URLs for the files that the account does not hold yet.

    Whoever may submit, for a project of theirs or for none; bodies up to 4 MB.
    """
    principal = caller(request)
    return upload_urls(
        principal,
        load(_UPLOAD_REQUEST, read_json(request, _LIMIT_BYTES)),
        wiring.ports(),
        wiring.transfer_store(),
        wiring.part_sizes(),
        new_id=lambda: secrets.token_hex(16),
    )


def complete_multipart(request: Request) -> Reply:
    """Join a file that went up in parts. Whoever may submit, for uploads of the account; bodies up to 4 MB."""
    principal = caller(request)
    done = load(_COMPLETED_UPLOAD, read_json(request, _LIMIT_BYTES))
    complete_upload(principal, done, wiring.ports(), wiring.transfer_store())
    return {}


def next_upload(request: Request) -> Reply:
    """Hand out what waits for a daemon at this location; 204 when nothing does. The clients accept 201 only.

    Whoever may submit, for jobs of their projects; bodies up to 1 MB.
    """
    principal = caller(request)
    location = load(_DAEMON, read_json(request, MIB))
    found = upload_daemon.next_upload(principal, location, _daemon(request), wiring.ports())
    if found is None:
        return Response(status=204)
    told = {"id": found.job_id, "project": found.project, "upload_files": found.files}
    return {"data": told}, 201


def update_upload(request: Request, upload_id: str) -> Reply:
    """Note how far a daemon is. Whoever may submit, for jobs of their projects; bodies up to 1 MB."""
    principal = caller(request)
    sent = load(_UPLOAD_PROGRESS, read_json(request, MIB))
    upload_daemon.note_progress(principal, upload_id, _daemon(request), sent, wiring.ports())
    return {}


def finish_upload(request: Request, upload_id: str) -> Reply:
    """Check that all files of an upload have arrived, and let its job go on.

    Whoever may submit, for jobs of their projects; bodies up to 32 MB.
    """
    principal = caller(request)
    md5s = load(_FINISHED_UPLOAD, read_json(request, MAX_FINISH_BYTES))
    upload_daemon.finish_upload(principal, upload_id, _daemon(request), md5s, wiring.ports())
    return {}


def fail_upload(request: Request, upload_id: str) -> Reply:
    """Show on the job why its upload failed: the body is plain text, though the clients call it JSON.

    Whoever may submit, for jobs of their projects; bodies up to 4 MB.
    """
    principal = caller(request)
    body = read_body(request, _LIMIT_BYTES)
    try:
        reason = body.decode()
    except UnicodeDecodeError:
        reason = body.decode("latin-1")  # as Python's own library sends text, and daemons of old do
    upload_daemon.fail_upload(principal, upload_id, _daemon(request), reason, wiring.ports())
    return {}


def _daemon(request: Request) -> str:
    """Return the mark of a daemon: its user and its program, as all its calls name them."""
    said = f"{caller(request).user_id}\n{request.headers.get('User-Agent', '')}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
