"""Blocking: which instances the attempts of a job keep away from; looked into after it was summed, never else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import islice

from shared.core.blocking import (
    FAILURES,
    blocked,
    failures_there,
    is_look_due,
    most_blocked,
    suspects,
)
from shared.log import log, reason_of
from shared.models.job import Job, JobRef
from shared.models.task import Outcome
from shared.ports import Ports

# What one look reads at most, besides one entry for each suspect. Today and yesterday are looked at: what failed
# longer ago says little, and its instances are most likely gone.
_MOST_FAILURES = 300
_MOST_SUCCESSES = 200
_MOST_COUNTED = 1000
# A look that finds few failures, and nothing suspect, reads next to nothing. After any other, and after one that
# failed, this process looks at the job no more for a while.
_FEW = 50
_PAUSE = timedelta(seconds=30)
_REMEMBERED = 10_000

_next_look: dict[JobRef, datetime] = {}
_owed: set[JobRef] = set()


def block(before: Job, after: Job, ports: Ports) -> Job:
    """Look whether a job that has been summed fails on some instances, and note those; whatever goes wrong is logged.

    Nothing is read if nothing failed. A failure is in the ledger by the commit that puts it into the sums, so the look
    misses none that called for it; one that was put off is made up for when the job is summed next.
    """
    ref, now = after.ref, ports.now()
    if not (is_look_due(before, after) or ref in _owed):
        return after
    if now < _next_look.get(ref, now):
        _remember(ref, is_owed=True)
        return after
    _remember(ref, is_owed=False)
    try:
        found = _look(after, ports)
        return _noted(after, found, ports) if found != after.blocked_instances else after
    except Exception as error:  # noqa: BLE001  a job is summed, and ends, whatever becomes of the look
        _remember(ref, is_owed=True, until=now + _PAUSE)
        reason = reason_of(error)
        ids = {"account_id": ref.account_id, "job_id": ref.job_id}
        log("WARNING", "not looked for instances to block", **ids, reason=reason)
        return after


def _remember(ref: JobRef, *, is_owed: bool, until: datetime | None = None) -> None:
    if len(_next_look) + len(_owed) >= _REMEMBERED:
        _next_look.clear()
        _owed.clear()
    if is_owed:
        _owed.add(ref)
    else:
        _owed.discard(ref)
    if until is not None:
        _next_look[ref] = until


def _look(job: Job, ports: Ports) -> tuple[str, ...]:
    """Return what is to be blocked for a job, as far as the newest of its attempts tell."""
    known = job.blocked_instances
    since = datetime.combine(ports.now().date() - timedelta(days=1), time(), UTC)
    failures = ports.ledger.endings(job.ref, Outcome.FAILED, _MOST_FAILURES, since)
    suspected = suspects(failures, known)
    if suspected or len(failures) > _FEW:
        _remember(job.ref, is_owed=False, until=ports.now() + _PAUSE)
    if not suspected:
        return known
    successes = ports.ledger.endings(job.ref, Outcome.SUCCESS, _MOST_SUCCESSES, since)
    ran = {each.instance for each in (*failures, *successes)}
    succeeded = {each.instance for each in successes}
    # The worst may have succeeded since: as many are asked about as it takes to find those that have not.
    failing = (
        name
        for name, first in suspected.items()
        if succeeded - {name}
        and not ports.ledger.has_ended_on(job.ref, name, Outcome.SUCCESS, first)
    )
    left = max(most_blocked({*ran, *known}) - len(known), 0)
    return blocked(known, list(islice(failing, left)), ran=ran, succeeded=succeeded)


def _noted(job: Job, found: tuple[str, ...], ports: Ports) -> Job:
    """Store what was found, unless another look was faster."""
    known, is_ours = job.blocked_instances, False

    def with_blocked(now: Job) -> Job:
        nonlocal is_ours
        is_ours = now.blocked_instances == known
        return replace(now, blocked_instances=found) if is_ours else now

    after = ports.jobs.change_job(job.ref, with_blocked)
    if is_ours:
        _log_blocked(after, known)
    return after


def _log_blocked(job: Job, known: Sequence[str]) -> None:
    """Log one line for each instance that was blocked just now, besides those `known`."""
    for instance in job.blocked_instances[len(known) :]:
        log(
            "WARNING",
            "instance blocked",
            account_id=job.account_id,
            job_id=job.job_id,
            instance=instance,
            orchestrator_id=job.orchestrator_id,
            reason=f"{FAILURES} attempts in a row failed there, others succeeded elsewhere",
        )


def failure_counts(job: Job, ports: Ports) -> Mapping[str, int]:
    """Return how many attempts failed on each of the instances blocked for a job; a thousand are counted at most."""
    if not job.blocked_instances:
        return {}
    failures = ports.ledger.endings(job.ref, Outcome.FAILED, _MOST_COUNTED)
    return failures_there(failures, job.blocked_instances)
