"""Downloads: the frames of a job in pages of tasks, and what the downloader reports back."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import orjson

from shared.core.permissions import Action, check
from shared.errors import InvalidRequest, NotFound
from shared.models.account import Principal
from shared.models.job import AttemptRef, Job, JobRef, TaskRef
from shared.models.submission import DownloadStatus
from shared.models.task import TASKS_PER_PAGE, Outcome, Task, TaskStatus
from shared.ports import Ports
from shared.services.ask import ask_to_settle
from shared.services.attempts import manifest_name, output_name
from shared.services.control import mark_downloaded

URL_LIFETIME_S = 6 * 3600
MAX_TASKS_A_PAGE = 500
_MANIFESTS_AT_ONCE = 16
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

    `task_ids` as people write them, None for all. Raises: Forbidden; NotFound; InvalidRequest.
    """
    check(principal, Action.DOWNLOAD)
    if not 1 <= limit <= MAX_TASKS_A_PAGE:
        raise InvalidRequest({"limit": f"must be 1 to {MAX_TASKS_A_PAGE}"})
    job = ports.jobs.job(JobRef(principal.account_id, job_id))
    wanted = None if task_ids is None else {int(task_id) for task_id in task_ids}
    finished = _finished(job, wanted, _read_cursor(cursor), ports)
    indices = list(islice(finished, limit + 1))
    tasks = ports.jobs.tasks(job.ref, [str(index).zfill(3) for index in indices[:limit]])
    with ThreadPoolExecutor(_MANIFESTS_AT_ONCE) as pool:
        found = list(pool.map(lambda task: _download(job, task, ports), tasks))
    return {
        "downloads": [download for download in found if download],
        "next_cursor": str(indices[limit]) if len(indices) > limit else None,
    }


def _read_cursor(cursor: str) -> int:
    """A cursor is the number of the first task of its page; nobody but us needs to know."""
    if cursor and not cursor.isdecimal():
        raise InvalidRequest({"start_cursor": "is none of ours"})
    return int(cursor or 0)


def _finished(job: Job, wanted: set[int] | None, first: int, ports: Ports) -> Iterator[int]:
    """Yield the numbers of the tasks with frames, ascending from `first`; reads one page of a hundred at a time."""
    pages = range(first // TASKS_PER_PAGE, job.page_count)
    for number in pages:
        if wanted is not None and not any(each // TASKS_PER_PAGE == number for each in wanted):
            continue
        try:
            page = ports.jobs.page(job.ref, number)
        except NotFound:
            continue  # it has not been written yet
        for index in sorted(int(task_id) for task_id in page.statuses):
            is_asked = index >= first and (wanted is None or index in wanted)
            if is_asked and page.statuses[str(index).zfill(3)] in _HAS_FRAMES:
                yield index


def _download(job: Job, task: Task, ports: Ports) -> dict[str, Any] | None:
    """Return a task with its files; None when it has none, or is being rendered anew."""
    last = task.attempts[-1] if task.attempts else None
    if last is None or last.outcome is not Outcome.SUCCESS or not last.output_count:
        return None
    ref = AttemptRef(job.account_id, job.job_id, task.task_id, last.number)
    where = {"output_dir": job.output_path, "job_id": job.job_id, "task_id": task.task_id}
    files = [
        {
            **where,
            "relative_path": each["relative_path"],
            "md5": each["md5"],
            "size": each["size"],
            "url": ports.blobs.url_to_read(output_name(ref, each["relative_path"]), URL_LIFETIME_S),
        }
        for each in orjson.loads(ports.blobs.read(manifest_name(ref)))
    ]
    return {
        "download_id": f"{job.job_id}-{task.task_id}-{last.number}",
        **where,
        "size": sum(each["size"] for each in files),
        "files": files,
    }


def note_status(principal: Principal, said: DownloadStatus, ports: Ports) -> None:
    """Note that a task's frames have arrived; any other status, and any repeat, changes nothing.

    Raises: Forbidden; NotFound.
    """
    check(principal, Action.DOWNLOAD)
    job_id, task_id, number = said.download_id.split("-")
    ref = TaskRef(principal.account_id, job_id, task_id)
    if said.status == "downloaded" and mark_downloaded(ref, int(number), ports):
        ask_to_settle(ref.job, ports, is_urgent=True)
