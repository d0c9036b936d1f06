"""Downloads: the frames of a job in pages of tasks, and what the downloader reports back."""

from collections.abc import Iterator, Mapping, Sequence
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
from shared.services.attempts import manifest_name, output_name
from shared.services.control import mark_downloaded
from shared.services.settle import ask_to_settle

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
    """Return at most `limit` tasks with all their files, and the cursor of the next page, None after the last.

    Raises: Forbidden; NotFound; InvalidRequest.
    """
    check(principal, Action.DOWNLOAD)
    job = ports.jobs.job(JobRef(principal.account_id, job_id))
    first = _read_cursor(cursor)
    wanted = _finished(job, task_ids, first, ports)
    chosen = list(islice(wanted, min(max(limit, 1), MAX_TASKS_A_PAGE) + 1))
    more = chosen[limit:] and len(chosen) > limit
    chosen = chosen[:limit]
    tasks = ports.jobs.tasks(job.ref, [task_id for _, task_id in chosen])
    with ThreadPoolExecutor(_MANIFESTS_AT_ONCE) as pool:
        found = list(pool.map(lambda task: _download(job, task, ports), tasks))
    return {
        "downloads": [each for each in found if each],
        "next_cursor": str(chosen[-1][0] + 1) if more else None,
    }
