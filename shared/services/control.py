"""Control: what people order for jobs and tasks, and how a command on a whole job reaches its tasks."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from shared.core.lifecycle import FENCES, Moved, command, downloaded
from shared.core.progress import ordered
from shared.errors import InvalidTransition, NotFound
from shared.models.job import AttemptRef, Command, Fence, Job, JobRef, TaskRef
from shared.models.task import Page, Task, TaskStatus
from shared.ports import PageDecision, Ports, TaskChange
from shared.services.ask import ask_to_settle
from shared.services.ledger import entry_of

PAGES_TOGETHER = 10
_CANCELS_AT_ONCE = 8


def order(ref: JobRef, what: Command, ports: Ports) -> Job:
    """Give a command on a whole job: one write, which fences every claim at once; its tasks follow.

    Raises: NotFound; InvalidTransition when the job has ended and the command is not a retry, or is being killed.
    """

    def changed(job: Job) -> Job:
        return ordered(job, what, FENCES[what]) if _applies(job, what) else job

    job = ports.jobs.change_job(ref, changed)
    if not job.is_ended:
        ports.admission.activate(ref)
        ports.bus.publish("command", _messages(job))
    return job


def _applies(job: Job, what: Command) -> bool:
    """Tell whether a command is to be carried out; False when it is so already. Raises: InvalidTransition."""
    if what is Command.RELEASE:
        # A person may have held, killed or let go the job since its scouts were read.
        return job.scouts_pending and job.fence is Fence.OPEN and not job.is_ended
    if what is Command.KILL:
        return job.fence is not Fence.KILLED and not job.is_ended
    if job.fence is Fence.KILLED and not job.is_ended:
        raise InvalidTransition(
            f"job {job.job_id} is being killed: {what} must wait until it has ended"
        )
    if job.is_ended and not what.startswith("retry"):
        raise InvalidTransition(f"job {job.job_id} is {job.status}: {what} does not apply")
    return True


def _messages(job: Job) -> list[dict[str, object]]:
    return [
        {
            "account_id": job.account_id,
            "job_id": job.job_id,
            "first_page": first,
            "page_count": min(PAGES_TOGETHER, job.page_count - first),
        }
        for first in range(0, job.page_count, PAGES_TOGETHER)
    ]


def carry_out(ref: JobRef, first_page: int, page_count: int, ports: Ports) -> None:
    """Carry the job's present command down to these pages; one that has it, or is not there yet, is passed over."""
    job = ports.jobs.job(ref)
    there = {page.number: page for page in ports.jobs.page_summaries(job)}
    for number in range(first_page, first_page + page_count):
        page = there.get(number)
        if page is not None and page.command_seq < job.command_seq:
            _carry_out_on_page(job, number, ports)


def _carry_out_on_page(job: Job, number: int, ports: Ports) -> None:
    def chosen(page: Page, now: Job) -> Command | None:
        return now.command if page.command_seq < now.command_seq else None

    _change_page(job, number, chosen, None, ports)


def _change_page(
    job: Job,
    number: int,
    chosen: Callable[[Page, Job], Command | None],
    task_ids: frozenset[str] | None,
    ports: Ports,
) -> None:
    """Carry out the chosen command on a page's tasks, all or those named, then stop what it took from the scheduler."""
    stopped: list[AttemptRef] = []
    seen = [job]

    def decide(page: Page, now: Job, tasks: Sequence[Task]) -> PageDecision:
        stopped.clear()
        seen[:] = [now]
        what = chosen(page, now)
        changes = []
        for task in tasks:
            if what is None or (task_ids is not None and task.task_id not in task_ids):
                continue
            moved = _commanded(task, what, page, ports)
            if moved is None:
                continue
            changes.append(_change(now, moved))
            if task.status is TaskStatus.RUNNING or moved.page.ended_count:
                stopped.append(AttemptRef(now.account_id, now.job_id, task.task_id, task.attempt))
        seq = now.command_seq if task_ids is None else page.command_seq
        return PageDecision(changes=changes, command_seq=seq)

    ports.jobs.change_page(job.ref, number, decide)
    cancel(seen[0], stopped, ports)


def _commanded(task: Task, what: Command, page: Page, ports: Ports) -> Moved | None:
    try:
        return command(task, what, is_placed=page.is_placed(task.task_id), now=ports.now())
    except InvalidTransition:
        return None  # a command on a whole job passes over tasks to which it does not apply


def _change(job: Job, moved: Moved) -> TaskChange:
    entry = entry_of(job, moved.task, moved.ended) if moved.ended else None
    return TaskChange(task=moved.task, page=moved.page, ledger=entry)


def order_tasks(ref: JobRef, what: Command, task_ids: Sequence[str], ports: Ports) -> None:
    """Give a command on some tasks of a job.

    Raises: NotFound; InvalidTransition when it does not apply to one of them, which then changes none.
    """
    job = ports.jobs.job(ref)
    tasks = ports.jobs.tasks(ref, task_ids)
    for task in tasks:
        command(task, what, is_placed=False, now=ports.now())
    if len(tasks) < len(set(task_ids)):
        missing = sorted(set(task_ids) - {task.task_id for task in tasks})
        raise NotFound(f"job {ref.job_id} has no task {', '.join(missing[:5])}")
    if what.startswith("retry") or what is Command.UNHOLD:
        if job.fence is Fence.KILLED and not job.is_ended:
            raise InvalidTransition(
                f"job {ref.job_id} is being killed: {what} must wait until it has ended"
            )
        ports.jobs.change_job(ref, lambda now: replace(now, fence=FENCES[what], ended_at=None))
    for number in sorted({task.page for task in tasks}):
        _change_page(job, number, lambda _page, _job: what, frozenset(task_ids), ports)
    ports.admission.activate(ref)
    ask_to_settle(ref, ports, is_urgent=True)
    ports.bus.publish("admit", [{"account_id": ref.account_id}])


def mark_downloaded(ref: TaskRef, number: int, ports: Ports) -> bool:
    """Note that the frames of this attempt arrived at the artist's; False when they are not the task's current ones."""

    def decide(task: Task, _: Job) -> TaskChange | None:
        moved = downloaded(task, number)
        return TaskChange(task=moved.task, page=moved.page) if moved else None

    return ports.jobs.change_task(ref, decide) is not None


def cancel(job: Job, attempts: Sequence[AttemptRef], ports: Ports) -> None:
    """Have the scheduler stop attempts that count no more; their own next call or the sweep stops what is left."""
    if not attempts:
        return
    scheduler = ports.schedulers(ports.orchestrators.orchestrator(job.orchestrator_id))

    def stop(ref: AttemptRef) -> None:
        scheduler.cancel(ref.attempt_id)

    with ThreadPoolExecutor(_CANCELS_AT_ONCE) as pool:
        list(pool.map(stop, attempts))
