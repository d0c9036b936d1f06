"""Lists of jobs and of a job's tasks, filtered, a page at a time.

A page may hold fewer than asked for although more follow: so much and no more is looked at for one answer. What counts
is the cursor, which is None after the last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.core.filters import Field, Kind, Term, accepts
from shared.core.permissions import Action, check
from shared.core.task_waiting import why_task_waits
from shared.errors import InvalidRequest, NotFound
from shared.models.account import Principal
from shared.models.job import Job, JobStatus
from shared.models.task import TASKS_PER_PAGE, Page, Task, TaskStatus
from shared.ports import Ports
from shared.services.projects import check_job, visible

MAX_LISTED = 500
_LOOKED_AT = 4 * MAX_LISTED
_PAGES_LOOKED_AT = 50
# Longer than it takes from a job's number to its moment of creation: numbers are in the order of time but for that.
_UNSURE = timedelta(minutes=5)
# What the database itself looks for.
_INDEXED = ("status", "project", "owner")

JOB_FIELDS: Mapping[str, Field] = {
    "jid": Kind.NUMBER,
    "status": JobStatus,
    "project": Kind.NAME,
    "owner": Kind.NAME,
    "title": Kind.NAME,
    "instance_type": Kind.NAME,
    "location": Kind.NAME,
    "preemptible": Kind.FLAG,
    "priority": Kind.NUMBER,
    "created_at": Kind.MOMENT,
    "ended_at": Kind.MOMENT,
}
TASK_FIELDS: Mapping[str, Field] = {
    "jid": Kind.NUMBER,
    "tid": Kind.NUMBER,
    "status": TaskStatus,
    "attempt": Kind.NUMBER,
    "exit_code": Kind.NUMBER,
    "instance": Kind.NAME,
    "scout": Kind.FLAG,
}


@dataclass
class Bounds:
    """Whole numbers strictly between two; None is no bound."""

    above: int | None = None
    below: int | None = None

    def raise_to(self, number: int) -> None:
        """Let nothing through up to this number."""
        self.above = number if self.above is None else max(self.above, number)

    def lower_to(self, number: int) -> None:
        """Let nothing through from this number on."""
        self.below = number if self.below is None else min(self.below, number)

    @property
    def is_empty(self) -> bool:
        """Tell whether no number is left."""
        above = -1 if self.above is None else self.above
        return self.below is not None and self.below - above < 2


def _bounds(terms: Sequence[Term], name: str) -> Bounds:
    """Return what the terms about a number leave of it."""
    bounds = Bounds()
    for term in terms:
        if term.field != name:
            continue
        if term.op in ("eq", "gt", "gte"):
            bounds.raise_to(term.value - (term.op != "gt"))
        if term.op in ("eq", "lt", "lte"):
            bounds.lower_to(term.value + (term.op != "lt"))
        if term.op == "in":
            bounds.raise_to(min(term.value) - 1)
            bounds.lower_to(max(term.value) + 1)
    return bounds


def list_jobs(
    principal: Principal, terms: Sequence[Term], limit: int, cursor: int | None, ports: Ports
) -> tuple[list[Job], int | None]:
    """Return the first jobs behind the cursor that fulfil all terms, by id, and the next cursor. Raises: Forbidden."""
    check(principal, Action.READ)
    bounds = _bounds(terms, "jid")
    _narrow_by_time(principal.account_id, terms, bounds, ports)
    if cursor is not None:
        bounds.raise_to(cursor)
    equal = {term.field: term.value for term in terms if term.op == "eq" and term.field in _INDEXED}
    found: list[Job] = []
    looked_at = 0
    while looked_at < _LOOKED_AT and not bounds.is_empty:
        some = ports.jobs.jobs_between(
            principal.account_id, _text(bounds.above), _text(bounds.below), equal
        )
        for job in some:
            bounds.raise_to(int(job.job_id))
            if accepts(terms, _filtered(job)) and visible(principal, [job], ports):
                found.append(job)
                if len(found) == limit:
                    return found, bounds.above
        looked_at += len(some)
        if len(some) < MAX_LISTED:
            return found, None
    return found, None if bounds.is_empty else bounds.above


def _text(bound: int | None) -> str:
    return "" if bound is None else str(max(bound, 0)).zfill(5)


def _narrow_by_time(account_id: str, terms: Sequence[Term], bounds: Bounds, ports: Ports) -> None:
    """Look for nothing among the jobs that are surely too old or too new."""
    for term in terms:
        if term.field != "created_at" or term.op in ("ne", "in"):
            continue
        if term.op != "lt" and term.op != "lte":
            older = ports.jobs.last_job_before(account_id, term.value - _UNSURE)
            if older:
                bounds.raise_to(int(older))
        if term.op != "gt" and term.op != "gte":
            newer = ports.jobs.first_job_after(account_id, term.value + _UNSURE)
            if newer:
                bounds.lower_to(int(newer))


def _filtered(job: Job) -> dict[str, Any]:
    return {
        "jid": int(job.job_id),
        "status": job.status,
        "project": job.project,
        "owner": job.owner,
        "title": job.title,
        "instance_type": job.instance_type,
        "location": job.location,
        "preemptible": job.is_preemptible,
        "priority": job.priority,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
    }


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task in a list, and why it waits, if it does."""

    job: Job
    task: Task
    is_placed: bool

    @property
    def waiting_for(self) -> str | None:
        """Why it does not run yet."""
        reason = why_task_waits(self.job, self.task, is_placed=self.is_placed)
        return reason.value if reason else None


