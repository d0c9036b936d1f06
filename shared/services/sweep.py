"""Sweep: find and finish whatever stopped half way, for every active job. Run every minute; harmless at any time.

A job of up to a hundred tasks in good order takes five reads, one after the other, and every further page two or
three: a studio may have thousands of jobs, and a job thousands of pages. So whatever has no bound is handed on in
messages, each of which is done well within its time, comes again without harm, and needs none of the others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache, partial
from typing import TypeVar

from shared.core.outstanding import missing_pages, unfinished_pages
from shared.log import log, reason_of
from shared.models.farm import Placement, Stage
from shared.models.job import AttemptRef, Job, JobRef, SyncState
from shared.models.task import Page, PageSummary, TaskStatus
from shared.ports import Ports
from shared.services.control import PAGES_TOGETHER, block_messages, cancel
from shared.services.place import place
from shared.services.reconcile import lose
from shared.services.settle import settle
from shared.services.trust import ALIVE
from shared.services.unclaimed import take_back

# Younger than this, a job or a placement is most likely on its way.
_PATIENCE = timedelta(seconds=30)
# An agent that cannot reach us gives up after 15 minutes (docs/protocol.md); one that is silent for longer is gone.
_SILENCE = timedelta(minutes=17)
# So many jobs a message, and of each of them PAGES_TOGETHER pages that have something in flight.
JOBS_TOGETHER = 50

Item = TypeVar("Item")
Result = TypeVar("Result")
Placements = Callable[[str], Sequence[Placement] | None]


def ask_to_sweep(ports: Ports) -> int:
    """Have all active jobs swept, some of an account together, and every orchestrator; returns how many jobs.

    What an account may start is looked at too, by a round of admission. However long one of them takes, the others
    have their own time.
    """
    active = {each: ports.admission.active_job_ids(each) for each in ports.admission.accounts()}
    ports.bus.publish(
        "admit", [{"account_id": each} for each, job_ids in active.items() if job_ids]
    )
    wanted: list[dict[str, object]] = [
        {"account_id": account_id, "job_ids": some}
        for account_id, job_ids in active.items()
        for some in _parts(job_ids, JOBS_TOGETHER)
    ]
    wanted += [
        {"orchestrator_id": each.orchestrator_id} for each in ports.orchestrators.orchestrators()
    ]
    ports.bus.publish("sweep", wanted)
    return sum(map(len, active.values()))


def sweep_jobs(
    account_id: str, job_ids: Sequence[str], placements: Placements, ports: Ports
) -> None:
    """Look at these jobs of an account, and at the first pages of each that have something in flight.

    `placements` returns what the scheduler of an orchestrator lists, None when it could not be asked. The other pages
    get messages of their own. Whatever goes wrong with one job is logged and leaves the others alone.
    """
    known = _knowing(placements)
    for job_id in job_ids:
        ref = JobRef(account_id, job_id)
        _alone(partial(_sweep_job, ref, known, ports), ref)


def sweep_pages(ref: JobRef, numbers: Sequence[int], placements: Placements, ports: Ports) -> None:
    """Look at these pages of a job; whatever goes wrong with one is logged and leaves the others alone.

    Raises: NotFound when there is no such job.
    """
    _sweep_pages(ports.jobs.job(ref), numbers, _knowing(placements), ports)


def cancel_stale(placements: Iterable[Placement], ports: Ports) -> None:
    """Take from a scheduler what waits there and was killed, held or tried anew: nothing boots for it."""
    for ref, waiting in _waiting(placements).items():
        _alone(partial(_cancel_stale, ref, waiting, ports), ref)


class _Known:
    """The attempts of which a scheduler knows, and those that it has struck off its books and still shows."""

    def __init__(self, placements: Iterable[Placement]) -> None:
        self.ids: set[str] = set()
        self.struck_ids: set[str] = set()
        for each in placements:
            ids = self.struck_ids if each.stage is Stage.FORGOTTEN else self.ids
            ids.add(each.attempt_id)


def _knowing(placements: Placements) -> Callable[[str], _Known | None]:
    @cache
    def known(orchestrator_id: str) -> _Known | None:
        listed = placements(orchestrator_id)
        return None if listed is None else _Known(listed)

    return known


def _parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _alone(work: Callable[[], Result], ref: JobRef) -> Result | None:
    """Do one piece of work whose trouble, ours or a provider's, is nobody else's; None when there was any."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  logged, and tried again by the next sweep
        log("ERROR", "not swept", **ref._asdict(), reason=reason_of(error))
        return None


