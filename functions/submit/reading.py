"""Lists of jobs and tasks, and logs. Who may: every token of the account, for jobs of its own projects.

Lists hold at most 500 entries; `next_cursor` leads to the rest.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from flask import Request

from functions.submit.callers import caller
from functions.submit.columns import JOB_COLUMNS, TASK_COLUMNS
from shared import wiring
from shared.core.filters import Field, Term, read_filter
from shared.errors import InvalidRequest, NotFound
from shared.http import Reply
from shared.models.account import Principal
from shared.ports import Ports
from shared.services.logs import read_logs
from shared.services.reading import JOB_FIELDS, MAX_LISTED, TASK_FIELDS, list_jobs, list_tasks

_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOST_CONTAINERS = 1000

Row = TypeVar("Row")
Find = Callable[[Principal, Sequence[Term], int, int | None, Ports], tuple[list[Row], int | None]]


def jobs(request: Request) -> Reply:
    """List jobs, e.g. `?filter=jid_gt_00122,jid_lt_00124` or `?filter=status_eq_running&fields=jid,title`."""
    return _listed(request, list_jobs, JOB_FIELDS, JOB_COLUMNS)


def tasks(request: Request) -> Reply:
    """List the tasks of one job, e.g. `?filter=jid_eq_00123,status_eq_failed&fields=tid,exit_code`."""
    return _listed(request, list_tasks, TASK_FIELDS, TASK_COLUMNS)


def _listed(
    request: Request,
    find: Find[Row],
    fields: Mapping[str, Field],
    columns: Mapping[str, Callable[[Row], Any]],
) -> Reply:
    """Answer what `find` finds by `?filter=`, as the columns that `?fields=` names."""
    principal = caller(request)
    terms = read_filter(request.args.get("filter", ""), fields)
    names = _columns(request, columns)
    found, cursor = find(principal, terms, _limit(request), _cursor(request), wiring.ports())
    rows = [{name: columns[name](row) for name in names} for row in found]
    return {"data": rows, "next_cursor": None if cursor is None else str(cursor)}


def get_log_file(request: Request) -> Reply:
    """Give what a task wrote behind what the caller has, by attempt: `?job=00123&task=001&num_lines[]=0`."""
    principal = caller(request)
    job_id, task_id = _id(request, "job"), _id(request, "task")
    known = request.args.getlist("num_lines[]")
    if len(known) > _MOST_CONTAINERS or not all(map(_DIGITS.fullmatch, known)):
        raise InvalidRequest({"num_lines[]": "must be a number, 0 or more, for each attempt"})
    counts = [int(each) for each in known]
    return read_logs(principal, job_id.zfill(5), task_id.zfill(3), counts, wiring.ports())


def _id(request: Request, name: str) -> str:
    text = request.args.get(name, "")
    if not text:
        raise InvalidRequest({name: "is missing"})
    if not _DIGITS.fullmatch(text):
        raise NotFound(f"{name} {text[:100]}")
    return text


def _columns(request: Request, known: Mapping[str, object]) -> Sequence[str]:
    """Return the names in `fields`, all when nothing is said."""
    asked = [each.strip() for each in request.args.get("fields", "").split(",")]
    names = list(dict.fromkeys(each for each in asked if each))
    if unknown := [each for each in names if each not in known]:
        reason = f"{unknown[0][:100]!r} is none of {', '.join(known)}"
        raise InvalidRequest({"fields": reason})
    return names or list(known)


def _limit(request: Request) -> int:
    text = request.args.get("limit", str(MAX_LISTED))
    if not _DIGITS.fullmatch(text) or not 1 <= int(text) <= MAX_LISTED:
        raise InvalidRequest({"limit": f"must be 1 to {MAX_LISTED}"})
    return int(text)


def _cursor(request: Request) -> int | None:
    """A cursor is the last number that was looked at; nobody but us needs to know."""
    text = request.args.get("start_cursor", "")
    if text and not _DIGITS.fullmatch(text):
        raise InvalidRequest({"start_cursor": "is none of ours"})
    return int(text) if text else None
