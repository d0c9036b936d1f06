"""Control: what people order for jobs and tasks, and how a command on a whole job reaches its tasks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from shared.core.lifecycle import FENCES, Moved, command, downloaded, follow
from shared.core.orders import Phase, has_work, obeyed, phase_of, reviewed
from shared.core.outstanding import orders_after
from shared.core.progress import awaits_sync
from shared.errors import CloudError, InvalidTransition, NotFound
from shared.log import log
from shared.models.job import AttemptRef, Command, Fence, Job, JobRef, TaskRef, UploadState
from shared.models.task import Page, Task, TaskStatus
from shared.ports import Applied, PageDecision, Ports, TaskChange
from shared.services.ask import ask_to_settle
from shared.services.ledger import entry_of
from shared.services.upload_daemon import enqueue

# So many pages of a job a message, and so many a block of its payload.
PAGES_TOGETHER = 10
_CANCELS_AT_ONCE = 8


def order(ref: JobRef, what: Command, ports: Ports) -> Job:
    """Give a command on a whole job: one write, which fences every claim at once; its tasks follow.

    Not for edits and reviews. Raises: NotFound; InvalidTransition; Conflict.
    """
    job = ports.jobs.change_job(ref, lambda now: obeyed(now, what))
    _set_off(job, ports)
    return job


def edit_job(ref: JobRef, change: Callable[[Job], Job], ports: Ports) -> Job:
    """Change what a job asks for; attempts that wait at the scheduler as it was before are taken back and placed anew.

    Raises: NotFound; whatever `change` raises.
    """
    job = ports.jobs.change_job(ref, change)
    _set_off(job, ports)
    return job


def review_job(ref: JobRef, user_id: str, ports: Ports) -> Job:
    """Note who has looked at what came of a job. Raises: NotFound; InvalidTransition when it has not ended."""
    return ports.jobs.change_job(ref, lambda now: reviewed(now, user_id, ports.now()))


def _set_off(job: Job, ports: Ports) -> None:
    """Have what was written on a job done; said once more, it changes nothing."""
    if job.is_ended:
        return
    ports.admission.activate(job.ref)
    ports.bus.publish("command", block_messages(job, range(job.page_count)))
    if job.upload.state is not UploadState.DONE:
        enqueue(job, ports)
    elif awaits_sync(job):
        ports.bus.publish("sync", [{"account_id": job.account_id, "job_id": job.job_id}])


def block_messages(job: Job, pages: Iterable[int]) -> list[dict[str, object]]:
    """Return a message for each block of pages that has any of these; its handler looks at all of the block."""
    return [
        {
            "account_id": job.account_id,
            "job_id": job.job_id,
            "first_page": first,
            "page_count": min(PAGES_TOGETHER, job.page_count - first),
        }
        for first in sorted({page - page % PAGES_TOGETHER for page in pages})
    ]


@dataclass
class _Done:
    """What became of a page's tasks: which attempts the scheduler must stop, and, by id, why some tasks cannot follow.

    `job` is as it was when the commands were carried out.
    """

    job: Job
    stopped: list[AttemptRef] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def carry_out(ref: JobRef, first_page: int, page_count: int, ports: Ports) -> None:
    """Carry the job's commands down to these pages; one that has them, or is not there yet, is passed over."""
    numbers = range(first_page, first_page + page_count)
    for done in _caught_up(ports.jobs.job(ref), numbers, ports):
        cancel(done.job, done.stopped, ports)


def _caught_up(job: Job, numbers: Iterable[int], ports: Ports) -> Iterator[_Done]:
    """Carry out on these pages, one after the other, what they are behind of."""
    there = {page.number: page for page in ports.jobs.page_summaries(job)}
    for number in numbers:
        page = there.get(number)
        if page is not None and page.command_seq < job.command_seq:
            yield _carry_out_on_page(job, number, ports)


def _carry_out_on_page(job: Job, number: int, ports: Ports) -> _Done:
    def moved(page: Page, now: Job, task: Task) -> Moved | None:
        orders = orders_after(now, page.command_seq)
        return follow(task, orders, placed=page.placed.get(task.task_id), now=ports.now())

    return _change_page(job, number, moved, None, ports)


def _change_page(
    job: Job,
    number: int,
    move: Callable[[Page, Job, Task], Moved | None],
    task_ids: frozenset[str] | None,
    ports: Ports,
) -> _Done:
    """Move a page's tasks, all or those named; one whose move raises InvalidTransition is refused it."""
    done = _Done(job)

    def decide(page: Page, now: Job, tasks: Sequence[Task]) -> PageDecision:
        nonlocal done
        done = _Done(now)
        changes = []
        for task in tasks:
            if task_ids is not None and task.task_id not in task_ids:
                continue
            try:
                moved = move(page, now, task)
            except InvalidTransition as error:
                done.refused[task.task_id] = str(error)
                continue
            if moved is None:
                continue
            changes.append(_change(now, moved))
            if task.status is TaskStatus.RUNNING or moved.page.ended_count:
                done.stopped.append(
                    AttemptRef(now.account_id, now.job_id, task.task_id, task.attempt)
                )
        seq = now.command_seq if task_ids is None else page.command_seq
        return PageDecision(changes=changes, command_seq=seq)

    ports.jobs.change_page(job.ref, number, decide)
    return done


