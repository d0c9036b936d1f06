"""Expand: a job's payload becomes pages and tasks, each page in one commit, in any order, as often as asked."""

from collections.abc import Iterator, Sequence

import orjson

from shared.models.job import Block, Job, JobRef
from shared.models.task import TASKS_PER_PAGE, Task, TaskStatus
from shared.ports import Ports
from shared.services.admit import admit
from shared.services.control import carry_out


def payload_name(ref: JobRef) -> str:
    """Where a job's tasks are: one JSON object a line, `command`, `frames`, `scout`."""
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}/tasks.jsonl"


def expand(ref: JobRef, first_page: int, page_count: int, ports: Ports) -> None:
    """Write these pages and their tasks, then let what may start start. Raises: NotFound."""
    job = ports.jobs.job(ref)
    for block in _blocks(job, first_page, page_count):
        content = ports.blobs.read(payload_name(ref), block.start, block.end)
        lines = content.splitlines()
        for offset in range(0, len(lines), TASKS_PER_PAGE):
            number = block.first_page + offset // TASKS_PER_PAGE
            ports.jobs.add_page(job, number, _tasks(job, number, lines[offset:][:TASKS_PER_PAGE]))
            if number == 0 and job.command is None:
                admit(ref.account_id, ports)  # the first frames need not wait for the last
    if ports.jobs.job(ref).command_seq:
        carry_out(ref, first_page, page_count, ports)
    admit(ref.account_id, ports)


def _blocks(job: Job, first_page: int, page_count: int) -> Iterator[Block]:
    for block in job.blocks:
        if first_page <= block.first_page < first_page + page_count:
            yield block


def _tasks(job: Job, page: int, lines: Sequence[bytes]) -> list[Task]:
    first = page * TASKS_PER_PAGE
    return [_task(job, page, first + offset, line) for offset, line in enumerate(lines)]


def _task(job: Job, page: int, index: int, line: bytes) -> Task:
    said = orjson.loads(line)
    is_held = bool(job.scout_task_ids) and not said["scout"]
    return Task(
        task_id=str(index).zfill(3),
        page=page,
        command=said["command"],
        frames=said["frames"],
        is_scout=said["scout"],
        status=TaskStatus.HOLDING if is_held else TaskStatus.PENDING,
    )
