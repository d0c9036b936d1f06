"""Expand: a job's payload becomes pages and tasks, each page in one commit, in any order, as often as asked."""

from collections.abc import Iterator, Sequence
from functools import partial

import orjson

from shared.models.job import Block, Job, JobRef
from shared.models.task import TASKS_PER_PAGE, Task, TaskStatus
from shared.ports import Ports
from shared.services.admit import admit
from shared.services.control import carry_out
from shared.tally import aside


def payload_name(ref: JobRef) -> str:
    """Where a job's tasks are: one JSON object a line, `command`, `frames`, `scout`."""
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}/tasks.jsonl"


def expand(ref: JobRef, first_page: int, page_count: int, ports: Ports) -> None:
    """Write these pages and their tasks, then let what may start start. Raises: NotFound."""
    job = ports.jobs.job(ref)
    for block in _blocks(job, first_page, page_count):
        content = ports.blobs.read(payload_name(ref), block.start, block.end)
        pages = _pages(job, block.first_page, content.splitlines())
        if block.first_page == 0 and job.command is None:
            ports.jobs.add_page(job, 0, pages.pop(0))
            with aside(partial(ports.jobs.add_pages, job, pages)):
                admit(ref.account_id, ports)  # neither the first frames nor the last pages wait
        else:
            ports.jobs.add_pages(job, pages)
    if ports.jobs.job(ref).command_seq:
        carry_out(ref, first_page, page_count, ports)
    admit(ref.account_id, ports)


def _blocks(job: Job, first_page: int, page_count: int) -> Iterator[Block]:
    for block in job.blocks:
        if first_page <= block.first_page < first_page + page_count:
            yield block


def _pages(job: Job, first_page: int, lines: Sequence[bytes]) -> dict[int, list[Task]]:
    """Return the tasks of each page; `lines` are those of the first page and all that follow."""
    pages: dict[int, list[Task]] = {}
    for index, line in enumerate(lines, start=first_page * TASKS_PER_PAGE):
        page = index // TASKS_PER_PAGE
        pages.setdefault(page, []).append(_task(job, page, index, line))
    return pages


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
