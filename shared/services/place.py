"""Place: give admitted attempts to the scheduler of the job's orchestrator."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from shared.core.admission import is_admissible
from shared.core.recovery import Step, next_step
from shared.errors import CloudError, Unplaceable
from shared.models.farm import Orchestrator
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import Page, TaskStatus
from shared.ports import Ports, Scheduler, SubmittedAttempt
from shared.services.unclaimed import take_back

_AT_ONCE = 8


def place(
    ref: JobRef,
    number: int,
    attempts: Mapping[str, int],
    ports: Ports,
    *,
    is_last_try: bool = False,
) -> None:
    """Submit those of the attempts that still wait, under their ids, so that a repeat changes nothing.

    After the last try those that the scheduler has no place for are taken back: so often a task may be, and then fails.
    Raises: CloudError, once all were tried; what was submitted stays, and the message comes again.
    """
    job = ports.jobs.job(ref)
    if not is_admissible(job):
        return
    page = ports.jobs.page(ref, number)
    orchestrator = ports.orchestrators.orchestrator(job.orchestrator_id)
    scheduler = ports.schedulers(orchestrator)
    current = {
        task_id: attempt
        for task_id, attempt in attempts.items()
        if _still_waits(page, task_id, attempt)
    }
    steps = _steps(job, current, ports)
    waiting = [
        _submitted(job, orchestrator, steps[task_id], task_id, attempt, ports)
        for task_id, attempt in current.items()
    ]
    errors: list[CloudError] = []
    for attempt, error in _submit(waiting, scheduler).items():
        if is_last_try and isinstance(error, Unplaceable):
            take_back(attempt, ports, reason=str(error))
        else:
            errors.append(error)
    if errors:
        raise errors[0]


def _submit(
    attempts: Sequence[SubmittedAttempt], scheduler: Scheduler
) -> dict[AttemptRef, CloudError]:
    """Submit each by itself; returns those that the scheduler did not take, and why."""

    def tried(attempt: SubmittedAttempt) -> CloudError | None:
        try:
            scheduler.submit(attempt)
        except CloudError as error:
            return error
        return None

    if len(attempts) == 1:
        errors = [tried(attempts[0])]
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            errors = list(pool.map(tried, attempts))
    return {
        attempt.ref: error
        for attempt, error in zip(attempts, errors, strict=True)
        if error is not None
    }


def _still_waits(page: Page, task_id: str, attempt: int) -> bool:
    is_current = page.attempts.get(task_id) == attempt == page.placed.get(task_id)
    return is_current and page.statuses[task_id] is TaskStatus.PENDING


def _steps(job: Job, attempts: Mapping[str, int], ports: Ports) -> dict[str, Step]:
    """Return what each attempt shall run on; only those that are not the first of their tasks take a read."""
    first = next_step(job)
    later = [task_id for task_id, attempt in attempts.items() if attempt > 1]
    tasks = ports.jobs.tasks(job.ref, later) if later else []
    known = {
        task.task_id: next_step(job, task.attempts, counted_from=task.counted_from)
        for task in tasks
    }
    return {task_id: known.get(task_id, first) for task_id in attempts}


def _submitted(
    job: Job, orchestrator: Orchestrator, step: Step, task_id: str, attempt: int, ports: Ports
) -> SubmittedAttempt:
    ref = AttemptRef(job.account_id, job.job_id, task_id, attempt)
    return SubmittedAttempt(
        ref=ref,
        shape=step.shape,
        # All of its zones: one that is switched off is drained, and one switched on later may serve what waits now.
        zones=sorted(orchestrator.zones),
        cores=step.cores,
        memory_mib=step.memory_mib,
        priority=job.priority,
        environment={
            "BATON_AGENT_URL": ports.agent_url,
            "BATON_ATTEMPT_TOKEN": ports.attempt_token(ref, step.shape),
        },
        # Where an attempt ran is its agent's word: what is no zone of the orchestrator's is none to avoid.
        avoided_zones=[zone for zone in step.avoided_zones if zone in orchestrator.zones],
        # Where the scheduler starts the machines it starts none for an attempt that names machines it must not run on,
        # and nobody else does: there the claim's refusal has to do.
        avoided_instances=() if orchestrator.is_managed else job.blocked_instances,
    )
