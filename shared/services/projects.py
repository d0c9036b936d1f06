"""Projects: which of them somebody may use, and so which jobs are there for them at all.

What is read here is kept for some seconds: nearly every call needs it, and it hardly changes.
"""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from shared.errors import Forbidden, NotFound
from shared.models.account import Principal, Project, Role
from shared.models.job import Job, JobRef
from shared.ports import AccountStore, Ports

_KEPT_S = 10.0
_REMEMBERED = 10_000

Found = TypeVar("Found")

_kept: dict[tuple[str, str, str], tuple[float, Any]] = {}


def usable_projects(principal: Principal, accounts: AccountStore) -> list[Project]:
    """Return the active projects that somebody may use, by name."""
    limit = _limit(principal, accounts)
    return [
        project
        for project in accounts.projects(principal.account_id)
        if project.is_active and (not limit or project.name in limit)
    ]


def check_project(principal: Principal, name: str, ports: Ports, wrong: dict[str, str]) -> None:
    """Add to `wrong` why somebody may not use a project, if so. Raises: Forbidden."""
    account_id, accounts = principal.account_id, ports.accounts
    try:
        project = _remembered(
            ("project", account_id, name), lambda: accounts.project(account_id, name)
        )
    except NotFound:
        wrong["project"] = f"unknown: {name}"
        return
    limit = _limit(principal, accounts)
    if not project.is_active:
        wrong["project"] = f"not active: {name}"
    elif limit and name not in limit:
        wrong["project"] = f"not one of yours: {name}"


def visible(principal: Principal, jobs: Iterable[Job], ports: Ports) -> list[Job]:
    """Return those of the account's jobs that are there for somebody. Raises: Forbidden."""
    limit = _limit(principal, ports.accounts)
    return [job for job in jobs if not limit or job.project in limit]


def visible_ids(principal: Principal, job_ids: Collection[str], ports: Ports) -> Collection[str]:
    """Return those of the ids that may be acted on; reads the jobs only for who is limited. Raises: Forbidden."""
    if not _limit(principal, ports.accounts):
        return job_ids
    jobs = ports.jobs.jobs(JobRef(principal.account_id, job_id) for job_id in job_ids)
    return {job.job_id for job in visible(principal, jobs, ports)}


def check_job(principal: Principal, job_id: str, ports: Ports) -> JobRef:
    """Return where a job is; one of a project that is not theirs is not there. Raises: NotFound; Forbidden."""
    if job_id not in visible_ids(principal, [job_id], ports):
        raise NotFound(job_id)
    return JobRef(principal.account_id, job_id)


def _limit(principal: Principal, accounts: AccountStore) -> tuple[str, ...]:
    """Return the projects to which a plain user is limited; empty means all. Raises: Forbidden."""
    if principal.role is not Role.USER:
        return ()
    account_id, user_id = principal.account_id, principal.user_id
    try:
        user = _remembered(
            ("user", account_id, user_id), lambda: accounts.user(account_id, user_id)
        )
    except NotFound as error:
        raise Forbidden("you are no user of this account any more") from error
    return user.projects


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
