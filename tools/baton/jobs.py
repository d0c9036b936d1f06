"""`baton job`: what studios submitted, why it waits, and commands on it, by the same tables as the API's."""

from itertools import islice

import click

from shared import wiring
from shared.errors import Conflict
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef, Command, Fence, Job, JobRef, JobStatus, TaskRef
from shared.models.submission import JobEdit
from shared.schemas.commands import EditSchema
from shared.schemas.loading import load
from shared.services import blocking, commands, control, inspection
from shared.services.administration import known_account
from shared.services.logs import whole_log
from tools.baton.answers import Answer, answers, destructive
from tools.baton.job_shapes import header, listed_attempt, listed_job, listed_task

STATUSES = click.Choice([status.value for status in JobStatus])
RETRIES = ("all", "failed", "preempted", "sync")

account_argument = click.argument("account_id")
jobs_argument = click.argument("job_ids", nargs=-1, required=True)
task_option = click.option(
    "--task", "task_ids", multiple=True, help="Only this task of the one job; repeatable."
)


@click.group()
def job() -> None:
    """What studios submitted. Ids may be given without their leading zeros."""


@job.command("list")
@account_argument
@click.option("--active", is_flag=True, help="Only jobs of which something waits or runs.")
@click.option(
    "--status", "statuses", multiple=True, type=STATUSES, help="Only this status; repeatable."
)
@click.option("--project", "projects", multiple=True, help="Only this project; repeatable.")
@click.option("--owner", "owners", multiple=True, help="Only this owner; repeatable.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="So many at most.",
)
@answers
def list_jobs(
    account_id: str,
    active: bool,
    statuses: tuple[str, ...],
    projects: tuple[str, ...],
    owners: tuple[str, ...],
    limit: int,
) -> Answer:
    """List the jobs of an account, newest first."""
    known_account(account_id, wiring.account_store())
    ports = wiring.ports()

    def is_wanted(each: Job) -> bool:
        return (
            (not statuses or each.status.value in statuses)
            and (not projects or each.project in projects)
            and (not owners or each.owner in owners)
        )

    if active:
        found = [each for each in inspection.active_jobs(account_id, ports) if is_wanted(each)]
    else:
        found = inspection.find_jobs(account_id, is_wanted, limit, ports)
    return {"jobs": [listed_job(each) for each in found[:limit]]}


@job.command("show")
@account_argument
@click.argument("job_id")
@click.option("--task", "task_id", help="Show this task with its attempts instead.")
@click.option(
    "--limit",
    type=click.IntRange(0, 100_000),
    default=100,
    show_default=True,
    help="So many tasks at most.",
)
@answers
def show_job(account_id: str, job_id: str, task_id: str | None, limit: int) -> Answer:
    """Show a job, the instances that it keeps away from, its tasks, and why each of them waits."""
    known_account(account_id, wiring.account_store())
    ports, ref = wiring.ports(), _ref(account_id, job_id)
    if task_id is not None:
        shown = inspection.known_task(TaskRef(*ref, task_id.zfill(3)), ports)
        told = listed_task(shown) | {"watched_until_at": shown.task.watched_until}
        return told | {"attempts": [listed_attempt(each) for each in shown.task.attempts]}
    found = inspection.known_job(ref, ports)
    tasks = islice(inspection.tasks_of(found, ports), limit)
    failed = [
        {"instance": instance, "failed_count": count}
        for instance, count in blocking.failure_counts(found, ports).items()
    ]
    return header(found) | {
        "blocked_instances": failed,
        "tasks": [listed_task(each) for each in tasks],
    }


@job.command("log")
@account_argument
@click.argument("job_id")
@click.argument("task_id")
@click.option(
    "--attempt", type=click.IntRange(1), help="The number of the attempt; else the latest."
)
@answers
def show_log(account_id: str, job_id: str, task_id: str, attempt: int | None) -> Answer:
    """Show the log of a task."""
    known_account(account_id, wiring.account_store())
    ports = wiring.ports()
    ref = TaskRef(*_ref(account_id, job_id), task_id.zfill(3))
    task = inspection.known_task(ref, ports).task
    latest = task.attempts[-1].number if task.attempts else task.attempt
    return {"lines": whole_log(AttemptRef(*ref, attempt or latest), task, ports)}


@job.command("hold")
@account_argument
@jobs_argument
@task_option
@answers
def hold(account_id: str, job_ids: tuple[str, ...], task_ids: tuple[str, ...]) -> Answer:
    """Let nothing more of these jobs start; what runs goes on."""
    return _order("hold", account_id, job_ids, task_ids)


@job.command("unhold")
@account_argument
@jobs_argument
@task_option
@answers
def unhold(account_id: str, job_ids: tuple[str, ...], task_ids: tuple[str, ...]) -> Answer:
    """Let these jobs go on, without waiting for scouts any more."""
    return _order("unhold", account_id, job_ids, task_ids)


