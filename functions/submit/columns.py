"""What lists of jobs and tasks hold, by the names that `fields` takes."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from shared.models.job import Job
from shared.models.money import MICROS_PER_DOLLAR
from shared.models.task import Attempt
from shared.services.reading import TaskRow

JOB_COLUMNS: Mapping[str, Callable[[Job], Any]] = {
    "jid": lambda job: job.job_id,
    "title": lambda job: job.title,
    "project": lambda job: job.project,
    "owner": lambda job: job.owner,
    "status": lambda job: job.status.value,
    "waiting_for": lambda job: job.waiting_for.value if job.waiting_for else None,
    "waiting_note": lambda job: job.waiting_note,
    "instance_type": lambda job: job.instance_type,
    "preemptible": lambda job: job.is_preemptible,
    "priority": lambda job: job.priority,
    "max_instances": lambda job: job.max_instances,
    "location": lambda job: job.location,
    "output_path": lambda job: job.output_path,
    "task_count": lambda job: job.task_count,
    "counts": lambda job: {status.value: count for status, count in job.counts.items()},
    "cost": lambda job: job.cost_micros / MICROS_PER_DOLLAR,
    "created_at": lambda job: job.created_at.isoformat(),
    "started_at": lambda job: _moment(job.started_at),
    "ended_at": lambda job: _moment(job.ended_at),
    "metadata": lambda job: dict(job.metadata),
}


def _of_last(read: Callable[[Attempt], Any]) -> Callable[[TaskRow], Any]:
    """Return a column of the task's last attempt, null where there is none."""

    def column(row: TaskRow) -> Any:
        return read(row.task.attempts[-1]) if row.task.attempts else None

    return column


TASK_COLUMNS: Mapping[str, Callable[[TaskRow], Any]] = {
    "jid": lambda row: row.job.job_id,
    "tid": lambda row: row.task.task_id,
    "status": lambda row: row.task.status.value,
    "frames": lambda row: row.task.frames,
    "command": lambda row: row.task.command,
    "scout": lambda row: row.task.is_scout,
    "attempt": lambda row: row.task.attempt,
    "waiting_for": lambda row: row.waiting_for,
    "outcome": _of_last(lambda attempt: attempt.outcome.value if attempt.outcome else None),
    "exit_code": _of_last(lambda attempt: attempt.exit_code),
    "reason": _of_last(lambda attempt: attempt.reason),
    "instance": _of_last(lambda attempt: attempt.instance),
    "zone": _of_last(lambda attempt: attempt.zone),
    "instance_type": _of_last(lambda attempt: attempt.instance_type),
    "preemptible": _of_last(lambda attempt: attempt.is_preemptible),
    "note": _of_last(lambda attempt: attempt.note),
    "started_at": _of_last(lambda attempt: _moment(attempt.started_at)),
    "ended_at": _of_last(lambda attempt: _moment(attempt.ended_at)),
    "memory_peak_mib": _of_last(lambda attempt: attempt.memory_peak_mib),
    "minutes": lambda row: sum(each.billed_minutes for each in row.task.attempts),
    "cost": lambda row: sum(each.cost_micros for each in row.task.attempts) / MICROS_PER_DOLLAR,
}


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
