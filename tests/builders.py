"""Values for tests, with every field sensible; name what matters."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.models.account import Account, InstanceType
from shared.models.job import AttemptRef, Job
from shared.models.task import Attempt, Page, PageSummary, Task, TaskStatus
from shared.ports import JobStore

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a moment after noon."""
    return NOON + timedelta(seconds=seconds)


def a_job(**named: Any) -> Job:
    """Return a job of one task."""
    given: dict[str, Any] = {
        "account_id": "acme",
        "job_id": "00001",
        "title": "beauty",
        "project": "otter",
        "owner": "ines",
        "created_at": NOON,
        "task_count": 1,
        "instance_type": "cpu-4-16",
        "is_preemptible": True,
        "price_micros_per_minute": 1500,
        "output_path": "/vol/otter/images",
    }
    return Job(**given | named)


def a_task(**named: Any) -> Task:
    """Return a pending task."""
    given: dict[str, Any] = {
        "task_id": "000",
        "page": 0,
        "command": "render 1",
        "frames": "1",
    }
    return Task(**given | named)


def an_attempt(**named: Any) -> Attempt:
    """Return a live attempt that began at noon."""
    given: dict[str, Any] = {
        "number": 1,
        "claim": "claim-0000000000000001",
        "instance": "instance-1",
        "zone": "zone-a",
        "orchestrator_id": "nomad-1",
        "instance_type": "cpu-4-16",
        "is_preemptible": True,
        "price_micros_per_minute": 1500,
        "started_at": NOON,
        "alive_at": NOON,
    }
    return Attempt(**given | named)


def a_summary(**named: Any) -> PageSummary:
    """Return a page of one pending task."""
    given: dict[str, Any] = {
        "number": 0,
        "counts": {TaskStatus.PENDING: 1},
        "admitted_count": 0,
        "ended_count": 0,
        "cost_micros": 0,
        "command_seq": 0,
    }
    return PageSummary(**given | named)


def a_page(statuses: dict[str, TaskStatus], **named: Any) -> Page:
    """Return a page of these tasks, each at its first attempt."""
    given: dict[str, Any] = {
        "number": 0,
        "counts": {
            status: list(statuses.values()).count(status) for status in set(statuses.values())
        },
        "admitted_count": 0,
        "ended_count": 0,
        "cost_micros": 0,
        "command_seq": 0,
        "statuses": statuses,
        "attempts": dict.fromkeys(statuses, 1),
    }
    return Page(**given | named)


def an_account(**named: Any) -> Account:
    """Return a studio that may run ten instances."""
    given: dict[str, Any] = {"account_id": "acme", "name": "Acme", "max_instances": 10}
    return Account(**given | named)


def a_machine(memory_gib: float) -> InstanceType:
    """Return an instance type with so much memory."""
    return InstanceType(
        name="n2",
        machine_type="n2",
        cores=4,
        memory_gib=memory_gib,
        operating_system="linux",
        description="",
        price_micros_per_minute=1,
        preemptible_micros_per_minute=1,
    )


def lines_of(jobs: JobStore, attempt: AttemptRef) -> list[str]:
    """Return the lines that are stored of a log without a gap, however many answers they come in."""
    lines: list[str] = []
    while runs := jobs.log_runs(attempt, len(lines)):
        for run in runs:
            lines += run.lines[len(lines) - run.first :]
    return lines
