"""What a JobStore and an AdmissionStore promise, on the real emulator."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud import firestore

from shared.core.lifecycle import Moved, Report, claim, command, follow, report
from shared.errors import AttemptWithdrawn, InvalidTransition, NotFound, StaleAttempt
from shared.models.job import (
    AttemptRef,
    Block,
    Command,
    Fence,
    Job,
    JobRef,
    Order,
    Rung,
    Sync,
    SyncState,
    TaskRef,
)
from shared.models.task import Outcome, Page, Task, TaskStatus, WaitingFor
from shared.ports import PageDecision, TaskChange
from shared.services.ledger import entry_of
from shared.stores.admission import FirestoreAdmissionStore
from shared.stores.jobs import FirestoreJobStore
from shared.tally import tally
from tests.builders import NOON, a_job, a_task, an_attempt, at, lines_of

T = TaskStatus
REF = JobRef("acme", "00001")
FIRST = TaskRef("acme", "00001", "000")
CLAIM = "claim-0000000000000001"
LARGER = Rung(
    instance_type="cpu-8-32",
    cores=8,
    memory_mib=30_720,
    price_micros_per_minute=7000,
    preemptible_micros_per_minute=2000,
)
_LATER_OF_ATTEMPT = ("memory_mib", "note")


@pytest.fixture
def jobs(database: firestore.Client) -> FirestoreJobStore:
    return FirestoreJobStore(database)


@pytest.fixture
def admission(database: firestore.Client) -> FirestoreAdmissionStore:
    return FirestoreAdmissionStore(database)


@pytest.fixture
def job(jobs: FirestoreJobStore) -> Job:
    """A stored job of three pending tasks."""
    made = a_job(task_count=3)
    jobs.create_job(made)
    jobs.add_page(made, 0, [a_task(task_id=str(n).zfill(3)) for n in range(3)])
    return made


def change(job: Job, moved: Moved | None) -> TaskChange | None:
    if moved is None:
        return None
    entry = entry_of(job, moved.task, moved.ended) if moved.ended else None
    return TaskChange(task=moved.task, page=moved.page, ledger=entry)


def claiming(claim_id: str = CLAIM) -> Callable[[Task, Job], TaskChange | None]:
    def decide(task: Task, job: Job) -> TaskChange | None:
        return change(job, claim(task, job, an_attempt(number=task.attempt, claim=claim_id)))

    return decide


def reporting(outcome: Outcome) -> Callable[[Task, Job], TaskChange | None]:
    def decide(task: Task, job: Job) -> TaskChange | None:
        return change(job, report(task, job, 1, Report(outcome=outcome, at=at(90), claim=CLAIM)))

    return decide


def test_a_job_that_begins_again_is_active_in_the_same_commit(
    jobs: FirestoreJobStore, admission: FirestoreAdmissionStore, job: Job
) -> None:
    jobs.change_job(job.ref, lambda now: replace(now, ended_at=at(90)))
    admission.strike(job.account_id, [job.job_id])
    jobs.change_job(job.ref, lambda now: replace(now, title="ended, and renamed"))
    assert admission.active_job_ids(job.account_id) == []
    jobs.change_job(job.ref, lambda now: replace(now, ended_at=None))
    assert admission.active_job_ids(job.account_id) == [job.job_id]


def test_job_ids_are_never_given_twice_even_at_once(jobs: FirestoreJobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: jobs.allocate_job_id("acme"), range(64)))
    assert len(set(ids)) == 64
    assert all(len(each) >= 5 and each.isdigit() for each in ids)


def test_a_body_posted_again_within_half_a_minute_is_the_same_job(jobs: FirestoreJobStore) -> None:
    assert jobs.claim_submission("acme", "digest", "00001", NOON) == "00001"
    assert jobs.claim_submission("acme", "digest", "00002", at(29)) == "00001"
    assert jobs.claim_submission("umbra", "digest", "00003", at(29)) == "00003"
    assert jobs.claim_submission("acme", "digest", "00004", at(31)) == "00004"
    assert jobs.claim_submission("acme", "digest", "00005", at(60)) == "00004"


def test_a_job_comes_back_as_it_was_stored(jobs: FirestoreJobStore) -> None:
    job = a_job(
        task_count=1200,
        blocks=(Block(first_page=0, start=0, end=900), Block(first_page=10, start=900, end=999)),
        scout_task_ids=("000", "599"),
        scouts_pending=True,
        metadata={"shot": "sh.040", "über": "`x`"},
        notify_emails=("ines@otter.example",),
        sync=Sync(state=SyncState.SYNCING, done_count=1, total_count=2, reason="r"),
        waiting_for=WaitingFor.SYNC,
        command=Command.KILL,
        orders=(
            Order(seq=2, command=Command.EDIT, is_for_ladder=True),
            Order(seq=3, command=Command.KILL),
        ),
        fence=Fence.KILLED,
        counts={T.PENDING: 3},
        started_at=NOON,
        standard_after=2,
        standard_micros_per_minute=6000,
        larger=(LARGER,),
        licences=("arnold", "yeti"),
    )
    assert jobs.create_job(job) is True
    assert jobs.create_job(replace(job, title="other")) is False
    assert jobs.job(job.ref) == job
    with pytest.raises(NotFound):
        jobs.job(JobRef("umbra", job.job_id))


def test_what_was_stored_before_there_was_a_ladder_is_read(
    jobs: FirestoreJobStore, database: firestore.Client, job: Job
) -> None:
    jobs.change_task(FIRST, claiming())
    later = ("standard_after", "standard_micros_per_minute", "out_of_memory_retries", "larger")
    header = database.document("accounts/acme/jobs/00001")
    header.update(dict.fromkeys(later, firestore.DELETE_FIELD))
    document = database.document("accounts/acme/jobs/00001/tasks/000")
    (attempt,) = (document.get().to_dict() or {})["attempts"]
    document.update(
        {"attempts": [{k: v for k, v in attempt.items() if k not in _LATER_OF_ATTEMPT}]}
    )
    assert jobs.job(job.ref) == job
    (found,) = jobs.task(FIRST).attempts
    assert (found.memory_mib, found.note) == (0, "")


def test_jobs_are_listed_between_two_ids(jobs: FirestoreJobStore) -> None:
    for number in range(1, 6):
        jobs.create_job(a_job(job_id=str(number).zfill(5)))
    assert [job.job_id for job in jobs.jobs_between("acme", "00001", "00004")] == ["00002", "00003"]
    assert len(jobs.jobs_between("acme", "", "")) == 5
    assert jobs.jobs_between("umbra", "", "") == []


def test_a_page_is_written_once(jobs: FirestoreJobStore, job: Job) -> None:
    assert jobs.add_page(job, 0, [a_task(command="other")]) is False
    assert jobs.task(FIRST).command == "render 1"
    (summary,) = jobs.page_summaries(job)
    assert summary.counts[T.PENDING] == 3


def test_the_pages_of_many_jobs_are_read_as_those_of_each(
    jobs: FirestoreJobStore, job: Job
) -> None:
    bare = replace(job, job_id="00009", task_count=250)
    assert jobs.create_job(bare) is True
    assert jobs.add_page(bare, 2, [a_task(task_id="200", page=2)]) is True
    found = jobs.pages_of([bare, job])
    assert found == {each.ref: jobs.page_summaries(each) for each in (job, bare)}
    assert [page.number for page in found[bare.ref]] == [2]
    assert jobs.pages_of([]) == {}


def test_placing_is_refused_when_the_page_has_changed(jobs: FirestoreJobStore, job: Job) -> None:
    page = jobs.page(REF, 0)
    assert jobs.place(REF, page, ["000", "001"], NOON) is True
    assert jobs.place(REF, page, ["002"], NOON) is False
    page = jobs.page(REF, 0)
    assert page.ready() == ["002"]
    assert (page.in_flight_count, page.ready_count, page.placed_at) == (2, 1, NOON)


def test_a_task_its_page_and_the_ledger_change_together(jobs: FirestoreJobStore, job: Job) -> None:
    jobs.place(REF, jobs.page(REF, 0), ["000"], NOON)
    assert jobs.change_task(FIRST, claiming()) is not None
    page = jobs.page(REF, 0)
    assert (page.statuses["000"], page.counts[T.RUNNING], page.in_flight_count) == (T.RUNNING, 1, 1)
    applied = jobs.change_task(FIRST, reporting(Outcome.SUCCESS))
    assert applied is not None and (applied.open_count, applied.success_count) == (2, 1)
    page = jobs.page(REF, 0)
    assert (page.statuses["000"], page.counts[T.SUCCESS], page.in_flight_count) == (T.SUCCESS, 1, 0)
    assert page.cost_micros == 3000
    (entry,) = jobs.job_ledger(REF)
    assert jobs.job_ledger(REF._replace(job_id="00002")) == []
    assert (entry.date, entry.hour, entry.project) == ("2026-03-02", "12", job.project)
    assert (entry.billed_minutes, entry.cost_micros, entry.outcome) == (2, 3000, Outcome.SUCCESS)


def test_of_many_who_claim_at_once_one_gets_the_task(jobs: FirestoreJobStore, job: Job) -> None:
    def try_claim(number: int) -> bool:
        try:
            return jobs.change_task(FIRST, claiming(f"claim-{number:016d}")) is not None
        except StaleAttempt:
            return False

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(try_claim, range(8)))
    assert won.count(True) == 1
    assert jobs.page(REF, 0).counts[T.RUNNING] == 1


def test_a_report_said_eight_times_at_once_is_billed_once(
    jobs: FirestoreJobStore, job: Job
) -> None:
    jobs.change_task(FIRST, claiming())
    with ThreadPoolExecutor(8) as pool:
        told = list(
            pool.map(lambda _: jobs.change_task(FIRST, reporting(Outcome.FAILED)), range(8))
        )
    assert sum(each is not None for each in told) == 1
    page = jobs.page(REF, 0)
    assert (page.counts[T.FAILED], page.counts[T.RUNNING], page.cost_micros) == (1, 0, 3000)


def test_a_success_counts_for_nothing_when_another_process_has_ended_the_attempt(
    jobs: FirestoreJobStore, database: firestore.Client, job: Job
) -> None:
    jobs.change_task(FIRST, claiming())
    FirestoreJobStore(database).change_task(FIRST, reporting(Outcome.FAILED))
    assert jobs.change_task(FIRST, reporting(Outcome.SUCCESS), by_task_alone=True) is None
    page = jobs.page(REF, 0)
    assert (page.statuses["000"], page.counts[T.SUCCESS], page.counts[T.RUNNING]) == (
        T.FAILED,
        0,
        0,
    )
    assert page.cost_micros == 3000


def test_a_success_is_not_refused_for_what_this_process_knew_of_an_earlier_attempt(
    jobs: FirestoreJobStore, database: firestore.Client, job: Job
) -> None:
    elsewhere = FirestoreJobStore(database)
    jobs.change_job(REF, lambda now: replace(now, preempted_retries=1))
    jobs.change_task(FIRST, claiming())
    elsewhere.change_task(FIRST, reporting(Outcome.PREEMPTED))
    elsewhere.change_task(FIRST, claiming("claim-0000000000000002"))

    def second(task: Task, now: Job) -> TaskChange | None:
        said = Report(outcome=Outcome.SUCCESS, at=at(90), claim="claim-0000000000000002")
        return change(now, report(task, now, 2, said))

    assert jobs.change_task(FIRST, second, by_task_alone=True) is not None
    assert jobs.task(FIRST).status is T.SUCCESS
    assert jobs.page(REF, 0).counts[T.SUCCESS] == 1


def test_a_success_reads_nothing_where_its_task_was_claimed_a_moment_ago(
    jobs: FirestoreJobStore, job: Job
) -> None:
    jobs.change_task(FIRST, claiming())
    tally.start()
    assert jobs.change_task(FIRST, reporting(Outcome.SUCCESS), by_task_alone=True) is not None
    assert tally.read_count == 0
    assert jobs.task(FIRST).status is T.SUCCESS


def test_from_which_attempt_a_task_is_counted_is_kept(jobs: FirestoreJobStore, job: Job) -> None:
    orders = (Order(seq=1, command=Command.KILL), Order(seq=2, command=Command.RETRY))

    def retried(task: Task, now: Job) -> TaskChange | None:
        return change(now, follow(task, orders, placed=None, now=NOON))

    assert jobs.task(FIRST).counted_from == 1
    jobs.change_task(FIRST, retried)
    assert (jobs.task(FIRST).attempt, jobs.task(FIRST).counted_from) == (2, 2)


def test_what_a_decision_raises_changes_nothing(jobs: FirestoreJobStore, job: Job) -> None:
    def refuse(task: Task, _: Job) -> TaskChange | None:
        raise InvalidTransition(task.task_id)

    with pytest.raises(InvalidTransition):
        jobs.change_task(FIRST, refuse)
    assert jobs.task(FIRST) == a_task()
    with pytest.raises(NotFound):
        jobs.change_task(TaskRef("umbra", "00001", "000"), claiming())


def test_a_heartbeat_is_kept_with_the_live_attempt_only(jobs: FirestoreJobStore, job: Job) -> None:
    jobs.change_task(FIRST, claiming())
    jobs.touch(AttemptRef("acme", "00001", "000", 1), at(50), 321)
    live = jobs.task(FIRST).live
    assert live is not None and (live.alive_at, live.memory_peak_mib) == (at(50), 321)
    jobs.touch(AttemptRef("acme", "00001", "000", 7), at(80), 9)
    live = jobs.task(FIRST).live
    assert live is not None and live.memory_peak_mib == 0


def test_a_page_changes_as_a_whole_while_its_tasks_move(jobs: FirestoreJobStore, job: Job) -> None:
    """Agents claim while a kill is carried out: every task ends up in one place, and the figures agree."""
    jobs.place(REF, jobs.page(REF, 0), ["000", "001", "002"], NOON)
    jobs.change_job(REF, lambda now: replace(now, command=Command.KILL, command_seq=1))

    def kill(page: Page, now: Job, tasks: Sequence[Task]) -> PageDecision:
        changes = []
        for task in tasks:
            placed = page.is_placed(task.task_id)
            made = change(now, command(task, Command.KILL, is_placed=placed, now=at(99)))
            changes += [made] if made else []
        return PageDecision(changes=changes, command_seq=now.command_seq)

    start = threading.Barrier(4)

    def claim_one(task_id: str) -> None:
        start.wait()
        try:
            jobs.change_task(TaskRef("acme", "00001", task_id), claiming())
        except (StaleAttempt, AttemptWithdrawn):
            return

    def kill_all() -> None:
        start.wait()
        jobs.change_page(REF, 0, kill)

    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda run: run(),
                [lambda i=i: claim_one(i) for i in ("000", "001", "002")] + [kill_all],
            )
        )
    page = jobs.page(REF, 0)
    tasks = jobs.tasks(REF, ["000", "001", "002"])
    assert {task.status for task in tasks} == {T.KILLED}
    assert (page.counts[T.KILLED], page.in_flight_count, page.command_seq) == (3, 0, 1)
    assert page.cost_micros == sum(
        attempt.cost_micros for task in tasks for attempt in task.attempts
    )


def test_log_lines_come_back_in_order_and_a_repeat_replaces(
    jobs: FirestoreJobStore, job: Job
) -> None:
    attempt = AttemptRef("acme", "00001", "000", 1)
    jobs.add_log_lines(attempt, 2, ["c"], NOON)
    jobs.add_log_lines(attempt, 0, ["a", "b"], NOON)
    jobs.add_log_lines(attempt, 2, ["c"], NOON)
    assert lines_of(jobs, attempt) == ["a", "b", "c"]
    assert lines_of(jobs, AttemptRef("acme", "00001", "000", 2)) == []


def test_a_log_is_read_to_its_end_however_few_lines_came_at_a_time(
    jobs: FirestoreJobStore, job: Job
) -> None:
    attempt = AttemptRef("acme", "00001", "000", 1)
    texts = [f"line {number}" for number in range(130)]
    for number, text in enumerate(texts):
        jobs.add_log_lines(attempt, number, [text], NOON)
    assert lines_of(jobs, attempt) == texts


def test_admission_has_one_holder_and_loses_no_call(admission: FirestoreAdmissionStore) -> None:
    admission.activate(REF)
    mine = admission.begin("acme", NOON)
    assert mine is not None and mine.job_ids == ["00001"]
    assert admission.begin("acme", at(1)) is None
    following = admission.finish(mine, at(3))
    assert following is not None and following.until > mine.until
    assert admission.finish(following, at(3)) is None
    again = admission.begin("acme", at(2))
    assert again is not None


def test_a_round_that_was_killed_is_taken_over(admission: FirestoreAdmissionStore) -> None:
    dead = admission.begin("acme", NOON)
    assert dead is not None
    later = admission.begin("acme", NOON + timedelta(minutes=2))
    assert later is not None
    assert admission.finish(dead, at(121)) is None
    assert admission.begin("acme", NOON + timedelta(minutes=2)) is None
    assert admission.finish(later, at(121)) is not None


def test_every_call_for_a_round_is_followed_by_one(admission: FirestoreAdmissionStore) -> None:
    """Many ask at once; whoever asked last was asked before some round began."""
    rounds: list[int] = []
    asked: list[int] = []
    lock = threading.Lock()

    def ask(number: int) -> None:
        with lock:
            asked.append(number)
        mine = admission.begin("acme", NOON)
        while mine is not None:
            with lock:
                rounds.append(len(asked))
            mine = admission.finish(mine, at(3))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(24)))
    assert rounds[-1] == 24


def test_struck_jobs_are_gone_and_others_stay(admission: FirestoreAdmissionStore) -> None:
    for job_id in ("00001", "00002"):
        admission.activate(JobRef("acme", job_id))
    admission.strike("acme", ["00001"])
    assert admission.active_job_ids("acme") == ["00002"]
    admission.note_backlog("acme", True)
    assert admission.has_backlog("acme") is True
    assert admission.active_job_ids("acme") == ["00002"]
