"""Admit: let the next tasks of an account start, one round at a time, within every limit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from shared.core.admission import Turn, is_admissible, ready_count, turns
from shared.core.limits import Limit
from shared.core.placement import Choice, home_for
from shared.core.recovery import at_home
from shared.core.unserved import is_unserved
from shared.errors import CloudError, Transient, Unreachable
from shared.log import log, reason_of
from shared.models.account import Account
from shared.models.farm import Orchestrator
from shared.models.job import Job, JobRef
from shared.models.task import LIMITS, PageSummary, TaskStatus, WaitingFor
from shared.ports import Ports, Round
from shared.services.active import strike
from shared.services.ask import ask_to_scale
from shared.services.place import place
from shared.services.recall import make_room
from shared.services.spending import spending
from shared.tally import aside

# So many attempts a message: one handler gives them to the scheduler well within the time it has.
PLACED_TOGETHER = 50
_TRIES = 6
# Under a steady stream of calls one handler would go on for ever: after so many rounds a message takes over.
_ROUNDS = 3
_WITH_SCHEDULER = "its tasks are with the scheduler"


class _Home(NamedTuple):
    """Where a job that has no place yet shall run, None for nowhere, and what speaks for that."""

    orchestrator: Orchestrator | None
    choice: Choice


class _Chunk(NamedTuple):
    """Tasks of one page that were noted as placed, with the numbers of their attempts."""

    page: int
    attempts: dict[str, int]


Homes = Mapping[JobRef, _Home]
Pages = Mapping[JobRef, Sequence[PageSummary]]


def admit(account_id: str, ports: Ports) -> None:
    """Run a round, and another when somebody asks meanwhile; when somebody else is at it, they will go round again."""
    account = ports.accounts.account(account_id)  # no lease is left behind where there is none
    mine = ports.admission.begin(account_id, ports.now())
    if mine is None:
        return
    try:
        for _ in range(_ROUNDS):
            mine = _round(mine, account, ports)
            following = ports.admission.finish(mine, ports.now())
            if following is None:
                return
            mine, account = following, ports.accounts.account(account_id)
    except BaseException:
        ports.admission.release(mine)
        raise
    ports.admission.release(mine)
    ports.bus.publish("admit", [{"account_id": account_id}])


def _round(mine: Round, account: Account, ports: Ports) -> Round:
    """Start what may start, in time; tell the others why they wait."""
    jobs = ports.jobs.jobs(JobRef(mine.account_id, job_id) for job_id in mine.job_ids)
    strike(mine.account_id, [job.job_id for job in jobs if job.is_ended], ports)
    jobs = [job for job in jobs if not job.is_ended]
    pages = ports.jobs.pages_of(jobs)
    # The ledger is summed only after the pages were read: what ends in between is counted twice, and never missed.
    spent = spending(account, jobs, pages, ports)
    unserved = [job for job in jobs if job.unserved_since and is_unserved(job, ports.now())]
    homes = _homes(jobs, pages, ports)
    found = turns(
        account,
        jobs,
        pages,
        spent,
        unserved={job.ref for job in unserved},
        homeless=_homeless(homes),
    )
    placed_count, faults = _take_turns(found, pages, homes, mine, ports)
    has_backlog = placed_count < sum(turn.ready_count for turn in found)
    _tell_those_without_a_turn(jobs, found, pages, ports)
    make_room(unserved, found, pages, ports)
    if has_backlog != mine.has_backlog:
        ports.admission.note_backlog(mine.account_id, has_backlog)
        mine = replace(mine, has_backlog=has_backlog)
        if has_backlog:
            # An attempt that ended before this note called for nobody: look once more, and again when those who asked
            # a moment ago have forgotten what they heard.
            ports.bus.publish("admit", [{"account_id": mine.account_id}])
            return _round(mine, ports.accounts.account(mine.account_id), ports)
    if faults:
        raise faults[0]
    return mine


def _homes(jobs: Sequence[Job], pages: Pages, ports: Ports) -> dict[JobRef, _Home]:
    """Return where those jobs would run that could start and have no place yet."""
    looking = [job for job in jobs if not job.orchestrator_id and ready_count(job, pages)]
    known = {}
    if looking:
        known = {each.orchestrator_id: each for each in ports.orchestrators.orchestrators()}
    found = {}
    for job in looking:
        choice = home_for(
            job, list(known.values()), store_region=ports.store_region, now=ports.now()
        )
        found[job.ref] = _Home(known.get(choice.orchestrator_id or ""), choice)
    return found


def _homeless(homes: Homes) -> dict[JobRef, Limit]:
    """Return why jobs can be placed nowhere: they take nothing of what others could use."""
    return {
        ref: Limit(
            reason=choice.waiting_for or WaitingFor.ADMISSION,
            left=0,
            takes={ref: 1},
            note=choice.note,
        )
        for ref, (orchestrator, choice) in homes.items()
        if orchestrator is None
    }


def _take_turns(
    found: Sequence[Turn], pages: Pages, homes: Homes, mine: Round, ports: Ports
) -> tuple[int, list[Transient]]:
    """Start what may start of each job; returns how many tasks, and what went wrong with some jobs and may pass.

    Whatever goes wrong with one leaves the others alone; what does not pass is tried again by each sweep.
    Raises: Unreachable, for then it would go wrong with the others too.
    """
    placed_count = 0
    faults: list[Transient] = []
    for turn in found:
        ref = turn.job.ref
        try:
            placed_count += _start(turn, homes.get(ref), pages[ref], mine.until, ports)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001  logged, and tried again
            log("ERROR", "not started", **ref._asdict(), reason=reason_of(error))
            if isinstance(error, Transient):
                faults.append(error)
        if ports.now() >= mine.until:
            ports.bus.publish("admit", [{"account_id": mine.account_id}])
            break
    return placed_count, faults


def _start(
    turn: Turn,
    home: _Home | None,
    summaries: Sequence[PageSummary],
    until: datetime,
    ports: Ports,
) -> int:
    """Give as many tasks of one job to the scheduler as its turn allows, before `until`; returns how many."""
    job = _told(turn, home, ports)
    if turn.quota and not job.orchestrator_id:
        return 0
    chunks = _chunks(job.ref, summaries, turn.quota, until, ports)
    first = next(chunks, None)
    if first is None:
        return 0
    others: list[_Chunk] = []
    with aside(partial(_place_here, job, first, ports)):  # the first frames wait for no others
        try:
            for chunk in chunks:
                others.append(chunk)  # noqa: PERF402  what was noted as placed is kept when the next fails
        finally:
            _send(job, others, ports)
    ask_to_scale(job.orchestrator_id, ports)
    return sum(len(chunk.attempts) for chunk in [first, *others])


def _chunks(
    ref: JobRef, summaries: Sequence[PageSummary], most: int, until: datetime, ports: Ports
) -> Iterator[_Chunk]:
    """Note the next ready tasks of a job as placed, page by page; no other round takes up what is noted."""
    for summary in summaries:
        if most and summary.ready_count > 0:
            taken = list(_take(ref, summary.number, most, until, ports).items())
            most -= len(taken)
            for start in range(0, len(taken), PLACED_TOGETHER):
                yield _Chunk(summary.number, dict(taken[start : start + PLACED_TOGETHER]))


def _tell_those_without_a_turn(
    jobs: Sequence[Job],
    found: Sequence[Turn],
    pages: Mapping[JobRef, Sequence[PageSummary]],
    ports: Ports,
) -> None:
    """Take the limit back from jobs of which it holds back nothing any more; if none of it waits, settle says so."""
    has_turn = {turn.job.ref for turn in found}
    for job in jobs:
        waits = any(page.counts.get(TaskStatus.PENDING, 0) for page in pages[job.ref])
        if job.waiting_for in LIMITS and job.ref not in has_turn and waits and is_admissible(job):
            _note(job, WaitingFor.SCHEDULER, _WITH_SCHEDULER, ports)


def _take(ref: JobRef, number: int, most: int, until: datetime, ports: Ports) -> dict[str, int]:
    """Note the next ready tasks of a page as placed, none from `until` on; returns their attempts."""
    for _ in range(_TRIES):
        page = ports.jobs.page(ref, number)
        task_ids = page.ready()[:most]
        if not task_ids or ports.now() >= until:
            return {}
        if ports.jobs.place(ref, page, task_ids, ports.now()):
            return {task_id: page.attempts[task_id] for task_id in task_ids}
    # The page changes faster than it can be read: those changes call for another round themselves.
    return {}


def _place_here(job: Job, chunk: _Chunk, ports: Ports) -> None:
    """Give a chunk to the scheduler without a message: it saves the first frames a trip."""
    try:
        place(job.ref, chunk.page, chunk.attempts, ports)
    except CloudError as error:
        # They are noted as placed: the next round passes them over, a message of their own does not.
        log("WARNING", "placed by message", job_id=job.job_id, reason=str(error))
        _send(job, [chunk], ports)


def _send(job: Job, chunks: Sequence[_Chunk], ports: Ports) -> None:
    """Have each chunk given to the scheduler by a message of its own."""
    messages = [
        {
            "account_id": job.account_id,
            "job_id": job.job_id,
            "page": chunk.page,
            "attempts": chunk.attempts,
            "is_last": chunk is chunks[-1],
        }
        for chunk in chunks
    ]
    if messages:
        ports.bus.publish("place", messages)


def _told(turn: Turn, home: _Home | None, ports: Ports) -> Job:
    """Say on a job, in one write, where it runs and what some of it still waits for; returns it as it is then."""
    job = turn.job
    reason, note = job.waiting_for, job.waiting_note
    if turn.quota < turn.ready_count:
        reason, note = turn.waiting_for, turn.note
    elif reason in LIMITS or reason is WaitingFor.ADMISSION:
        reason, note = WaitingFor.SCHEDULER, _WITH_SCHEDULER
    chosen = home.orchestrator if home and turn.quota else None
    if not chosen and (reason, note) == (job.waiting_for, job.waiting_note):
        return job
    why = _why(job, home) if home and chosen else {}

    def told(now: Job) -> Job:
        # An edit since may ask for what this one does not have: the next round chooses anew.
        is_same = (now.instance_type, now.is_preemptible) == (
            job.instance_type,
            job.is_preemptible,
        )
        if chosen and is_same and not now.orchestrator_id:
            now = replace(at_home(now, chosen), placement=why)
        if turn.quota and not now.orchestrator_id:
            return now
        return replace(now, waiting_for=reason, waiting_note=note)

    return ports.jobs.change_job(job.ref, told)


def _why(job: Job, home: _Home) -> dict[str, Any]:
    """Return what speaks for a job's home, and log it."""
    choice = home.choice
    why: dict[str, Any] = {"scores": choice.scores, "weights": asdict(choice.weights)}
    log(
        "INFO",
        "job placed",
        account_id=job.account_id,
        job_id=job.job_id,
        orchestrator_id=choice.orchestrator_id,
        **why,
    )
    return why


def _note(job: Job, reason: WaitingFor, note: str, ports: Ports) -> None:
    if (job.waiting_for, job.waiting_note) != (reason, note):
        ports.jobs.change_job(
            job.ref, lambda now: replace(now, waiting_for=reason, waiting_note=note)
        )