def _sweep_job(ref: JobRef, known: Callable[[str], _Known | None], ports: Ports) -> None:
    job = ports.jobs.job(ref)
    if ports.now() - job.created_at < _PATIENCE:
        return
    job = _alone(partial(settle, ref, ports), ref) or job
    pages = ports.jobs.page_summaries(job)
    busy = _parts([page.number for page in pages if page.in_flight_count], PAGES_TOGETHER)
    steps: list[Callable[[], None]] = [partial(_ask_again, job, pages, busy[1:], ports)]
    if busy:
        steps.append(partial(_sweep_pages, job, busy[0], known, ports))
    for step in steps:
        _alone(step, ref)


def _ask_again(
    job: Job, pages: Sequence[PageSummary], busy: Sequence[Sequence[int]], ports: Ports
) -> None:
    """Send again what may have been lost: messages for pages that are missing or behind, and for the inputs.

    Those of `busy` pages are the sweep's own.
    """
    ids = {"account_id": job.account_id, "job_id": job.job_id}
    ports.bus.publish("sweep", [ids | {"pages": numbers} for numbers in busy])
    ports.bus.publish("expand", block_messages(job, missing_pages(job, pages)))
    ports.bus.publish("command", block_messages(job, unfinished_pages(job, pages)))
    if job.sync.state in (SyncState.PENDING, SyncState.SYNCING):
        ports.bus.publish("sync", [ids])


def _sweep_pages(
    job: Job, numbers: Sequence[int], known: Callable[[str], _Known | None], ports: Ports
) -> None:
    placed = known(job.orchestrator_id)
    if placed is None:
        return
    for number in numbers:
        _alone(partial(_sweep_page, job, number, placed, ports), job.ref)


def _sweep_page(job: Job, number: int, known: _Known, ports: Ports) -> None:
    page = ports.jobs.page(job.ref, number)
    _alone(partial(_place_again, job, page, known, ports), job.ref)
    _lose_silent(job, page, known, ports)


def _place_again(job: Job, page: Page, known: _Known, ports: Ports) -> None:
    """Submit what was placed and never reached the scheduler; the attempt's id makes a repeat harmless.

    Its message has come again and again by now. What was there and was struck off unclaimed, as somebody does by hand,
    is placed anew under its next number: the old one's machine may yet claim it.
    """
    if page.placed_at is None or ports.now() - page.placed_at < _PATIENCE:
        return
    strays = {
        task_id: page.attempts[task_id]
        for task_id, status in page.statuses.items()
        if status is TaskStatus.PENDING
        and page.is_placed(task_id)
        and _attempt(job, page, task_id).attempt_id not in known.ids
    }
    struck = [
        task_id for task_id in strays if _attempt(job, page, task_id).attempt_id in known.struck_ids
    ]
    for task_id in struck:
        attempt = _attempt(job, page, task_id)
        _alone(partial(take_back, attempt, ports, "struck off at the scheduler"), job.ref)
        del strays[task_id]
    if strays:
        place(job.ref, page.number, strays, ports, is_last_try=True)


def _lose_silent(job: Job, page: Page, known: _Known, ports: Ports) -> None:
    """End what runs, is in no list of the scheduler, and whose agent has been silent for longer than agents live so.

    What the scheduler has struck off its books was seen to end there: of that any silence is the end.
    """
    unlisted = [
        task_id
        for task_id, status in page.statuses.items()
        if status is TaskStatus.RUNNING and _attempt(job, page, task_id).attempt_id not in known.ids
    ]
    for task in ports.jobs.tasks(job.ref, unlisted):
        live = task.live
        if live is None:
            continue
        attempt = AttemptRef(job.account_id, job.job_id, task.task_id, live.number)
        patience = ALIVE if attempt.attempt_id in known.struck_ids else _SILENCE
        if ports.now() - live.alive_at > patience:
            lose(task, attempt, "neither its agent nor the scheduler knows of it any more", ports)


def _waiting(placements: Iterable[Placement]) -> dict[JobRef, list[AttemptRef]]:
    """Return what waits at a scheduler, by job."""
    found: dict[JobRef, list[AttemptRef]] = defaultdict(list)
    for placement in placements:
        if placement.stage is Stage.WAITING:
            ref = AttemptRef.parse(placement.attempt_id)
            found[ref.task.job].append(ref)
    return found


def _cancel_stale(ref: JobRef, waiting: Sequence[AttemptRef], ports: Ports) -> None:
    """Take from the scheduler what was killed, held or tried anew while it could not be told."""
    tasks = {
        task.task_id: task for task in ports.jobs.tasks(ref, [each.task_id for each in waiting])
    }
    stale = [
        each
        for each in waiting
        if (task := tasks.get(each.task_id)) is not None
        and (task.attempt != each.number or task.status in (TaskStatus.HOLDING, TaskStatus.KILLED))
    ]
    if stale:
        cancel(ports.jobs.job(ref), stale, ports)


def _attempt(job: Job, page: Page, task_id: str) -> AttemptRef:
    return AttemptRef(job.account_id, job.job_id, task_id, page.attempts[task_id])