def list_tasks(
    principal: Principal, terms: Sequence[Term], limit: int, cursor: int | None, ports: Ports
) -> tuple[list[TaskRow], int | None]:
    """Return the first tasks of one job behind the cursor that fulfil all terms, and the next cursor.

    Raises: Forbidden; NotFound; InvalidRequest when the filter does not name exactly one job.
    """
    check(principal, Action.READ)
    named = {term.value for term in terms if term.field == "jid" and term.op == "eq"}
    if len(named) != 1 or sum(term.field == "jid" for term in terms) != 1:
        raise InvalidRequest({"filter": "must name one job, as in jid_eq_00123"})
    job_id = str(max(named.pop(), 0)).zfill(5)
    job = ports.jobs.job(check_job(principal, job_id, ports))
    bounds = _bounds(terms, "tid")
    bounds.raise_to(-1 if cursor is None else cursor)
    others = [term for term in terms if term.field != "jid"]
    found: list[TaskRow] = []
    for number in _pages(job, bounds):
        if number - _first_page(bounds) >= _PAGES_LOOKED_AT:
            return found, number * TASKS_PER_PAGE - 1
        found += _rows(job, number, others, bounds, limit - len(found), ports)
        if len(found) == limit:
            last = int(found[-1].task.task_id)
            return found, last if last + 1 < job.task_count else None
    return found, None


def _first_page(bounds: Bounds) -> int:
    assert bounds.above is not None
    return (bounds.above + 1) // TASKS_PER_PAGE


def _pages(job: Job, bounds: Bounds) -> range:
    end = job.task_count if bounds.below is None else min(job.task_count, bounds.below)
    return range(_first_page(bounds), -(-max(end, 0) // TASKS_PER_PAGE))


def _rows(
    job: Job, number: int, terms: Sequence[Term], bounds: Bounds, most: int, ports: Ports
) -> Iterator[TaskRow]:
    """Yield at most so many tasks of a page; only those that the page does not rule out are read."""
    try:
        page = ports.jobs.page(job.ref, number)
    except NotFound:
        return  # it has not been written yet
    wanted = [
        each for each in sorted(page.statuses, key=int) if _may_fit(each, page, terms, bounds)
    ]
    left = most
    for start in range(0, len(wanted), most):
        for task in ports.jobs.tasks(job.ref, wanted[start : start + most]):
            if left and accepts(terms, _filtered_task(task)):
                left -= 1
                yield TaskRow(job=job, task=task, is_placed=page.is_placed(task.task_id))
        if not left:
            return


def _may_fit(task_id: str, page: Page, terms: Sequence[Term], bounds: Bounds) -> bool:
    assert bounds.above is not None
    seen = {"tid": int(task_id), "status": page.statuses[task_id]}
    return int(task_id) > bounds.above and accepts(terms, seen)


def _filtered_task(task: Task) -> dict[str, Any]:
    last = task.attempts[-1] if task.attempts else None
    return {
        "tid": int(task.task_id),
        "status": task.status,
        "attempt": task.attempt,
        "exit_code": last.exit_code if last else None,
        "instance": last.instance if last else None,
        "scout": task.is_scout,
    }
