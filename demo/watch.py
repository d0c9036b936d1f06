"""The job, live in the terminal: one line a task."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.models.job import Job, JobRef
from shared.models.task import ENDED, Task, TaskStatus
from shared.ports import Ports

PERIOD_S = 0.4
GIVE_UP_S = 900.0

COLOURS = {
    TaskStatus.HOLDING: "grey50",
    TaskStatus.PENDING: "yellow",
    TaskStatus.RUNNING: "bright_blue",
    TaskStatus.SUCCESS: "green",
    TaskStatus.DOWNLOADED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.PREEMPTED: "magenta",
    TaskStatus.KILLED: "red",
}
BARS = {
    TaskStatus.HOLDING: "····",
    TaskStatus.PENDING: "▪···",
    TaskStatus.RUNNING: "▪▪▪·",
    TaskStatus.SUCCESS: "▪▪▪▪",
    TaskStatus.DOWNLOADED: "▪▪▪▪",
}


class Watch:
    """Shows a job until it ends. On a terminal the table is redrawn; elsewhere each change is a line."""

    def __init__(self, ref: JobRef, console: Console, ports: Ports) -> None:
        self._ref = ref
        self._console = console
        self._ports = ports
        self._said: dict[str, str] = {}

    def until_it_ends(self, on_change: Callable[[Job, list[Task]], None]) -> Job:
        """Return the ended job; `on_change` sees every state that is shown. Raises: TimeoutError."""
        deadline = time.monotonic() + GIVE_UP_S
        with Live(console=self._console, refresh_per_second=8, transient=False) as live:
            while time.monotonic() < deadline:
                job = self._ports.jobs.job(self._ref)
                tasks = self._tasks(job)
                on_change(job, tasks)
                if self._console.is_terminal:
                    live.update(self._table(job, tasks))
                else:
                    self._say(job, tasks)
                if job.is_ended:
                    return job
                time.sleep(PERIOD_S)
        raise TimeoutError(f"job {self._ref.job_id} did not end within {GIVE_UP_S:.0f} s")

    def _tasks(self, job: Job) -> list[Task]:
        ids = [str(index).zfill(3) for index in range(job.task_count)]
        return self._ports.jobs.tasks(self._ref, ids)

    def _table(self, job: Job, tasks: list[Task]) -> Table:
        table = Table(title=_headline(job), title_justify="left", box=None, pad_edge=False)
        for name in ("task", "frames", "", "status", "attempt", "instance", "why"):
            table.add_column(name, no_wrap=True)
        for task in tasks:
            colour = COLOURS[task.status]
            bar = Text(BARS.get(task.status, "▪▪▪✗"), style=colour)
            status = Text(task.status, style=colour)
            where = task.attempts[-1].instance if task.attempts else ""
            table.add_row(
                task.task_id, task.frames, bar, status, str(task.attempt), where, _why(job, task)
            )
        return table

    def _say(self, job: Job, tasks: list[Task]) -> None:
        lines = {"job": _headline(job)}
        for task in tasks:
            where = f" on {task.attempts[-1].instance}" if task.live else ""
            why = _why(job, task)
            lines[task.task_id] = (
                f"task {task.task_id} frames {task.frames}: {task.status}, attempt {task.attempt}"
                f"{where}{' - ' + why if why else ''}"
            )
        for key, line in lines.items():
            if self._said.get(key) != line:
                self._console.print(line, highlight=False, soft_wrap=True)
        self._said = lines


def _headline(job: Job) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in job.counts.items() if count)
    why = f" · waits: {job.waiting_note}" if job.waiting_for else ""
    return f"job {job.job_id} {job.status} · {counts or 'no tasks yet'}{why}"


def _why(job: Job, task: Task) -> str:
    """Return why a task does not run: its own losses first, then what the job waits for."""
    if task.status is TaskStatus.HOLDING and job.scouts_pending:
        return "waits for the scouts"
    if task.status is TaskStatus.PENDING and job.waiting_for:
        return f"{job.waiting_for}: {job.waiting_note}"
    lost = [
        attempt for attempt in task.attempts if attempt.outcome and attempt.outcome != "success"
    ]
    if lost and task.status not in ENDED:
        return f"attempt {lost[-1].number} was {lost[-1].outcome}"
    return f"after {len(lost)} lost attempt" if lost else ""
