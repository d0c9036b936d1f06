"""Audit: check that jobs, pages, tasks and ledger agree.

Reads only; run nightly and after every scenario test.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from shared.core.admission import in_flight_counts
from shared.core.limits import seats_taken
from shared.core.pricing import billed_minutes
from shared.models.account import Account
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import ENDED, Page, Task, TaskStatus
from shared.ports import Ports

# A round of admission that began before a limit was lowered may go on for so long.
_ROUND = timedelta(minutes=1)


def audit(account_id: str, job_ids: Sequence[str], ports: Ports) -> list[str]:
    """Return a sentence for each broken invariant of these jobs; an empty list means the books are right.

    A job that is being worked on may change between two reads: audit jobs that are at rest. Takes a read for each job,
    task and ledger entry, and two for each page.
    """
    broken: list[str] = []
    in_flight_count = 0
    licensed: list[tuple[Job, Sequence[Page]]] = []
    for job_id in job_ids:
        ref = JobRef(account_id, job_id)
        begun_at = ports.now()
        found_jobs = ports.jobs.jobs([ref])
        if not found_jobs:
            broken.append(f"job {job_id}: 1: it is on the list and not there")
            continue
        job = found_jobs[0]
        pages = [ports.jobs.page(ref, page.number) for page in ports.jobs.page_summaries(job)]
        tasks = [task for page in pages for task in ports.jobs.tasks(ref, sorted(page.statuses))]
        in_flight_count += sum(page.in_flight_count for page in pages)
        if job.licences:
            licensed.append((job, pages))
        for found in (
            _tasks_are_all_there(job, tasks),
            _every_task_ends_or_waits_for_something(job, tasks),
            _one_live_attempt(tasks),
            _pages_count_right(pages, tasks),
            _job_sums_its_pages(job, pages),
            _ledger_is_right(job, tasks, begun_at, ports),
        ):
            broken += [f"job {job_id}: {sentence}" for sentence in found]
    account = ports.accounts.account(account_id)
    limit = account.max_instances
    if in_flight_count > limit:
        broken.append(f"{in_flight_count} attempts in flight, the account's limit is {limit}")
    return broken + list(_seats_are_enough(account, licensed))


def _seats_are_enough(
    account: Account, licensed: Sequence[tuple[Job, Sequence[Page]]]
) -> Iterator[str]:
    """Seats that were taken away while attempts had them are none too few until something was placed since."""
    in_flight = in_flight_counts({job.ref: pages for job, pages in licensed})
    taken = seats_taken([job for job, _ in licensed], in_flight)
    since = account.licences_set_at
    for product, seats in account.licences.items():
        placed = [
            page.placed_at
            for job, pages in licensed
            for page in pages
            if product in job.licences and page.in_flight_count and page.placed_at
        ]
        is_since = since is None or any(at > since + _ROUND for at in placed)
        if taken[product] > seats and is_since:
            yield f"4: {taken[product]} attempts in flight take {product}, there are {seats} seats"


def _tasks_are_all_there(job: Job, tasks: Sequence[Task]) -> Iterator[str]:
    if len(tasks) != job.task_count:
        yield f"1: {len(tasks)} tasks of {job.task_count} are there"


def _every_task_ends_or_waits_for_something(job: Job, tasks: Sequence[Task]) -> Iterator[str]:
    waiting = [task for task in tasks if task.status in (TaskStatus.PENDING, TaskStatus.HOLDING)]
    if waiting and job.waiting_for is None and not any(task.live for task in tasks):
        yield f"1: {len(waiting)} tasks wait, and nothing says for what"


def _one_live_attempt(tasks: Sequence[Task]) -> Iterator[str]:
    for task in tasks:
        live = [attempt for attempt in task.attempts if attempt.outcome is None]
        if len(live) != (task.status is TaskStatus.RUNNING):
            yield f"2: task {task.task_id} is {task.status} with {len(live)} live attempts"
        numbers = [attempt.number for attempt in task.attempts]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > task.attempt):
            yield f"2: task {task.task_id} at attempt {task.attempt} has attempts {numbers}"


def _pages_count_right(pages: Sequence[Page], tasks: Sequence[Task]) -> Iterator[str]:
    by_page: dict[int, list[Task]] = {page.number: [] for page in pages}
    for task in tasks:
        by_page[task.page].append(task)
    for page in pages:
        there = by_page[page.number]
        counts = Counter(task.status for task in there)
        if counts != +Counter(dict(page.counts)):
            yield f"3: page {page.number} counts {dict(page.counts)}, its tasks are {dict(counts)}"
        if dict(page.statuses) != {task.task_id: task.status for task in there}:
            yield f"3: page {page.number} shows other statuses than its tasks have"
        if dict(page.attempts) != {task.task_id: task.attempt for task in there}:
            yield f"3: page {page.number} shows other attempts than its tasks have"
        placed_count = sum(
            task.status is TaskStatus.PENDING and page.is_placed(task.task_id) for task in there
        )
        in_flight_count = placed_count + counts[TaskStatus.RUNNING]
        if page.in_flight_count != in_flight_count:
            yield f"4: page {page.number} has {in_flight_count} in flight, says {page.in_flight_count}"


def _job_sums_its_pages(job: Job, pages: Sequence[Page]) -> Iterator[str]:
    counts: Counter[TaskStatus] = Counter()
    for page in pages:
        counts.update(page.counts)
    if +counts != +Counter(dict(job.counts)):
        yield f"3: the job counts {dict(job.counts)}, its pages {dict(+counts)}"
    cost = sum(page.cost_micros for page in pages)
    if job.cost_micros != cost:
        yield f"5: the job cost {job.cost_micros}, its pages {cost}"
    has_ended = sum(counts[status] for status in ENDED) == job.task_count
    if job.is_ended != has_ended:
        yield f"3: the job is {job.status}, ended: {job.is_ended}, though its tasks ended: {has_ended}"


def _ledger_is_right(
    job: Job, tasks: Sequence[Task], begun_at: datetime, ports: Ports
) -> Iterator[str]:
    """What ended is billed once, and nothing else is; what has ended since the tasks were read is passed over."""
    ended = {
        AttemptRef(job.account_id, job.job_id, task.task_id, attempt.number): attempt
        for task in tasks
        for attempt in task.attempts
        if attempt.outcome is not None
    }
    billed = [
        entry
        for entry in ports.jobs.job_ledger(job.ref)
        if entry.attempt in ended or entry.ended_at < begun_at
    ]
    for ref, count in Counter(entry.attempt for entry in billed).items():
        if ref not in ended:
            yield f"5: attempt {ref.attempt_id} is billed, and has never ended"
        if count > 1:
            yield f"5: attempt {ref.attempt_id} is billed {count} times"
    entries = {entry.attempt: entry for entry in billed}
    for ref, attempt in ended.items():
        entry = entries.get(ref)
        if entry is None:
            yield f"5: attempt {ref.attempt_id} is not in the ledger"
            continue
        assert attempt.ended_at is not None
        minutes = billed_minutes(attempt.started_at, attempt.ended_at)
        price = attempt.price_micros_per_minute
        if (entry.billed_minutes, entry.cost_micros) != (minutes, minutes * price):
            yield f"5: attempt {ref.attempt_id} is billed {entry.cost_micros}, ran {minutes} minutes at {price}"
    cost = sum(entry.cost_micros for entry in billed)
    if cost != job.cost_micros:
        yield f"5: the ledger says {cost}, the job {job.cost_micros}"