def _change(job: Job, moved: Moved) -> TaskChange:
    entry = entry_of(job, moved.task, moved.ended) if moved.ended else None
    return TaskChange(task=moved.task, page=moved.page, ledger=entry)


def order_tasks(
    ref: JobRef, what: Command, task_ids: Sequence[str], ports: Ports
) -> dict[str, str]:
    """Give a command on some tasks of a job; returns, by id, why each of those that cannot follow does not.

    Raises: NotFound when there is none of them; InvalidTransition when the job itself cannot follow: then none does.
    """
    job = ports.jobs.job(ref)
    tasks = ports.jobs.tasks(ref, task_ids)
    missing = set(task_ids) - {task.task_id for task in tasks}
    refused = {each: f"job {ref.job_id} has no task {each}" for each in sorted(missing)}
    if not tasks:
        raise NotFound(f"job {ref.job_id} has no task {', '.join(sorted(missing)[:5])}")
    opens = what.startswith("retry") or what is Command.UNHOLD
    if opens:
        _check_not_being_killed(job, what)
    pages = sorted({task.page for task in tasks})
    stopped: list[AttemptRef] = []
    if job.orders:  # what the whole job was told before comes before this
        stopped += [each for done in _caught_up(job, pages, ports) for each in done.stopped]
        tasks = ports.jobs.tasks(ref, task_ids)
    if opens and any(_would_move(task, what, ports) for task in tasks):
        ports.jobs.change_job(ref, lambda now: _opened(now, what))

    def moved(page: Page, now: Job, task: Task) -> Moved | None:
        if opens and now.fence is Fence.KILLED:
            # It was opened for this, and killed since: where its pages know of that nobody would end the task.
            raise InvalidTransition(f"job {ref.job_id} was killed in the meantime")
        return command(task, what, is_placed=page.is_placed(task.task_id), now=ports.now())

    for number in pages:
        done = _change_page(job, number, moved, frozenset(task_ids), ports)
        job = done.job
        stopped += done.stopped
        refused |= done.refused
    ports.admission.activate(ref)
    ask_to_settle(ref, ports, is_urgent=True)
    ports.bus.publish("admit", [{"account_id": ref.account_id}])
    cancel_or_leave(job, stopped, ports)
    return refused


def cancel_or_leave(job: Job, attempts: Sequence[AttemptRef], ports: Ports) -> None:
    """Have the scheduler stop attempts that count no more, now or when it can be asked again."""
    try:
        cancel(job, attempts, ports)
    except CloudError as error:
        # They count no more: whoever claims or reports them is refused, and the sweep takes them from the scheduler.
        log("WARNING", "left at the scheduler", job_id=job.job_id, reason=str(error))


def _check_not_being_killed(job: Job, what: Command) -> None:
    if phase_of(job) is Phase.BEING_KILLED:
        has_work(job, what)


def _would_move(task: Task, what: Command, ports: Ports) -> bool:
    try:
        return command(task, what, is_placed=False, now=ports.now()) is not None
    except InvalidTransition:
        return False


def _opened(job: Job, what: Command) -> Job:
    """Return a job some of whose tasks begin again. Raises: InvalidTransition when it was killed in the meantime."""
    _check_not_being_killed(job, what)
    return replace(job, fence=FENCES[what], ended_at=None, reviewed_at=None, reviewed_by="")


def mark_downloaded(ref: TaskRef, number: int, ports: Ports) -> Applied | None:
    """Note that the frames of this attempt arrived at the artist's; None when they are not the task's current ones."""

    def decide(task: Task, _: Job) -> TaskChange | None:
        moved = downloaded(task, number)
        return TaskChange(task=moved.task, page=moved.page) if moved else None

    return ports.jobs.change_task(ref, decide)


def cancel(job: Job, attempts: Sequence[AttemptRef], ports: Ports) -> None:
    """Have the scheduler stop attempts that count no more; their own next call or the sweep stops what is left.

    Raises: CloudError, once all were tried.
    """
    if not attempts:
        return
    scheduler = ports.schedulers(ports.orchestrators.orchestrator(job.orchestrator_id))

    def stopped(ref: AttemptRef) -> CloudError | None:
        try:
            scheduler.cancel(ref.attempt_id)
        except CloudError as error:
            return error
        return None

    with ThreadPoolExecutor(_CANCELS_AT_ONCE) as pool:
        errors = [error for error in pool.map(stopped, attempts) if error]
    if errors:
        raise errors[0]
