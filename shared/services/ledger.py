"""The ledger entry of an attempt that ended."""

from shared.models.job import AttemptRef, Job
from shared.models.money import LedgerEntry
from shared.models.task import Attempt, Task


def entry_of(job: Job, task: Task, attempt: Attempt) -> LedgerEntry:
    """Return the one entry of an attempt; it is stored in the commit that ends the attempt."""
    if attempt.ended_at is None or attempt.outcome is None:
        raise ValueError(f"attempt {attempt.number} of task {task.task_id} has not ended")
    return LedgerEntry(
        attempt=AttemptRef(job.account_id, job.job_id, task.task_id, attempt.number),
        project=job.project,
        owner=job.owner,
        instance_type=attempt.instance_type,
        is_preemptible=attempt.is_preemptible,
        instance=attempt.instance,
        outcome=attempt.outcome,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        date=attempt.ended_at.date().isoformat(),
        hour=f"{attempt.ended_at:%H}",
        billed_minutes=attempt.billed_minutes,
        core_minutes=attempt.billed_minutes * attempt.cores,
        price_micros_per_minute=attempt.price_micros_per_minute,
        cost_micros=attempt.cost_micros,
    )
