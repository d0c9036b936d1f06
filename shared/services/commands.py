"""Commands of the clients and the dashboard: who may, and for which jobs and tasks; control.py carries them out."""

from collections.abc import Callable, Mapping, Sequence

from shared.core.lifecycle import LOST_RETRIES, most_losses
from shared.core.orders import changes_shape, edited
from shared.core.permissions import Action, check
from shared.core.recovery import at_home
from shared.errors import InvalidRequest, NotFound, PartlyRefused, Rejected
from shared.models.account import InstanceType, Principal
from shared.models.farm import Orchestrator
from shared.models.job import Command, Job, JobRef
from shared.models.submission import JobEdit
from shared.ports import CatalogStore, Ports
from shared.services.catalog import offered_types
from shared.services.control import edit_job, order, order_tasks, review_job
from shared.services.projects import check_job, visible_ids

# What people may order; the release of tasks after their scouts is the server's own.
ORDERS = {command.value: command for command in Command if command is not Command.RELEASE}
# These are about the whole of a job only.
TASK_ORDERS = {
    name: command
    for name, command in ORDERS.items()
    if command not in (Command.RETRY_SYNC, Command.REVIEWED, Command.EDIT)
}


def command_jobs(principal: Principal, action: str, job_ids: Sequence[str], ports: Ports) -> None:
    """Give each of these jobs a command; all that can follow it do, even if others cannot.

    Raises: Forbidden; InvalidRequest; NotFound when none of them is there; what a command on a single job raises;
    PartlyRefused naming those that cannot.
    """
    check(principal, Action.COMMAND)
    what = _order_of(action, ORDERS)
    if what is Command.EDIT:
        raise InvalidRequest({"changes": "must say what shall be otherwise"})

    def obey(ref: JobRef) -> Job:
        if what is Command.REVIEWED:
            return review_job(ref, principal.user_id, ports)
        return order(ref, what, ports)

    _for_each(principal, job_ids, obey, ports)


def edit_jobs(
    principal: Principal,
    edit: JobEdit,
    job_ids: Sequence[str],
    ports: Ports,
    catalog: CatalogStore,
) -> None:
    """Change what each of these jobs asks for; all that can be changed are, even if others cannot.

    Raises: Forbidden; InvalidRequest (changes); NotFound when none of them is there; what the edit of a single job
    raises; PartlyRefused naming those that cannot.
    """
    check(principal, Action.COMMAND)
    offered = offered_types(principal.account_id, ports.accounts, catalog)
    known = {each.name: each for each in catalog.known_instance_types()}
    types = {each.name: each for each in offered}
    if edit.instance_type is not None and edit.instance_type not in types:
        raise InvalidRequest({"changes.instance_type": f"unknown: {edit.instance_type}"})

    def change(job: Job) -> Job:
        _check_policy(job, edit)
        if not changes_shape(job, edit):
            return edited(job, edit, None)
        machine = types.get(edit.instance_type or job.instance_type)
        if machine is None:
            raise InvalidRequest({"changes.instance_type": f"offered no more: {job.instance_type}"})
        _check_system(machine, known.get(job.instance_type))
        after = edited(job, edit, machine, offered)
        return at_home(after, _checked_home(job, machine, ports)) if job.orchestrator_id else after

    _for_each(principal, job_ids, lambda ref: edit_job(ref, change, ports), ports)


def _check_policy(job: Job, edit: JobEdit) -> None:
    """Refuse a number of losses after which no attempt would be left, where the edit is about that."""
    if edit.preempted_retries is None and edit.standard_after is None:
        return
    retries = job.preempted_retries if edit.preempted_retries is None else edit.preempted_retries
    losses = job.standard_after if edit.standard_after is None else edit.standard_after
    if losses > most_losses(retries):
        reason = f"{losses} must be at most {LOST_RETRIES} more than preempted_retries, {retries}"
        raise InvalidRequest({"changes.standard_after": reason})


def _check_system(machine: InstanceType, before: InstanceType | None) -> None:
    if before is not None and before.operating_system != machine.operating_system:
        reason = f"its software is for {before.operating_system}"
        raise InvalidRequest({"changes.instance_type": reason})


def _checked_home(job: Job, machine: InstanceType, ports: Ports) -> Orchestrator:
    """Return where a job runs: it stays where its attempts and inputs are. Raises: InvalidRequest."""
    home = ports.orchestrators.orchestrator(job.orchestrator_id)
    if home.provider is not machine.provider or not home.offers(machine.name):
        reason = f"{job.orchestrator_id}, where the job runs, has no {machine.name}"
        raise InvalidRequest({"changes.instance_type": reason})
    return home


def _for_each(
    principal: Principal, job_ids: Sequence[str], obey: Callable[[JobRef], object], ports: Ports
) -> None:
    refused: dict[str, Rejected] = {}
    wanted = list(dict.fromkeys(job_ids))
    seen = visible_ids(principal, wanted, ports)
    for job_id in wanted:
        try:
            if job_id not in seen:
                raise NotFound(job_id)
            obey(JobRef(principal.account_id, job_id))
        except Rejected as error:
            refused[job_id] = error
    if not refused:
        return
    if len(wanted) == 1:
        raise refused[wanted[0]]
    if len(refused) == len(wanted) and all(isinstance(e, NotFound) for e in refused.values()):
        raise NotFound(f"jobs {', '.join(wanted[:20])}")
    raise PartlyRefused(
        {f"jobids.{job_id}": _reason(job_id, error) for job_id, error in refused.items()}
    )


def _reason(job_id: str, error: Rejected) -> str:
    return f"there is no job {job_id}" if isinstance(error, NotFound) else str(error)


def command_tasks(
    principal: Principal, action: str, job_id: str, task_ids: Sequence[str], ports: Ports
) -> None:
    """Give some tasks of a job a command; all that can follow it do, even if others cannot.

    Raises: Forbidden; InvalidRequest; NotFound when none of them is there; InvalidTransition when the job cannot;
    PartlyRefused naming those that cannot.
    """
    check(principal, Action.COMMAND)
    what = _order_of(action, TASK_ORDERS)
    ref = check_job(principal, job_id, ports)
    refused = order_tasks(ref, what, list(dict.fromkeys(task_ids)), ports)
    if refused:
        raise PartlyRefused({f"taskids.{task_id}": reason for task_id, reason in refused.items()})


def _order_of(action: str, orders: Mapping[str, Command]) -> Command:
    if action not in orders:
        raise InvalidRequest({"action": f"must be one of {', '.join(orders)}"})
    return orders[action]
