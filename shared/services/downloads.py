"""Downloads: the frames of a job in pages, and what the downloader reports back."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from typing import Any

import orjson

from shared.core.permissions import Action, check
from shared.errors import InvalidRequest, NotFound, TooLarge
from shared.log import log
from shared.models.account import Principal
from shared.models.job import AttemptRef, Job, TaskRef
from shared.models.task import TASKS_PER_PAGE, Outcome, Task, TaskStatus
from shared.ports import Ports
from shared.services.ask import ask_to_settle
from shared.services.attempts import manifest_name, output_name
from shared.services.control import mark_downloaded
from shared.services.projects import check_job

URL_LIFETIME_S = 6 * 3600
MAX_TASKS_A_PAGE = 500
MAX_FILES_A_PAGE = 1000
MAX_FILES_AT_ONCE = 10_000
_AT_ONCE = 16
_CURSOR = re.compile(r"[0-9]{1,9}")
_HAS_FRAMES = (TaskStatus.SUCCESS, TaskStatus.DOWNLOADED)


def downloads_page(
    principal: Principal,
    job_id: str,
    *,
    task_ids: Sequence[str] | None,
    limit: int,
    cursor: str,
    ports: Ports,
) -> dict[str, Any]:
    """Return at most `limit` tasks that have frames, and the cursor of the next page, None after the last.

    A page ends early with the task that fills it up to 1,000 files: each file's URL takes a while to sign.
    `task_ids` as people write them, None for all. Raises: Forbidden; NotFound; InvalidRequest.
    """
    check(principal, Action.DOWNLOAD)
    if not 1 <= limit <= MAX_TASKS_A_PAGE:
        raise InvalidRequest({"limit": f"must be 1 to {MAX_TASKS_A_PAGE}"})
    job = ports.jobs.job(check_job(principal, job_id, ports))
    wanted = None if task_ids is None else {int(task_id) for task_id in task_ids}
    finished = _finished(job, wanted, _read_cursor(cursor), ports)
    indices = list(islice(finished, limit + 1))
    tasks = ports.jobs.tasks(job.ref, [str(index).zfill(3) for index in indices[:limit]])
    told = fitting(tasks)
    left = [int(task.task_id) for task in tasks[len(told) :]] + indices[limit:]
    note_empty(job, told, ports)
    return {
        "downloads": described(job, told, ports),
        "next_cursor": str(left[0]) if left else None,
    }


def job_downloads(
    principal: Principal, job_id: str, task_id: str | None, ports: Ports
) -> list[dict[str, Any]]:
    """Return all tasks of a job that have frames, or the one named: clients before version 8 know no pages.

    Raises: Forbidden; NotFound; TooLarge, since frames left out would never be missed.
    """
    check(principal, Action.DOWNLOAD)
    job = ports.jobs.job(check_job(principal, job_id, ports))
    wanted = None if task_id is None else {int(task_id)}
    indices = _finished(job, wanted, 0, ports)
    tasks: list[Task] = []
    file_count = 0
    while some := [str(index).zfill(3) for index in islice(indices, MAX_TASKS_A_PAGE)]:
        found = ports.jobs.tasks(job.ref, some)
        tasks += found
        file_count += sum(map(_output_count, found))
        if file_count > MAX_FILES_AT_ONCE:
            reason = f"more than {MAX_FILES_AT_ONCE} files at once"
            raise TooLarge(f"job {job_id}: {reason}; name its tasks, or use a newer client")
    note_empty(job, tasks, ports)
    return described(job, tasks, ports)


def fitting(tasks: Sequence[Task], told_count: int = 0) -> list[Task]:
    """Return the tasks up to the one with which an answer, that has `told_count` files already, is full."""
    counts = accumulate(_output_count(task) for task in tasks)
    return [
        task
        for task, count in zip(tasks, counts, strict=True)
        if told_count + count - _output_count(task) < MAX_FILES_A_PAGE
    ]


def note_empty(job: Job, tasks: Sequence[Task], ports: Ports) -> None:
    """Note that tasks which succeeded without a file are downloaded: no downloader ever reports them."""
    empty = [
        task
        for task in tasks
        if task.status is TaskStatus.SUCCESS and task.attempts and not _output_count(task)
    ]

    def note(task: Task) -> None:
        note_downloaded(TaskRef(*job.ref, task.task_id), task.attempts[-1].number, ports)

    if empty:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(note, empty))


def note_downloaded(ref: TaskRef, number: int, ports: Ports) -> None:
    """Note that the frames of this attempt arrived; the job is summed anew once its page has none left to fetch.

    Not after each: a sum reads all pages of the job. The last must not be passed over, since nobody looks after a job
    that has ended.
    """
    applied = mark_downloaded(ref, number, ports)
    if applied is not None and applied.success_count == 0:
        ask_to_settle(ref.job, ports, is_urgent=applied.open_count == 0)


def _output_count(task: Task) -> int:
    """Return how many files a task has for the artist: none while it is being rendered anew."""
    last = task.attempts[-1] if task.attempts else None
    return last.output_count if last is not None and last.outcome is Outcome.SUCCESS else 0


def _read_cursor(cursor: str) -> int:
    """A cursor is the number of the first task of its page; nobody but us needs to know."""
    if cursor and not _CURSOR.fullmatch(cursor):
        raise InvalidRequest({"start_cursor": "is none of ours"})
    return int(cursor or 0)


def _finished(job: Job, wanted: set[int] | None, first: int, ports: Ports) -> Iterator[int]:
    """Yield the numbers of the tasks with frames, ascending from `first`; reads one page of a hundred at a time.

    From the first page without frames on, it reads only those that have some.
    """
    pages = range(first // TASKS_PER_PAGE, job.page_count)
    asked = set(pages) if wanted is None else {each // TASKS_PER_PAGE for each in wanted}
    is_walking = True
    for number in pages:
        if number not in asked:
            continue
        indices = _with_frames(job, number, ports)
        if not indices and is_walking:
            asked &= _pages_with_frames(job, ports)
            is_walking = False
        for index in indices:
            if index >= first and (wanted is None or index in wanted):
                yield index


def _with_frames(job: Job, number: int, ports: Ports) -> list[int]:
    """Return the numbers of a page's tasks with frames, ascending."""
    try:
        page = ports.jobs.page(job.ref, number)
    except NotFound:
        return []  # it has not been written yet
    return sorted(int(task_id) for task_id, each in page.statuses.items() if each in _HAS_FRAMES)


