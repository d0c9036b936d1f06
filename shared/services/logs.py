"""Logs as they are read: by clients in a container for each attempt and from a line on, by operators one as a whole."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared.core.permissions import Action, check
from shared.core.task_waiting import why_task_waits
from shared.errors import NotFound
from shared.models.account import Principal
from shared.models.job import AttemptRef, Job, TaskRef
from shared.models.task import Attempt, Task
from shared.ports import LogRun, Ports
from shared.services.attempts import log_name
from shared.services.projects import check_job

# What one answer holds of all attempts together: a function has little memory, and answers several at once.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
# As long as somebody asks, the agent sends its lines at once; asked for anew when half of it is over.
_WATCHED = timedelta(seconds=60)


@dataclass
class _Container:
    """The lines of one attempt from `next_line` on, as far as they go into the answer."""

    next_line: int
    left_bytes: int
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> bool:
        """Take the next line; False, and it is not taken, when the answer is full."""
        self.left_bytes -= len(line.encode())
        if self.left_bytes < 0:
            return False
        self.lines.append(line)
        self.next_line += 1
        return True


def read_logs(
    principal: Principal, job_id: str, task_id: str, known: Sequence[int], ports: Ports
) -> dict[str, Any]:
    """Return what each attempt of a task wrote behind the lines that the caller knows, and how many there are then.

    Where the answer is full, or an agent left out lines of a running attempt, a line that is not counted says so.
    Raises: Forbidden; NotFound.
    """
    check(principal, Action.READ)
    ref = TaskRef(*check_job(principal, job_id, ports), task_id)
    task, job = ports.jobs.task_and_job(ref)
    _watch(ref, task, ports)
    containers = []
    left_bytes = MAX_ANSWER_BYTES
    for index, attempt in enumerate(task.attempts):
        start = known[index] if index < len(known) else 0
        container = _Container(next_line=start, left_bytes=left_bytes)
        _fill(container, AttemptRef(*ref, attempt.number), attempt, ports)
        left_bytes = max(container.left_bytes, 0)
        containers.append(container)
    return {
        "logs": [
            _told(AttemptRef(*ref, attempt.number), attempt, container)
            for attempt, container in zip(task.attempts, containers, strict=True)
        ],
        "new_num_lines": [container.next_line for container in containers],
        "status_description": _description(job, task),
        "task_status": task.status.value,
    }


def whole_log(ref: AttemptRef, task: Task, ports: Ports) -> list[str]:
    """Return the log of an attempt: all of it once it is stored, what has come so far before that."""
    try:
        return list(stored_lines(ref, ports))
    except NotFound:
        _watch(ref.task, task, ports)
    container = _Container(next_line=0, left_bytes=sys.maxsize)
    while runs := ports.jobs.log_runs(ref, container.next_line):
        _fill_from_live(container, runs)
    return container.lines


def _watch(ref: TaskRef, task: Task, ports: Ports) -> None:
    """Have the agent of a task that runs send its lines at once: somebody looks."""
    if task.live is None:
        return
    now = ports.now()
    if task.watched_until is None or task.watched_until - now < _WATCHED / 2:
        ports.jobs.watch(ref, now + _WATCHED)


def _fill(container: _Container, ref: AttemptRef, attempt: Attempt, ports: Ports) -> None:
    """Take the whole log where it is stored; of an attempt that runs, or vanished, what its agent has sent."""
    if attempt.outcome is not None:
        try:
            _fill_from_stored(container, ref, ports)
        except NotFound:
            pass
        else:
            return
    _fill_from_live(container, ports.jobs.log_runs(ref, container.next_line))


def _fill_from_stored(container: _Container, ref: AttemptRef, ports: Ports) -> None:
    start = container.next_line
    for number, line in enumerate(stored_lines(ref, ports)):
        if number >= start and not container.add(line):
            container.lines.append(f"... more follows: ask again from line {container.next_line}")
            return


def stored_lines(ref: AttemptRef, ports: Ports) -> Iterator[str]:
    """Yield the lines of a stored log; nothing but "\\n" ends one, as its agent counts them. Raises: NotFound."""
    rest, start = b"", 0
    while chunk := ports.blobs.read(log_name(ref), start, start + _CHUNK_BYTES):
        start += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if len(chunk) < _CHUNK_BYTES:
            break
    if rest:
        yield rest.decode(errors="replace")


def _fill_from_live(container: _Container, runs: Sequence[LogRun]) -> None:
    for run in runs:
        missing = run.first - container.next_line
        if missing > 0:
            container.lines.append(
                f"... {missing} lines are left out: the whole log has them when the attempt has ended"
            )
            container.next_line = run.first
        for line in run.lines[container.next_line - run.first :]:
            if not container.add(line):
                return


def _told(ref: AttemptRef, attempt: Attempt, container: _Container) -> dict[str, Any]:
    return {
        "container_id": f"{ref.job_id}-{ref.task_id}-{ref.number}",
        "instance_name": attempt.instance,
        "log": container.lines,
        "timestamp": str(attempt.started_at.timestamp()),
    }


def _description(job: Job, task: Task) -> str:
    """Return in words why the task waits, or how its last attempt ended."""
    last = task.attempts[-1] if task.attempts else None
    if task.live is None and why_task_waits(job, task, is_placed=False) is not None:
        return job.waiting_note
    return last.reason if last else ""
