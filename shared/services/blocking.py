"""Blocking: which instances the attempts of a job keep away from; looked into while the job is summed, never else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice

from shared.core.blocking import (
    FAILURES,
    blocked,
    failures_there,
    is_look_due,
    most_blocked,
    suspects,
)
from shared.log import log
from shared.models.job import Job
from shared.models.money import Ending
from shared.models.task import Outcome
from shared.ports import Ports

# What one look reads at most, besides one query for each suspect. Today and yesterday are looked at: what failed
# longer ago says little, and its instances are most likely gone.
_MOST_FAILURES = 300
_MOST_SUCCESSES = 200
_MOST_SUSPECTS = 20
_MOST_COUNTED = 1000


def with_blocked(before: Job, after: Job, ports: Ports) -> Job:
    """Return a job that has just been summed with the instances on which it fails; nothing is read if nothing failed.

    A failure is in the ledger by the commit that puts it into the sums, so the look misses none that called for it.
    """
    if not is_look_due(before, after):
        return after
    known = after.blocked_instances
    failures = _lately(after, Outcome.FAILED, _MOST_FAILURES, ports)
    suspected = suspects(failures, known)
    if not suspected:
        return after
    successes = _lately(after, Outcome.SUCCESS, _MOST_SUCCESSES, ports)
    ran = {each.instance for each in (*failures, *successes)}
    if len(known) >= most_blocked({*ran, *known}):
        return after
    failing = [
        name
        for name, since in islice(suspected.items(), _MOST_SUSPECTS)
        if not ports.ledger.has_ended_on(after.ref, name, Outcome.SUCCESS, since)
    ]
    succeeded = {each.instance for each in successes}
    return replace(after, blocked_instances=blocked(known, failing, ran=ran, succeeded=succeeded))


def log_blocked(job: Job, known: Sequence[str]) -> None:
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


def _lately(job: Job, outcome: Outcome, most: int, ports: Ports) -> list[Ending]:
    today = ports.now().date()
    found = ports.ledger.endings(job.ref, outcome, most, today)
    if len(found) < most:
        found += ports.ledger.endings(job.ref, outcome, most - len(found), today - timedelta(1))
    return found
