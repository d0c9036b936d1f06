"""Which instances a job's attempts keep away from, because they fail there and succeed elsewhere."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from shared.core.lifecycle import UNCLAIMED_ATTEMPTS
from shared.models.farm import Instance, Placement, Shape, Stage
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.money import Ending
from shared.models.task import Task, TaskStatus

# So many failures in a row on one instance are the instance's doing, if the job succeeds elsewhere.
FAILURES = 3
# Of the instances that have run a job, one in so many may be blocked for it: if more fail, it is the job that fails.
ONE_IN = 4
# The list travels with every attempt to its scheduler.
MOST_BLOCKED = 50
# A task that was withdrawn so often runs wherever it is started: a scheduler that cannot be told what to avoid may have
# nothing else, and refusals alone must never use up what a task survives.
REFUSALS = UNCLAIMED_ATTEMPTS // 2

_SUCCEEDED = (TaskStatus.SUCCESS, TaskStatus.DOWNLOADED)


def is_look_due(before: Job, after: Job) -> bool:
    """Tell whether the sums say that an instance may have to be blocked: frames failed since, or the first succeeded.

    A job of which nothing has succeeded fails everywhere, as far as anybody knows.
    """
    if not success_count(after) or len(after.blocked_instances) >= MOST_BLOCKED:
        return False
    failed_count = after.counts.get(TaskStatus.FAILED, 0)
    has_failed = failed_count > before.counts.get(TaskStatus.FAILED, 0)
    return has_failed or (failed_count > 0 and not success_count(before))


def success_count(job: Job) -> int:
    """Return how many tasks have succeeded, as far as the job has been summed."""
    return sum(job.counts.get(status, 0) for status in _SUCCEEDED)


def suspects(failures: Iterable[Ending], known: Collection[str]) -> dict[str, datetime]:
    """Return the instances with three failures, and when the first of the latest three ended.

    Shapes: without those `known`; those where most failed come first.
    """
    ended: defaultdict[str, list[datetime]] = defaultdict(list)
    for instance, at in failures:
        if instance not in known:
            ended[instance].append(at)
    found = {name: sorted(at) for name, at in ended.items() if len(at) >= FAILURES}
    worst = sorted(found, key=lambda name: (-len(found[name]), name))
    return {name: found[name][-FAILURES] for name in worst}


def most_blocked(ran: Collection[str]) -> int:
    """Return how many of the instances that have run a job may be blocked for it."""
    return min(max(len(ran) // ONE_IN, 1), MOST_BLOCKED)


def blocked(
    known: Sequence[str],
    failing: Sequence[str],
    *,
    ran: Collection[str],
    succeeded: Collection[str],
) -> tuple[str, ...]:
    """Return the instances to block for a job: those `known` for good, and of the others no more than a quarter.

    Shapes: nothing has succeeded on those `failing` since they began to fail, the worst come first; the job `ran` on
    these, as far as anybody looked, and on some of them it `succeeded`.
    """
    left = max(most_blocked({*ran, *known}) - len(known), 0)
    guilty = [name for name in failing if name not in known and set(succeeded) - {name}]
    return (*known, *guilty[:left])


def is_refused(job: Job, task: Task, instance: str) -> bool:
    """Tell whether a waiting task is not to run on this instance."""
    return instance in job.blocked_instances and task.unclaimed < REFUSALS


def failures_there(failures: Iterable[Ending], instances: Sequence[str]) -> Mapping[str, int]:
    """Return how many failures there were on each of these instances."""
    counts = dict.fromkeys(instances, 0)
    for instance, _ in failures:
        if instance in counts:
            counts[instance] += 1
    return counts


class Awaited(NamedTuple):
    """What a job waits for: how many of its tasks, also those that are not at the scheduler yet, and not where."""

    pending_count: int
    blocked_instances: Collection[str] = ()


def split_by_use(
    instances: Iterable[Instance], placements: Iterable[Placement], jobs: Mapping[JobRef, Awaited]
) -> tuple[list[Instance], list[Instance]]:
    """Tell the idle instances that are blocked for all that waits for such a machine from the others.

    Shapes: the others first; those that are blocked are unused, however short they have been idle.
    """
    useful = list(instances)
    if not any(each.blocked_instances for each in jobs.values()):
        return useful, []
    waiting: defaultdict[Shape, set[JobRef]] = defaultdict(set)
    for each in placements:
        if each.stage is Stage.WAITING:
            waiting[each.shape].add(AttemptRef.parse(each.attempt_id).task.job)
    blocked = {
        shape: set.intersection(*(set(jobs[ref].blocked_instances) for ref in refs))
        for shape, refs in waiting.items()
        if refs <= jobs.keys()
    }

    def is_blocked(each: Instance) -> bool:
        return each.idle_since is not None and each.name in blocked.get(Shape(*each.pool[1:]), ())

    useless = [
        replace(each, is_unused=True, is_blocked=True) for each in useful if is_blocked(each)
    ]
    return [each for each in useful if not is_blocked(each)], useless
