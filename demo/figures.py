"""What the job cost and took: the bill, the timeline, and how many documents were read and written."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.models.job import Job
from shared.models.money import LedgerEntry
from shared.ports import Ports


@dataclass(frozen=True, kw_only=True)
class Life:
    """One instance: when it was asked for, ready and gone."""

    instance: str
    created_at: datetime
    booted_at: datetime | None
    deleted_at: datetime | None


def lives(events: Iterable[dict[str, Any]], until: datetime) -> list[Life]:
    """Return the instances of the compute stand-in's events, oldest first."""
    moments: dict[str, dict[str, datetime]] = {}
    for event in events:
        moments.setdefault(event["instance"], {})[event["kind"]] = _moment(event["at"])
    return [
        Life(
            instance=name,
            created_at=each["created"],
            booted_at=each.get("booted"),
            deleted_at=each.get("deleted") or each.get("preempted") or each.get("lost") or until,
        )
        for name, each in sorted(moments.items(), key=lambda item: item[1]["created"])
        if "created" in each
    ]


def _moment(said: str) -> datetime:
    return datetime.fromisoformat(said)


def ledger_of(job: Job, ports: Ports) -> list[LedgerEntry]:
    """Return the job's ledger, in the order in which the attempts began."""
    return sorted(ports.jobs.job_ledger(job.ref), key=lambda entry: entry.started_at)


def show_bill(entries: Sequence[LedgerEntry], console: Console) -> None:
    """Print one line an attempt."""
    table = Table(title="Bill, by the minute", title_justify="left", box=None, pad_edge=False)
    for name in ("task", "attempt", "instance", "outcome", "ran", "minutes", "price/min", "cost"):
        table.add_column(name, no_wrap=True)
    for entry in entries:
        table.add_row(
            entry.attempt.task_id,
            str(entry.attempt.number),
            entry.instance,
            entry.outcome,
            f"{(entry.ended_at - entry.started_at).total_seconds():.1f} s",
            str(entry.billed_minutes),
            dollars(entry.price_micros_per_minute),
            dollars(entry.cost_micros),
        )
    total = sum(entry.cost_micros for entry in entries)
    minutes = sum(entry.billed_minutes for entry in entries)
    table.add_row("", "", "", "", "", str(minutes), "", dollars(total), style="bold")
    console.print(table)


def dollars(micros: int) -> str:
    """Return an amount of micro-dollars as dollars."""
    return f"${micros / 1_000_000:.6f}"


def show_timeline(
    job: Job,
    submitted_at: datetime,
    entries: Sequence[LedgerEntry],
    all_lives: Sequence[Life],
    console: Console,
) -> None:
    """Print how long it took, and what the instances did meanwhile."""
    first = min(entry.started_at for entry in entries)
    last = max(entry.ended_at for entry in entries)
    alive_s = sum(_seconds(life.created_at, life.deleted_at) for life in all_lives)
    boot_s = sum(_seconds(life.created_at, life.booted_at or life.deleted_at) for life in all_lives)
    busy_s = sum(_seconds(entry.started_at, entry.ended_at) for entry in entries)
    rows = [
        ("submit to first task running", f"{_seconds(submitted_at, first):.1f} s"),
        ("submit to all frames done", f"{_seconds(submitted_at, last):.1f} s"),
        ("instances, in all and at peak", f"{len(all_lives)}, {_peak(all_lives)}"),
        ("instance-minutes booting", f"{boot_s / 60:.2f}"),
        ("instance-minutes busy", f"{busy_s / 60:.2f}"),
        ("instance-minutes idle", f"{max(alive_s - boot_s - busy_s, 0) / 60:.2f}"),
    ]
    table = Table(
        title=f"Timeline of job {job.job_id}",
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _seconds(begin: datetime, end: datetime | None) -> float:
    return (end - begin).total_seconds() if end else 0.0


def _peak(all_lives: Sequence[Life]) -> int:
    steps = [(life.created_at, 1) for life in all_lives]
    steps += [(life.deleted_at, -1) for life in all_lives if life.deleted_at]
    peak = now = 0
    for _, step in sorted(steps):
        now += step
        peak = max(peak, now)
    return peak


# What a job's tasks cause; the ticks, sweeps and roll-ups of the other functions come by the clock.
JOB_FUNCTIONS = ("submit", "dispatch")


def documents_used(logs: Path, functions: Iterable[str] = JOB_FUNCTIONS) -> Counter[str]:
    """Return the documents that functions read and wrote, from their logs, under `read` and `write`."""
    used: Counter[str] = Counter()
    for function in functions:
        for line in _answers(logs / f"{function}.log"):
            used["read"] += line["read_count"]
            used["write"] += line["write_count"]
    return used


def _answers(log: Path) -> Iterator[dict[str, Any]]:
    with log.open(errors="replace") as lines:
        for text in lines:
            if '"answered"' in text:
                found: dict[str, Any] = json.loads(text[text.index("{") :])
                yield found
