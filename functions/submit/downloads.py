"""Downloads. Who may: every token of the account, for frames of its own projects; bodies up to 4 MB."""

import re

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.errors import InvalidRequest, NotFound
from shared.http import MIB, Reply, read_body, read_json
from shared.schemas.downloads import DownloadsRequestSchema, DownloadStatusSchema
from shared.schemas.loading import load
from shared.services.download_daemon import next_downloads, note_status
from shared.services.downloads import downloads_page, job_downloads

_LIMIT_BYTES = 4 * MIB
_DEFAULT_TASKS_A_PAGE = 50
_JOB_ID = re.compile(r"[0-9]{1,12}")
_TASK_ID = re.compile(r"[0-9]{1,9}")
_LIMIT = re.compile(r"[0-9]{1,4}")
_LONGEST_LOCATION = 200
_DOWNLOADS_REQUEST = DownloadsRequestSchema()
_DOWNLOAD_STATUS = DownloadStatusSchema()


def downloads(request: Request, job_id: str) -> Reply:
    """Give a page of a job's tasks with signed URLs of their frames. The clients accept 201 only."""
    principal = caller(request)
    said = load(_DOWNLOADS_REQUEST, read_json(request, _LIMIT_BYTES))
    page = downloads_page(
        principal,
        _read_job_id(job_id),
        task_ids=said["tids"],
        limit=_read_limit(request, "limit"),
        cursor=request.args.get("start_cursor", ""),
        ports=wiring.ports(),
    )
    return page, 201


def legacy_downloads(request: Request, job_id: str) -> Reply:
    """Give all frames of a job, or of one task, at once: clients before version 8 ask so. They accept 201 only."""
    principal = caller(request)
    task_id = request.args.get("tid")
    if task_id is not None and not _TASK_ID.fullmatch(task_id):
        raise InvalidRequest({"tid": "must be a number"})
    found = job_downloads(principal, _read_job_id(job_id), task_id, wiring.ports())
    return {"downloads": found}, 201


def downloads_next(request: Request) -> Reply:
    """Hand a download daemon the next frames of its location. Daemons before version 8 accept 201 only."""
    principal = caller(request)
    location = request.args.get("location", "")
    if len(location) > _LONGEST_LOCATION:
        raise InvalidRequest({"location": f"must have at most {_LONGEST_LOCATION} characters"})
    count = _read_limit(request, "count")
    found = next_downloads(principal, location, count, wiring.ports(), wiring.download_store())
    return {"data": found}, 201


def download_status(request: Request) -> Reply:
    """Note how a download goes."""
    principal = caller(request)
    said = load(_DOWNLOAD_STATUS, read_json(request, _LIMIT_BYTES))
    note_status(principal, said, wiring.ports(), wiring.download_store())
    return {"body": "success"}


def download_failed(request: Request, download_id: str) -> Reply:
    """Take note of nothing: no version of the clients calls this any more, and its lease runs out by itself."""
    caller(request)
    read_body(request, _LIMIT_BYTES)
    return {"body": "success"}


def _read_job_id(text: str) -> str:
    """Return a job's id, which people type without its zeros. Raises: NotFound."""
    if not _JOB_ID.fullmatch(text):
        raise NotFound(f"job {text[:100]}")
    return text.zfill(5)


def _read_limit(request: Request, name: str) -> int:
    text = request.args.get(name, str(_DEFAULT_TASKS_A_PAGE))
    if not _LIMIT.fullmatch(text):
        raise InvalidRequest({name: "must be a number"})
    return int(text)