def _pages_with_frames(job: Job, ports: Ports) -> frozenset[int]:
    pages = ports.jobs.page_summaries(job)
    return frozenset(
        page.number for page in pages if any(page.counts.get(each) for each in _HAS_FRAMES)
    )


def described(job: Job, tasks: Sequence[Task], ports: Ports) -> list[dict[str, Any]]:
    """Return those of the tasks that have files, with their URLs.

    One whose list of files is gone from the store is left out: nobody could fetch it, and the others shall be fetched.
    """
    refs = [
        AttemptRef(*job.ref, task.task_id, task.attempts[-1].number)
        for task in tasks
        if _output_count(task)
    ]

    def listed(ref: AttemptRef) -> list[Mapping[str, Any]] | None:
        try:
            return list(orjson.loads(ports.blobs.read(manifest_name(ref))))
        except NotFound:
            log(
                "ERROR",
                "list of files gone",
                account_id=ref.account_id,
                job_id=ref.job_id,
                task_id=ref.task_id,
                attempt=ref.number,
            )
            return None

    def url(file: tuple[AttemptRef, Mapping[str, Any]]) -> str:
        ref, each = file
        return ports.blobs.url_to_read(output_name(ref, each["relative_path"]), URL_LIFETIME_S)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        lists = zip(refs, pool.map(listed, refs), strict=True)
        there = [(ref, some) for ref, some in lists if some is not None]
        urls = pool.map(url, [(ref, each) for ref, some in there for each in some])
        return [_download(job, ref, some, urls) for ref, some in there]


def _download(
    job: Job, ref: AttemptRef, listed: Sequence[Mapping[str, Any]], urls: Iterator[str]
) -> dict[str, Any]:
    where = {"output_dir": job.output_path, "job_id": ref.job_id, "task_id": ref.task_id}
    return {
        "download_id": f"{ref.job_id}-{ref.task_id}-{ref.number}",
        **where,
        "size": sum(each["size"] for each in listed),
        "files": [
            {
                **where,
                "relative_path": each["relative_path"],
                "md5": each["md5"],
                "size": each["size"],
                "url": next(urls),
            }
            for each in listed
        ],
    }
