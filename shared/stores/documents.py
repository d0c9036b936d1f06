"""Models to Firestore's fields and back. Pure; the field names are what the dashboard reads."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from shared.models.account import Provider
from shared.models.farm import (
    Breaker,
    Decision,
    InstanceStatus,
    KeptDecision,
    Orchestrator,
    PoolKey,
    PoolState,
    Strike,
    Took,
)
from shared.models.job import (
    AttemptRef,
    Block,
    Command,
    Fence,
    Job,
    JobRef,
    JobStatus,
    Rung,
    Sync,
    SyncState,
    Upload,
    UploadState,
)
from shared.models.money import LedgerEntry
from shared.models.task import (
    ENDED,
    TASKS_PER_PAGE,
    Attempt,
    Outcome,
    Page,
    PageSummary,
    Task,
    TaskStatus,
    WaitingFor,
)
from shared.stores.orders import orders_from

Fields = dict[str, Any]

SUMMARY_FIELDS = (
    "number",
    "counts",
    "admitted_count",
    "ended_count",
    "cost_micros",
    "command_seq",
    "placed_at",
)


def job_path(ref: JobRef) -> str:
    """Where a job's document is."""
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}"


def page_path(ref: JobRef, number: int) -> str:
    """Where a page's document is."""
    return f"{job_path(ref)}/pages/{number}"


def task_path(ref: JobRef, task_id: str) -> str:
    """Where a task's document is."""
    return f"{job_path(ref)}/tasks/{task_id}"


def ledger_path(attempt: AttemptRef) -> str:
    """Where an attempt's ledger entry is."""
    return (
        f"accounts/{attempt.account_id}/ledger/{attempt.job_id}-{attempt.task_id}-{attempt.number}"
    )


def job_fields(job: Job) -> Fields:
    """Return a job's document."""
    return asdict(job) | {
        "page_count": job.page_count,
        "number": int(job.job_id),
        "has_frames": job.counts.get(TaskStatus.SUCCESS, 0) > 0,  # that nobody has fetched
    }


def job_from(found: Mapping[str, Any]) -> Job:
    """Read a job's document."""
    known = {each.name: found[each.name] for each in fields(Job) if each.name in found}
    known |= {
        "scout_task_ids": tuple(found["scout_task_ids"]),
        "licences": tuple(found.get("licences", ())),
        "notify_emails": tuple(found["notify_emails"]),
        "blocked_instances": tuple(found.get("blocked_instances", ())),
        "blocks": tuple(Block(**block) for block in found["blocks"]),
        "larger": tuple(Rung(**rung) for rung in found.get("larger", ())),
        "status": JobStatus(found["status"]),
        "fence": Fence(found["fence"]),
        "command": found["command"] and Command(found["command"]),
        "orders": orders_from(found),
        "provider": Provider(found.get("provider", Provider.GCP)),
        "upload": _upload_from(found.get("upload")),
        "sync": Sync(**(found["sync"] | {"state": SyncState(found["sync"]["state"])})),
        "waiting_for": found["waiting_for"] and WaitingFor(found["waiting_for"]),
        "waiting_shapes": {
            shape: WaitingFor(reason) for shape, reason in found.get("waiting_shapes", {}).items()
        },
        "counts": {TaskStatus(name): count for name, count in found["counts"].items()},
    }
    return Job(**known)


def _upload_from(found: Mapping[str, Any] | None) -> Upload:
    """Read how far an upload is; a job from before there were daemons waits for none."""
    if found is None:
        return Upload(state=UploadState.DONE)
    return Upload(**(dict(found) | {"state": UploadState(found["state"])}))


def task_fields(task: Task, project: str) -> Fields:
    """Return a task's document."""
    return {
        "task_id": task.task_id,
        "page": task.page,
        "project": project,
        "command": task.command,
        "frames": task.frames,
        "is_scout": task.is_scout,
        "status": task.status,
        "attempt": task.attempt,
        "attempts": [dict(vars(attempt)) for attempt in task.attempts],
        "unclaimed": task.unclaimed,
        "counted_from": task.counted_from,
    }


def changed_task_fields(task: Task) -> dict[tuple[str, ...], Any]:
    """Return what a change of a task may have altered."""
    return {
        ("status",): task.status,
        ("attempt",): task.attempt,
        ("attempts",): [dict(vars(attempt)) for attempt in task.attempts],
        ("unclaimed",): task.unclaimed,
        ("counted_from",): task.counted_from,
    }


def task_from(found: Mapping[str, Any]) -> Task:
    """Read a task's document; what the last heartbeat said goes into the live attempt."""
    alive = found.get("alive") or {}
    return Task(
        task_id=found["task_id"],
        page=found["page"],
        command=found["command"],
        frames=found["frames"],
        is_scout=found["is_scout"],
        status=TaskStatus(found["status"]),
        attempt=found["attempt"],
        attempts=tuple(_attempt_from(each, alive) for each in found["attempts"]),
        unclaimed=found.get("unclaimed", 0),
        counted_from=found.get("counted_from", 1),
        watched_until=found.get("watched_until"),
    )


_ATTEMPT_FIELDS = frozenset(each.name for each in fields(Attempt))


