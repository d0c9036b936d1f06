"""Jobs, pages, tasks and the ledger in Firestore.

One rule keeps it fast and right: a change is guarded by the version of the one document it decides about, and adds
blindly to those that others write too. Nothing reads a shared document inside a transaction, so nothing waits for a
lock (docs/adr/0002).
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists, FailedPrecondition
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.errors import BatonError, Contended, NotFound
from shared.models.job import AttemptRef, Job, JobRef, TaskRef
from shared.models.money import LedgerEntry
from shared.models.task import ENDED, Page, PageChange, PageSummary, Task, TaskStatus
from shared.ports import Applied, LogRun, PageDecision, TaskChange
from shared.stores import documents as docs
from shared.stores.recent import Recent
from shared.stores.wire import Create, Documents, Found, Put, Update, stream
from shared.tally import tally

_TRIES = 8
_REPOST = timedelta(seconds=30)
_LOG_LINES_KEPT = timedelta(days=7)
_FEW_JOBS = 50
_REMEMBERED_JOBS = 200
_REMEMBERED_TASKS = 1_000
# Whoever runs for longer is noted as alive in its document, perhaps by another process: what is known here is old then.
_TASKS_LAST_S = 60.0
MOST_JOBS = 500
# So many of the longest lines that an agent sends (4,000 characters, up to four bytes each) fit one document (1 MiB).
_LINES_TOGETHER = 60
_RUNS_TOGETHER = 40
# So many are read well within the time that a call has.
_PAGES_TOGETHER = 1_000


class FirestoreJobStore:
    """The JobStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents.shared(client)
        self._read_jobs: dict[str, tuple[Any, Job]] = {}
        self._recent: Recent[tuple[Task, Job, Any]] = Recent(_REMEMBERED_TASKS, _TASKS_LAST_S)

    def _job(self, path: str, found: Found) -> Job:
        """Return a job read before while its document is the same: the claims of its tasks ask again and again."""
        version, job = self._read_jobs.get(path, (None, None))
        if job is None or version != found.version:
            job = docs.job_from(found.fields)
            if len(self._read_jobs) >= _REMEMBERED_JOBS:
                self._read_jobs.clear()
            self._read_jobs[path] = (found.version, job)
        return job

    def allocate_job_id(self, account_id: str) -> str:
        """Add one to the account's counter, blindly; the answer carries the new value."""
        counter = Update(
            path=f"accounts/{account_id}/counters/jobs", add={("last",): 1}, upsert=True
        )
        return str(self._documents.commit([counter])[0].added[0]).zfill(5)

    def claim_submission(self, account_id: str, digest: str, job_id: str, now: datetime) -> str:
        """The first to create the digest's document decides; an old one is taken over."""
        path = f"accounts/{account_id}/submissions/{digest}"
        mine = {"job_id": job_id, "at": now, "expires_at": now + timedelta(days=1)}
        for _ in tries(path):
            try:
                self._documents.commit([Create(path=path, fields=mine)])
                return job_id
            except AlreadyExists:
                found = self._documents.get([path])[0]
            try:
                if found is None:
                    continue
                if now - found.fields["at"] < _REPOST:
                    return str(found.fields["job_id"])
                fields = {(name,): value for name, value in mine.items()}
                self._documents.commit([Update(path=path, fields=fields, version=found.version)])
                return job_id
            except FailedPrecondition:
                continue
        raise Contended(path)

    def create_job(self, job: Job) -> bool:
        """The job and its place on the active list come in one commit."""
        try:
            self._documents.commit(
                [
                    Create(path=docs.job_path(job.ref), fields=docs.job_fields(job)),
                    _activation(job.ref),
                ]
            )
        except AlreadyExists:
            return False
        return True

    def job(self, ref: JobRef) -> Job:
        return docs.job_from(self._found(docs.job_path(ref)).fields)

    def jobs(self, refs: Iterable[JobRef]) -> list[Job]:
        found = self._documents.get([docs.job_path(ref) for ref in refs])
        return [docs.job_from(each.fields) for each in found if each]

    def jobs_between(
        self, account_id: str, above: str, below: str, equal: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """Return the jobs whose ids lie strictly between two numbers, in order; an empty bound is none."""
        if above and below and int(below) - int(above) - 1 <= _FEW_JOBS:
            # How the clients ask for one job, or a few: no query, one read each.
            ids = [str(number).zfill(5) for number in range(int(above) + 1, int(below))]
            return self.jobs(JobRef(account_id, job_id) for job_id in ids)
        query = self._client.collection(f"accounts/{account_id}/jobs").order_by("number")
        for name, value in (equal or {}).items():
            query = query.where(filter=FieldFilter(name, "==", value))
        if above:
            query = query.where(filter=FieldFilter("number", ">", int(above)))
        if below:
            query = query.where(filter=FieldFilter("number", "<", int(below)))
        found = [docs.job_from(each.to_dict() or {}) for each in stream(query.limit(MOST_JOBS))]
        tally.read_count += max(1, len(found))
        return found

    def last_job_before(self, account_id: str, at: datetime) -> str:
        return self._job_at(account_id, "<", at, firestore.Query.DESCENDING)

    def first_job_after(self, account_id: str, at: datetime) -> str:
        return self._job_at(account_id, ">", at, firestore.Query.ASCENDING)

    def _job_at(self, account_id: str, op: str, at: datetime, direction: str) -> str:
        query = (
            self._client.collection(f"accounts/{account_id}/jobs")
            .where(filter=FieldFilter("created_at", op, at))
            .order_by("created_at", direction=direction)
            .select([])
            .limit(1)
        )
        tally.read_count += 1
        return next((str(each.id) for each in stream(query)), "")

    def jobs_before(self, account_id: str, below: str, most: int) -> list[Job]:
        query = self._client.collection(f"accounts/{account_id}/jobs").order_by(
            "number", direction=firestore.Query.DESCENDING
        )
        if below:
            query = query.where(filter=FieldFilter("number", "<", int(below)))
        return [docs.job_from(each.to_dict() or {}) for each in stream(query.limit(most))]

    def change_job(self, ref: JobRef, change: Callable[[Job], Job]) -> Job:
        """A job that begins again is back on the active list in the same commit: the sweep looks nowhere else."""
        path = docs.job_path(ref)
        for _ in tries(path):
            found = self._found(path)
            before = docs.job_from(found.fields)
            after = change(before)
            old, new = docs.job_fields(before), docs.job_fields(after)
            fields = {(name,): value for name, value in new.items() if old[name] != value}
            if not fields:
                return after
            writes = [Update(path=path, fields=fields, version=found.version)]
            if before.is_ended and not after.is_ended:
                writes.append(_activation(ref))
            try:
                self._documents.commit(writes)
                return after
            except FailedPrecondition:
                continue
        raise Contended(path)

    def add_page(self, job: Job, number: int, tasks: Sequence[Task]) -> bool:
        try:
            self._documents.commit(_page_writes(job, number, tasks))
        except AlreadyExists:
            return False
        return True

    def add_pages(self, job: Job, pages: Mapping[int, Sequence[Task]]) -> None:
        writes = [_page_writes(job, number, tasks) for number, tasks in pages.items()]
        for each in self._documents.commit_each(writes):
            if isinstance(each, BaseException) and not isinstance(each, AlreadyExists):
                raise each

    def page(self, ref: JobRef, number: int) -> Page:
        found = self._found(docs.page_path(ref, number))
        return docs.page_from(found.fields, found.version)

    def page_summaries(self, job: Job) -> list[PageSummary]:
        return self.pages_of([job])[job.ref]

    def pages_of(self, jobs: Sequence[Job]) -> dict[JobRef, list[PageSummary]]:
        paths = [
            (job.ref, docs.page_path(job.ref, number))
            for job in jobs
            for number in range(job.page_count)
        ]
        pages: dict[JobRef, list[PageSummary]] = {job.ref: [] for job in jobs}
        for start in range(0, len(paths), _PAGES_TOGETHER):
            some = paths[start : start + _PAGES_TOGETHER]
            found = self._documents.get([path for _, path in some], mask=docs.SUMMARY_FIELDS)
            for (ref, _), each in zip(some, found, strict=True):
                if each:
                    pages[ref].append(docs.summary_from(each.fields))
        return pages

    def place(self, ref: JobRef, page: Page, task_ids: Sequence[str], now: datetime) -> bool:
        fields: dict[tuple[str, ...], Any] = {
            ("placed", task_id): page.attempts[task_id] for task_id in task_ids
        }
        fields[("admitted_count",)] = page.admitted_count + len(task_ids)
        fields[("placed_at",)] = now
        path = docs.page_path(ref, page.number)
        try:
            self._documents.commit([Update(path=path, fields=fields, version=page.version)])
        except FailedPrecondition:
            # Refused, unless it is our own commit that was carried out while its answer was lost.
            there = self.page(ref, page.number)
            is_ours = all(there.placed.get(each) == page.attempts[each] for each in task_ids)
            return there.placed_at == now and is_ours
        return True

    def task(self, ref: TaskRef) -> Task:
        return docs.task_from(self._found(docs.task_path(ref.job, ref.task_id)).fields)

    def tasks(self, ref: JobRef, task_ids: Iterable[str]) -> list[Task]:
        found = self._documents.get([docs.task_path(ref, task_id) for task_id in task_ids])
        return [docs.task_from(each.fields) for each in found if each]

    def task_and_job(self, ref: TaskRef) -> tuple[Task, Job]:
        paths = [docs.task_path(ref.job, ref.task_id), docs.job_path(ref.job)]
        task, job = self._documents.get(paths)
        if task is None or job is None:
            raise NotFound(f"task {ref.job_id}/{ref.task_id}")
        return docs.task_from(task.fields), self._job(paths[1], job)

    def change_task(
        self,
        ref: TaskRef,
        decide: Callable[[Task, Job], TaskChange | None],
        *,
        by_task_alone: bool = False,
    ) -> Applied | None:
        paths = [docs.task_path(ref.job, ref.task_id), docs.job_path(ref.job)]
        recent = self._recent.take(paths[0])
        if by_task_alone and recent is not None:
            applied = self._change_recent(ref, decide, recent)
            if applied is not None:
                return applied
        for _ in tries(paths[0]):
            found_task, found_job = self._documents.get_together(paths)
            if found_task is None or found_job is None:
                raise NotFound(f"task {ref.job_id}/{ref.task_id}")
            task, job = docs.task_from(found_task.fields), self._job(paths[1], found_job)
            change = decide(task, job)
            if change is None:
                return None
            binding = found_job.version if change.is_bound_to_job else None
            applied = self._apply(ref, change, job, found_task.version, binding)
            if applied is not None:
                return applied
        raise Contended(paths[0])

    def _change_recent(
        self,
        ref: TaskRef,
        decide: Callable[[Task, Job], TaskChange | None],
        recent: tuple[Task, Job, Any],
    ) -> Applied | None:
        """Change a task as this process wrote it last; None when that does not go through, for whatever reason.

        What is decided here may be about a task that has changed since: only the database's yes to its version counts.
        """
        task, job, version = recent
        try:
            change = decide(task, job)
        except BatonError:
            return None
        if change is None or change.is_bound_to_job:
            return None
        return self._apply(ref, change, job, version)

    def _apply(
        self, ref: TaskRef, change: TaskChange, job: Job, version: Any, binding: Any = None
    ) -> Applied | None:
        """Commit the change of a task; None when the task is not the one of this version any more.

        `binding` is the job's version where the change is bound to that.
        """
        writes: list[Create | Update] = [
            _task_update(ref.job, change.task, version),
            _page_update(ref.job, change.task, [change]),
            *_ledger([change]),
        ]
        if binding is not None:
            # writes what stands there already, and is refused where the job is another
            path = docs.job_path(ref.job)
            writes.append(Update(path=path, fields={("fence",): job.fence}, version=binding))
        try:
            results = self._documents.commit_together(writes)
        except (FailedPrecondition, AlreadyExists):
            return None
        if change.task.live is not None:
            name = docs.task_path(ref.job, ref.task_id)
            self._recent.put(name, (change.task, job, results[0].version))
        open_count, success_count = results[1].added[:2]
        return Applied(task=change.task, open_count=open_count, success_count=success_count)

    def change_page(
        self,
        ref: JobRef,
        number: int,
        decide: Callable[[Page, Job, Sequence[Task]], PageDecision],
    ) -> Page:
        path = docs.page_path(ref, number)
        for _ in tries(path):
            found_page, found_job = self._documents.get([path, docs.job_path(ref)])
            if found_page is None or found_job is None:
                raise NotFound(f"page {number} of job {ref.job_id}")
            page = docs.page_from(found_page.fields, found_page.version)
            job = docs.job_from(found_job.fields)
            tasks = self._documents.get([docs.task_path(ref, tid) for tid in page.statuses])
            found = {each.fields["task_id"]: each for each in tasks if each}
            decision = decide(page, job, [docs.task_from(each.fields) for each in found.values()])
            changes = decision.changes
            if not changes and decision.command_seq == page.command_seq:
                return page
            update = _page_update(ref, None, changes, page, decision.command_seq)
            writes: list[Create | Update] = [update, *_ledger(changes)]
            writes += [_task_update(ref, c.task, found[c.task.task_id].version) for c in changes]
            if job.is_ended and any(_open(c.page.after) > _open(c.page.before) for c in changes):
                # It may have been summed since it was opened: what begins again is never left to nobody.
                again = {("ended_at",): None}
                writes += [Update(path=docs.job_path(ref), fields=again), _activation(ref)]
            try:
                self._documents.commit(writes)
                return page
            except (FailedPrecondition, AlreadyExists):
                continue
        raise Contended(path)

    def job_ledger(self, ref: JobRef) -> list[LedgerEntry]:
        """The order is that of the index by which a job's endings are found: it takes no other."""
        query = (
            self._client.collection(f"accounts/{ref.account_id}/ledger")
            .where(filter=FieldFilter("job_id", "==", ref.job_id))
            .order_by("outcome")
            .order_by("ended_at", direction=firestore.Query.DESCENDING)
        )
        found = [docs.ledger_from(each.to_dict() or {}) for each in stream(query)]
        tally.read_count += max(1, len(found))
        return found

    def touch(self, attempt: AttemptRef, now: datetime, memory_peak_mib: int) -> None:
        alive = {"number": attempt.number, "at": now, "memory_peak_mib": memory_peak_mib}
        path = docs.task_path(attempt.task.job, attempt.task_id)
        self._documents.commit([Update(path=path, fields={("alive",): alive})])

    def watch(self, ref: TaskRef, until: datetime) -> None:
        path = docs.task_path(ref.job, ref.task_id)
        self._documents.commit([Update(path=path, fields={("watched_until",): until})])

    def add_log_lines(
        self, attempt: AttemptRef, first_line: int, lines: Sequence[str], now: datetime
    ) -> None:
        writes = []
        for start in range(0, len(lines), _LINES_TOGETHER):
            fields = {
                "task_id": attempt.task_id,
                "attempt": attempt.number,
                "first_line": first_line + start,
                "lines": list(lines[start : start + _LINES_TOGETHER]),
                "expires_at": now + _LOG_LINES_KEPT,
            }
            name = f"{attempt.task_id}-{attempt.number}-{first_line + start:08d}"
            writes.append(Put(path=f"{docs.job_path(attempt.task.job)}/logs/{name}", fields=fields))
        self._documents.commit(writes)

    def log_runs(self, attempt: AttemptRef, first: int) -> list[LogRun]:
        """Their names are in the order of their lines; the first that is asked for may be inside a document."""
        logs = self._client.collection(f"{docs.job_path(attempt.task.job)}/logs")
        name = f"{attempt.task_id}-{attempt.number}-"
        since = logs.document(f"{name}{max(first - _LINES_TOGETHER + 1, 0):08d}")
        query = (
            logs.where(filter=FieldFilter("__name__", ">=", since))
            .where(filter=FieldFilter("__name__", "<", logs.document(f"{name}:")))
            .order_by("__name__")
            .limit(_LINES_TOGETHER - 1 + _RUNS_TOGETHER)  # so many before it may be of one line
        )
        found = [each.to_dict() or {} for each in stream(query)]
        tally.read_count += max(1, len(found))
        runs = (LogRun(int(each["first_line"]), each["lines"]) for each in found)
        return [run for run in runs if run.first + len(run.lines) > first]

    def _found(self, path: str) -> Found:
        found = self._documents.get([path])[0]
        if found is None:
            raise NotFound(path.rpartition("/")[2])
        return found


def tries(path: str) -> Iterator[int]:
    """Count tries; wait a little, at random, between them, so that two who collide do not collide again."""
    for number in range(_TRIES):
        if number:
            time.sleep(random.uniform(0, 0.02 * 2**number))
        yield number


def _activation(ref: JobRef) -> Update:
    """Return the write that puts a job on the account's active list."""
    path = f"accounts/{ref.account_id}/state/admission"
    return Update(path=path, fields={("jobs", ref.job_id): True}, upsert=True)


def _page_writes(job: Job, number: int, tasks: Sequence[Task]) -> list[Create | Put]:
    """Return the writes of a new page and its tasks."""
    fields = docs.new_page_fields(number, list(tasks), job.project)
    return [
        Create(path=docs.page_path(job.ref, number), fields=fields),
        *(
            Put(
                path=docs.task_path(job.ref, task.task_id),
                fields=docs.task_fields(task, job.project),
            )
            for task in tasks
        ),
    ]


def _task_update(ref: JobRef, task: Task, version: Any) -> Update:
    path = docs.task_path(ref, task.task_id)
    return Update(path=path, fields=docs.changed_task_fields(task), version=version)


def _ledger(changes: Sequence[TaskChange]) -> list[Create]:
    return [
        Create(path=docs.ledger_path(each.ledger.attempt), fields=docs.ledger_fields(each.ledger))
        for each in changes
        if each.ledger
    ]


def _page_update(
    ref: JobRef,
    task: Task | None,
    changes: Sequence[TaskChange],
    page: Page | None = None,
    command_seq: int = 0,
) -> Update:
    """Return the one write of a page for these changes; `open_count` and the successes are added to first."""
    fields: dict[tuple[str, ...], Any] = {}
    add: dict[tuple[str, ...], int] = {("open_count",): 0, ("counts", TaskStatus.SUCCESS): 0}
    for each in changes:
        _count(add, each.page)
        fields[("statuses", each.task.task_id)] = each.task.status
        fields[("attempts", each.task.task_id)] = each.task.attempt
    if page is not None:
        fields[("command_seq",)] = command_seq
        number, version = page.number, page.version
    else:
        assert task is not None
        number, version = task.page, None
    return Update(path=docs.page_path(ref, number), fields=fields, add=add, version=version)


def _count(add: dict[tuple[str, ...], int], change: PageChange) -> None:
    def plus(name: tuple[str, ...], number: int) -> None:
        if number:
            add[name] = add.get(name, 0) + number

    plus(("open_count",), _open(change.after) - _open(change.before))
    plus(("counts", change.before), -1)
    plus(("counts", change.after), 1)
    plus(("ended_count",), change.ended_count)
    plus(("cost_micros",), change.cost_micros)


def _open(status: TaskStatus) -> int:
    return int(status not in ENDED)
