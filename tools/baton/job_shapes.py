"""Jobs, tasks and attempts as the commands tell them."""

from typing import Any

from shared.models.job import Job
from shared.models.task import Attempt
from shared.services.inspection import ShownTask


def listed_job(found: Job) -> dict[str, Any]:
    """Return a job as lists have it."""
    return {
        "job_id": found.job_id,
        "title": found.title,
        "project": found.project,
        "owner": found.owner,
        "status": found.status.value,
        "waiting_for": found.waiting_for.value if found.waiting_for else None,
        "priority": found.priority,
        "task_count": found.task_count,
        "counts": {status.value: count for status, count in found.counts.items() if count},
        "cost_micros": found.cost_micros,
        "created_at": found.created_at,
    }


def header(found: Job) -> dict[str, Any]:
    """Return all that is said of a job itself."""
    return {
        "account_id": found.account_id,
        **listed_job(found),
        "waiting_note": found.waiting_note,
        "fence": found.fence.value,
        "command": found.command.value if found.command else None,
        "scouts_pending": found.scouts_pending,
        "instance_type": found.instance_type,
        "is_preemptible": found.is_preemptible,
        "max_instances": found.max_instances,
        "preempted_retries": found.preempted_retries,
        "standard_after": found.standard_after,
        "out_of_memory_retries": found.out_of_memory_retries,
        "larger": [each.instance_type for each in found.larger],
        "orchestrator_id": found.orchestrator_id or None,
        "placement": {name: dict(said) for name, said in found.placement.items()},
        "input_bytes": found.input_bytes,
        "sync": found.sync.state.value,
        "upload": found.upload.state.value,
        "output_path": found.output_path,
        "metadata": dict(found.metadata),
        "started_at": found.started_at,
        "ended_at": found.ended_at,
        "reviewed_at": found.reviewed_at,
        "reviewed_by": found.reviewed_by or None,
    }


def listed_task(shown: ShownTask) -> dict[str, Any]:
    """Return a task, with why it waits."""
    task = shown.task
    last = task.attempts[-1] if task.attempts else None
    return {
        "task_id": task.task_id,
        "frames": task.frames,
        "is_scout": task.is_scout,
        "status": task.status.value,
        "waiting_for": shown.waiting_for.value if shown.waiting_for else None,
        "attempt": task.attempt,
        "instance": last.instance if last else None,
        "exit_code": last.exit_code if last else None,
        "reason": last.reason if last else "",
        "command": task.command,
    }


def listed_attempt(found: Attempt) -> dict[str, Any]:
    """Return an attempt."""
    return {
        "number": found.number,
        "outcome": found.outcome.value if found.outcome else None,
        "instance": found.instance,
        "zone": found.zone,
        "instance_type": found.instance_type,
        "is_preemptible": found.is_preemptible,
        "price_micros_per_minute": found.price_micros_per_minute,
        "note": found.note,
        "started_at": found.started_at,
        "ended_at": found.ended_at,
        "exit_code": found.exit_code,
        "reason": found.reason,
        "memory_mib": found.memory_mib,
        "memory_peak_mib": found.memory_peak_mib,
        "billed_minutes": found.billed_minutes,
        "cost_micros": found.cost_micros,
        "output_count": found.output_count,
    }
