"""Projects: which of them somebody may use, and so which jobs are there for them at all.

What is read here is kept for some seconds: nearly every call needs it, and it hardly changes.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from shared.core.permissions import may_use
from shared.errors import NotFound
from shared.models.account import Principal, Project
from shared.models.job import Job, JobRef
from shared.ports import AccountStore, Ports

_KEPT_S = 10.0
_REMEMBERED = 10_000

Found = TypeVar("Found")

_kept: dict[tuple[str, str, str], tuple[float, Any]] = {}


def usable_projects(principal: Principal, accounts: AccountStore) -> list[Project]:
    """Return the active projects that somebody may use, by name."""
    return [
        project
        for project in accounts.projects(principal.account_id)
        if project.is_active and may_use(principal, project.name)
    ]


def check_project(principal: Principal, name: str, ports: Ports, wrong: dict[str, str]) -> None:
    """Add to `wrong` why somebody may not use a project, if so; one that is not theirs is not there."""
    account_id, accounts = principal.account_id, ports.accounts
    try:
        project = _remembered(
            ("project", account_id, name), lambda: accounts.project(account_id, name)
        )
    except NotFound:
        wrong["project"] = f"unknown: {name}"
        return
    if not may_use(principal, name):
        wrong["project"] = f"unknown: {name}"
    elif not project.is_active:
        wrong["project"] = f"not active: {name}"


def visible(principal: Principal, jobs: Iterable[Job], ports: Ports) -> list[Job]:
    """Return those of the account's jobs that are there for somebody."""
    return [job for job in jobs if may_use(principal, job.project)]


def visible_ids(principal: Principal, job_ids: Collection[str], ports: Ports) -> Collection[str]:
    """Return those of the ids that may be acted on; reads the jobs only for who is limited."""
    if not principal.projects:
        return job_ids
    jobs = ports.jobs.jobs(JobRef(principal.account_id, job_id) for job_id in job_ids)
    return {job.job_id for job in visible(principal, jobs, ports)}


def check_job(principal: Principal, job_id: str, ports: Ports) -> JobRef:
    """Return where a job is; one of a project that is not theirs is not there. Raises: NotFound."""
    if job_id not in visible_ids(principal, [job_id], ports):
        raise NotFound(job_id)
    return JobRef(principal.account_id, job_id)


def _remembered(key: tuple[str, str, str], read: Callable[[], Found]) -> Found:
    """Return what was read of late, or read it now; what is not there is looked for each time."""
    now = time.monotonic()
    kept = _kept.get(key)
    if kept is None or now - kept[0] >= _KEPT_S:
        if len(_kept) >= _REMEMBERED:
            _kept.clear()
        kept = _kept[key] = (now, read())
    found: Found = kept[1]
    return found
