"""Run each schedule of a function over and over, as Cloud Scheduler does: at its slots, never twice at once."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import ClientError, ClientSession, ClientTimeout

from deploy.functions import Function, Schedule

logger = logging.getLogger("emulators.ticker")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One Cloud Scheduler job: whom to POST to, how often, and how long to wait for the answer."""

    name: str
    url: str
    interval_s: float
    deadline_s: float


def jobs_of(functions: Iterable[Function], urls: dict[str, str]) -> list[Job]:
    """Return the jobs of all functions; `urls` maps a function's name to its base URL."""
    return [
        _job(function, schedule, urls) for function in functions for schedule in function.schedules
    ]


def _job(function: Function, schedule: Schedule, urls: dict[str, str]) -> Job:
    return Job(
        name=f"{function.name}-{schedule.name}",
        url=urls[function.name] + schedule.path,
        interval_s=schedule.local_interval_s,
        deadline_s=function.timeout_s,
    )


async def tick(jobs: Iterable[Job], token: str) -> None:
    """Run all jobs side by side until cancelled."""
    async with ClientSession(headers=_headers(token)) as session, asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_repeat(session, job), name=job.name)


def _headers(token: str) -> dict[str, str]:
    return {
        "User-Agent": "Google-Cloud-Scheduler",
        "X-CloudScheduler": "true",
        "X-Baton-Token": token,
    }


async def _repeat(session: ClientSession, job: Job) -> None:
    """Call one job at every slot. A run that outlasts its interval delays the next one, it does not overlap.

    Source: Cloud Scheduler's API text on late runs, 2026-11-20.
    """
    loop = asyncio.get_running_loop()
    started_at, started = datetime.now(UTC), loop.time()
    slot = 0
    while True:
        await _call(session, job, started_at + timedelta(seconds=slot * job.interval_s))
        passed = int((loop.time() - started) / job.interval_s)
        slot = max(slot, passed) + 1
        await asyncio.sleep(started + slot * job.interval_s - loop.time())


async def _call(session: ClientSession, job: Job, scheduled_at: datetime) -> None:
    """Call a job once. A failure is logged and left: the next slot is the retry, as with retry_count 0."""
    headers = {
        "X-CloudScheduler-JobName": job.name,
        "X-CloudScheduler-ScheduleTime": scheduled_at.isoformat(),
    }
    timeout = ClientTimeout(total=job.deadline_s, sock_connect=2.0)
    try:
        async with session.post(
            job.url, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status >= 300:
                logger.warning("%s: %d %s", job.name, answer.status, (await answer.text())[:500])
    except (ClientError, TimeoutError) as exc:
        logger.warning("%s: %s: %s", job.name, type(exc).__name__, exc)
