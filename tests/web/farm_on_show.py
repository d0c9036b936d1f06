"""Jobs, pages and tasks in Firestore as the functions write them, for the dashboard to show."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.cloud import firestore

from shared.models.job import Job, JobStatus, Sync, SyncState
from shared.models.task import TASKS_PER_PAGE, Attempt, Outcome, Task, TaskStatus, WaitingFor
from shared.stores import documents

PRICE_MICROS = 4_150
Item = TypeVar("Item")


def a_job(account_id: str, job_id: str = "00001", **changes: Any) -> Job:
    """Return a running job of 12 tasks, submitted five minutes ago."""
    now = datetime.now(UTC)
    job = Job(
        account_id=account_id,
        job_id=job_id,
        title="shot_010 beauty v003",
        project="alpha",
        owner="ada@studio.example",
        created_at=now - timedelta(minutes=5),
        started_at=now - timedelta(minutes=4),
        task_count=12,
        instance_type="n1-standard-4",
        is_preemptible=True,
        price_micros_per_minute=PRICE_MICROS,
        memory_mib=15_360,
        output_path="/projects/alpha/renders/shot_010/beauty",
        status=JobStatus.RUNNING,
        orchestrator_id="nomad-us-central1",
        sync=Sync(state=SyncState.DONE),
    )
    return replace(job, **changes)


def an_attempt(number: int = 1, **changes: Any) -> Attempt:
    """Return an attempt that has been running for three minutes."""
    started_at = datetime.now(UTC) - timedelta(minutes=3)
    attempt = Attempt(
        number=number,
        claim=f"claim-{number}",
        instance=f"n1-standard-4-p-{number:04x}",
        zone="us-central1-a",
        orchestrator_id="nomad-us-central1",
        instance_type="n1-standard-4",
        is_preemptible=True,
        price_micros_per_minute=PRICE_MICROS,
        started_at=started_at,
        alive_at=started_at,
    )
    return replace(attempt, **changes)


def a_lost_and_found_task(task_id: str) -> Task:
    """Return a task whose first attempt was preempted and whose second runs."""
    ended = an_attempt(
        1,
        started_at=datetime.now(UTC) - timedelta(minutes=9),
        ended_at=datetime.now(UTC) - timedelta(minutes=4),
        outcome=Outcome.PREEMPTED,
        reason="the provider took the instance back",
        billed_minutes=5,
        cost_micros=5 * PRICE_MICROS,
        memory_peak_mib=812,
    )
    return Task(
        task_id=task_id,
        page=int(task_id) // TASKS_PER_PAGE,
        command=f"blender -b /projects/alpha/car.blend -o /out/car.#### -f {int(task_id) + 1}",
        frames=str(int(task_id) + 1),
        is_scout=task_id == "000",
        status=TaskStatus.RUNNING,
        attempt=2,
        attempts=(ended, an_attempt(2, zone="us-central1-b")),
    )


def tasks_of(job: Job, statuses: Mapping[int, TaskStatus]) -> list[Task]:
    """Return the job's tasks, pending but for those in `statuses`."""
    return [
        Task(
            task_id=f"{index:03d}",
            page=index // TASKS_PER_PAGE,
            command=f"blender -b /projects/alpha/car.blend -f {index + 1}",
            frames=str(index + 1),
            status=statuses.get(index, TaskStatus.PENDING),
        )
        for index in range(job.task_count)
    ]


def batched(items: list[Item], size: int) -> Iterator[list[Item]]:
    """Return the items in lists of at most `size`."""
    return (items[first : first + size] for first in range(0, len(items), size))


@dataclass(frozen=True, kw_only=True)
class Farm:
    """Firestore with a server's rights."""

    client: firestore.Client

    def add_account(self, account_id: str, name: str) -> None:
        """Store an account."""
        self.client.document(f"accounts/{account_id}").set({"name": name, "max_instances": 100})

    def add(self, job: Job, tasks: list[Task] | None = None) -> Job:
        """Store a job with the pages and the documents of its tasks, and its counts. Returns: the job as stored."""
        tasks = tasks_of(job, {}) if tasks is None else tasks
        job = self.add_pages(job, tasks)
        for some in batched(tasks, 400):
            batch = self.client.batch()
            for task in some:
                where = self.client.document(documents.task_path(job.ref, task.task_id))
                batch.set(where, documents.task_fields(task, job.project))
            batch.commit()
        return job

    def add_pages(self, job: Job, tasks: list[Task]) -> Job:
        """Store a job and its pages, without the tasks' own documents. Returns: the job as stored."""
        counts = {status: sum(task.status is status for task in tasks) for status in TaskStatus}
        job = replace(job, counts={status: count for status, count in counts.items() if count})
        self.add_header(job)
        pages = list(batched(tasks, TASKS_PER_PAGE))
        for some in batched(list(enumerate(pages)), 20):
            batch = self.client.batch()
            for number, on_page in some:
                fields = documents.new_page_fields(number, on_page, job.project)
                batch.set(self.client.document(documents.page_path(job.ref, number)), fields)
            batch.commit()
        return job

    def add_header(self, job: Job) -> None:
        """Store a job's own document alone."""
        self.client.document(documents.job_path(job.ref)).set(documents.job_fields(job))

    def change_job(self, job: Job, **fields: Any) -> None:
        """Change fields of a job's document."""
        self.client.document(documents.job_path(job.ref)).update(fields)

    def change_task(self, job: Job, task: Task) -> None:
        """Change a task, and its entry of its page."""
        where = self.client.document(documents.task_path(job.ref, task.task_id))
        where.set(documents.task_fields(task, job.project))
        page = self.client.document(documents.page_path(job.ref, task.page))
        page.update({f"statuses.`{task.task_id}`": task.status})

    def place(self, job: Job, task_id: str, *, waiting_for: WaitingFor) -> None:
        """Hand a task of the first page to the scheduler; say why the page's other pending tasks wait."""
        page = self.client.document(documents.page_path(job.ref, 0))
        page.update({f"placed.`{task_id}`": 1, "waiting_for": waiting_for})
