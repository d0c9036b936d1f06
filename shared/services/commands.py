"""Commands of the clients and the dashboard: who may, and for which jobs and tasks; control.py carries them out."""

from collections.abc import Sequence

from shared.core.permissions import Action, check
from shared.errors import Conflict, InvalidRequest, NotFound, Rejected
from shared.models.account import Principal
from shared.models.job import Command, Job, JobRef
from shared.ports import Ports
from shared.services.control import order, order_tasks
from shared.services.projects import check_job, visible, visible_ids

# What people may order; the release of tasks after their scouts is the server's own.
_ORDERS = {command.value: command for command in Command if command is not Command.RELEASE}
MAX_LISTED_JOBS = 500


def command_jobs(principal: Principal, action: str, job_ids: Sequence[str], ports: Ports) -> None:
    """Give each of these jobs a command; all that can follow it do, even if others cannot.

    Raises: Forbidden; InvalidRequest; what a command on a single job raises; Conflict naming those that failed.
    """
    check(principal, Action.COMMAND)
    what = _order_of(action)
    refused: list[tuple[str, Rejected]] = []
    wanted = list(dict.fromkeys(job_ids))
    seen = visible_ids(principal, wanted, ports)
    for job_id in wanted:
        try:
            if job_id not in seen:
                raise NotFound(job_id)
            order(JobRef(principal.account_id, job_id), what, ports)
        except Rejected as error:
            refused.append((job_id, error))
    if refused and len(wanted) == 1:
        raise refused[0][1]
    if refused:
        raise Conflict("; ".join(f"job {job_id}: {error}" for job_id, error in refused))


def command_tasks(
    principal: Principal, action: str, job_id: str, task_ids: Sequence[str], ports: Ports
) -> None:
    """Give some tasks of a job a command.

    Raises: Forbidden; InvalidRequest; NotFound; InvalidTransition, and then none follows it.
    """
    check(principal, Action.COMMAND)
    what = _order_of(action)
    order_tasks(check_job(principal, job_id, ports), what, list(dict.fromkeys(task_ids)), ports)


def list_jobs(principal: Principal, above: str, below: str, ports: Ports) -> list[Job]:
    """Return the first jobs whose ids lie strictly between two, in order. Raises: Forbidden."""
    check(principal, Action.READ)
    listed: list[Job] = []
    while len(listed) < MAX_LISTED_JOBS:
        found = ports.jobs.jobs_between(principal.account_id, above, below)
        listed += visible(principal, found, ports)
        if len(found) < MAX_LISTED_JOBS:
            break
        above = found[-1].job_id
    return listed[:MAX_LISTED_JOBS]


def _order_of(action: str) -> Command:
    if action not in _ORDERS:
        raise InvalidRequest({"action": f"must be one of {', '.join(_ORDERS)}"})
    return _ORDERS[action]
