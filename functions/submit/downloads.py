"""Downloads. Who may: every token of the account, for the account's own frames; bodies up to 4 MB."""

import re

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.errors import InvalidRequest, NotFound
from shared.http import MIB, Reply, read_json
from shared.schemas.downloads import DownloadsRequestSchema, DownloadStatusSchema
from shared.schemas.loading import load
from shared.services.downloads import downloads_page, note_status

_LIMIT_BYTES = 4 * MIB
_DEFAULT_TASKS_A_PAGE = 50
_JOB_ID = re.compile(r"[0-9]{1,12}")
_LIMIT = re.compile(r"[0-9]{1,4}")
_DOWNLOADS_REQUEST = DownloadsRequestSchema()
_DOWNLOAD_STATUS = DownloadStatusSchema()


def downloads(request: Request, job_id: str) -> Reply:
    """Give a page of a job's tasks with signed URLs of their frames. The clients accept 201 only."""
    principal = caller(request)
    if not _JOB_ID.fullmatch(job_id):
        raise NotFound(f"job {job_id}")
    said = load(_DOWNLOADS_REQUEST, read_json(request, _LIMIT_BYTES))
    limit = request.args.get("limit", str(_DEFAULT_TASKS_A_PAGE))
    if not _LIMIT.fullmatch(limit):
        raise InvalidRequest({"limit": "must be a number"})
    page = downloads_page(
        principal,
        job_id.zfill(5),
        task_ids=said["tids"],
        limit=int(limit),
        cursor=request.args.get("start_cursor", ""),
        ports=wiring.ports(),
    )
    return page, 201


def download_status(request: Request) -> Reply:
    """Note how a download went."""
    principal = caller(request)
    note_status(principal, load(_DOWNLOAD_STATUS, read_json(request, _LIMIT_BYTES)), wiring.ports())
    return {"body": "success"}