def _attempt_from(found: Mapping[str, Any], alive: Mapping[str, Any]) -> Attempt:
    attempt = {name: value for name, value in found.items() if name in _ATTEMPT_FIELDS}
    attempt["outcome"] = found["outcome"] and Outcome(found["outcome"])
    if attempt["outcome"] is None and alive.get("number") == attempt["number"]:
        attempt |= {"alive_at": alive["at"], "memory_peak_mib": alive["memory_peak_mib"]}
    return Attempt(**attempt)


def new_page_fields(number: int, tasks: list[Task], project: str) -> Fields:
    """Return the document of a page whose tasks are all new."""
    counts: Fields = dict.fromkeys(TaskStatus, 0)
    for task in tasks:
        counts[task.status] += 1
    return {
        "number": number,
        "project": project,
        "first_index": number * TASKS_PER_PAGE,
        "statuses": {task.task_id: task.status for task in tasks},
        "attempts": {task.task_id: task.attempt for task in tasks},
        "placed": {},
        "counts": counts,
        "open_count": sum(task.status not in ENDED for task in tasks),
        "admitted_count": 0,
        "ended_count": 0,
        "cost_micros": 0,
        "command_seq": 0,
        "placed_at": None,
    }


def _summary_of(found: Mapping[str, Any]) -> Fields:
    return {name: found[name] for name in SUMMARY_FIELDS} | {
        "counts": {TaskStatus(name): count for name, count in found["counts"].items()}
    }


def summary_from(found: Mapping[str, Any]) -> PageSummary:
    """Read the figures of a page's document."""
    return PageSummary(**_summary_of(found))


def page_from(found: Mapping[str, Any], version: object) -> Page:
    """Read a page's document."""
    return Page(
        **_summary_of(found),
        statuses={key: TaskStatus(status) for key, status in found["statuses"].items()},
        attempts=found["attempts"],
        placed=found["placed"],
        version=version,
    )


def ledger_fields(entry: LedgerEntry) -> Fields:
    """Return a ledger entry's document."""
    return vars(entry) | {"attempt": entry.attempt.attempt_id, "job_id": entry.attempt.job_id}


def ledger_from(found: Mapping[str, Any]) -> LedgerEntry:
    """Read a ledger entry's document."""
    return LedgerEntry(
        **(
            {each.name: found[each.name] for each in fields(LedgerEntry)}
            | {
                "attempt": AttemptRef.parse(found["attempt"]),
                "outcome": Outcome(found["outcome"]),
            }
        )
    )


def pool_id(pool: PoolKey) -> str:
    """Return the id of a pool's document."""
    return pool.pool_id


def orchestrator_fields(orchestrator: Orchestrator) -> Fields:
    """Return an orchestrator's document."""
    return asdict(orchestrator) | learnt_fields(orchestrator)


def learnt_fields(orchestrator: Orchestrator) -> Fields:
    """Return what an orchestrator has learnt, as it stands in its document."""
    return {
        name: [asdict(each) | {"pool": each.pool._asdict()} for each in learnt]
        for name, learnt in (
            ("breakers", orchestrator.breakers),
            ("strikes", orchestrator.strikes),
        )
    }


def orchestrator_from(found: Mapping[str, Any]) -> Orchestrator:
    """Read an orchestrator's document."""
    known = {each.name: found[each.name] for each in fields(Orchestrator) if each.name in found}
    known["instance_types"] = tuple(found["instance_types"])
    for name, kind in (("breakers", Breaker), ("strikes", Strike)):
        learnt = found.get(name, ())
        known[name] = tuple(kind(**each | {"pool": PoolKey(**each["pool"])}) for each in learnt)
    return Orchestrator(**known)


def decision_fields(decision: Decision, at: datetime, took: Took | None) -> Fields:
    """Return a decision's document."""
    return {
        "pool_id": pool_id(decision.pool),
        "pool": decision.pool._asdict(),
        "grow": list(decision.grow),
        "drain": list(decision.drain),
        "retire": list(decision.retire),
        "resume": list(decision.resume),
        "reason": decision.reason,
        "facts": dict(decision.facts),
        "took": took and asdict(took),
        "at": at,
    }


def decision_from(orchestrator_id: str, found: Mapping[str, Any]) -> KeptDecision:
    """Read a decision's document."""
    names = {each: tuple(found[each]) for each in ("grow", "drain", "retire", "resume")}
    decision = Decision(
        pool=PoolKey(**found["pool"]), reason=found["reason"], facts=found["facts"], **names
    )
    took = found.get("took")
    return KeptDecision(
        orchestrator_id=orchestrator_id,
        at=found["at"],
        decision=decision,
        took=Took(**took) if took else None,
    )


def pool_state_from(orchestrator_id: str, found: Mapping[str, Any]) -> PoolState:
    """Read a pool's document."""
    kept = found.get("decision")
    return PoolState(
        orchestrator_id=orchestrator_id,
        pool=PoolKey(**found["pool"]),
        counts={InstanceStatus(name): count for name, count in found.get("counts", {}).items()},
        seen_at=found.get("updated_at"),
        last=decision_from(orchestrator_id, kept) if kept else None,
        waiting_for=WaitingFor(reason) if (reason := found.get("waiting_for")) else None,
        waiting_note=found.get("waiting_note", ""),
    )