@job.command("kill")
@account_argument
@jobs_argument
@task_option
@destructive("Kill {job_ids} of {account_id}? What runs is stopped.")
@answers
def kill(account_id: str, job_ids: tuple[str, ...], task_ids: tuple[str, ...]) -> Answer:
    """End these jobs; what runs is stopped and billed to that moment."""
    return _order("kill", account_id, job_ids, task_ids)


@job.command("retry")
@account_argument
@jobs_argument
@task_option
@click.option(
    "--only",
    type=click.Choice(RETRIES),
    help="Only what failed, what was preempted, or the inputs; or all, what succeeded too.",
)
@answers
def retry(
    account_id: str, job_ids: tuple[str, ...], task_ids: tuple[str, ...], only: str | None
) -> Answer:
    """Try again what has not succeeded of these jobs."""
    return _order(f"retry_{only}" if only else "retry", account_id, job_ids, task_ids)


@job.command("reviewed")
@account_argument
@jobs_argument
@answers
def reviewed(account_id: str, job_ids: tuple[str, ...]) -> Answer:
    """Note that somebody has looked at what came of these jobs."""
    return _order("reviewed", account_id, job_ids, ())


@job.command("release")
@account_argument
@jobs_argument
@answers
def release(account_id: str, job_ids: tuple[str, ...]) -> Answer:
    """Start what waits for the scouts of these jobs, as if they had all succeeded; what somebody holds stays held."""
    ports = wiring.ports()
    refs = _known(account_id, job_ids)
    for found in ports.jobs.jobs(refs):
        if found.is_ended or not found.scouts_pending:
            raise Conflict(f"job {found.job_id} waits for no scouts")
        if found.fence is not Fence.OPEN:
            raise Conflict(f"job {found.job_id} is {found.fence}: nothing of it can be released")
    return _told([control.order(each, Command.RELEASE, ports) for each in refs])


@job.command("edit")
@account_argument
@jobs_argument
@click.option("--priority", type=int, help="The higher goes first.")
@click.option(
    "--max-instances", type=int, help="Attempts in flight at most; 0 is no limit but the account's."
)
@click.option("--instance-type", help="For what starts from now on.")
@click.option(
    "--preemptible/--standard", "is_preemptible", default=None, help="For what starts from now on."
)
@click.option("--preempted-retries", type=int, help="So often is a preempted task tried again.")
@click.option(
    "--standard-after", type=int, help="A task that lost so many goes to standard; 0 is never."
)
@click.option(
    "--out-of-memory-retries", type=int, help="Steps to larger instance types, within four times."
)
@answers
def edit(
    account_id: str,
    job_ids: tuple[str, ...],
    priority: int | None,
    max_instances: int | None,
    instance_type: str | None,
    is_preemptible: bool | None,
    **policy: int | None,
) -> Answer:
    """Change what these jobs ask for; what runs runs on as it is."""
    said = {
        "priority": priority,
        "max_instances": max_instances,
        "instance_type": instance_type,
        "preemptible": is_preemptible,
        **policy,
    }
    given = {name: value for name, value in said.items() if value is not None}
    if not given:
        raise click.UsageError("say what shall be otherwise, e.g. --priority 8")
    wanted: JobEdit = load(EditSchema(), given)
    refs = _known(account_id, job_ids)
    commands.edit_jobs(
        _operator(account_id),
        wanted,
        [each.job_id for each in refs],
        wiring.ports(),
        wiring.catalog_store(),
    )
    return _told(wiring.ports().jobs.jobs(refs))


def _order(
    action: str, account_id: str, job_ids: tuple[str, ...], task_ids: tuple[str, ...]
) -> Answer:
    if task_ids and len(job_ids) != 1:
        raise click.UsageError("--task goes with one job only")
    ports, operator = wiring.ports(), _operator(account_id)
    refs = _known(account_id, job_ids)
    if task_ids:
        wanted = [each.zfill(3) for each in task_ids]
        commands.command_tasks(operator, action, refs[0].job_id, wanted, ports)
    else:
        commands.command_jobs(operator, action, [each.job_id for each in refs], ports)
    return _told(ports.jobs.jobs(refs))


def _known(account_id: str, job_ids: tuple[str, ...]) -> list[JobRef]:
    """Return where the jobs are; a wrong id is told before anything is done."""
    known_account(account_id, wiring.account_store())
    refs = [_ref(account_id, each) for each in dict.fromkeys(job_ids)]
    for each in refs:
        inspection.known_job(each, wiring.ports())
    return refs


def _ref(account_id: str, job_id: str) -> JobRef:
    return JobRef(account_id, job_id.zfill(5))


def _operator(account_id: str) -> Principal:
    """Return who gives the command: the operator of the farm may do what an owner may."""
    return Principal(account_id=account_id, user_id="operator", role=Role.OWNER)


def _told(found: list[Job]) -> Answer:
    return {"jobs": [listed_job(each) for each in found]}
