"""Trust: what an agent says of its attempt counts for more than that the scheduler does not hear of the machine."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from shared.models.farm import Placement, Stage
from shared.models.job import AttemptRef, JobRef
from shared.models.task import Task
from shared.ports import JobStore
from shared.services.attempts import HEARTBEAT_S, TOUCHED_EVERY
from shared.services.observe import Observation

# An agent speaks every HEARTBEAT_S, and once in TOUCHED_EVERY its word is noted. One whose last note is older than two
# such times, and three heartbeats more for calls that had to be repeated, has been silent for more than a minute.
ALIVE = 2 * TOUCHED_EVERY + 3 * timedelta(seconds=HEARTBEAT_S)


def is_alive(task: Task, number: int, now: datetime) -> bool:
    """Tell whether the agent of an attempt has been heard of lately."""
    live = task.live
    return live is not None and live.number == number and now - live.alive_at < ALIVE


def trust_agents(seen: Observation, jobs: JobStore) -> Observation:
    """Return what was seen with those attempts started whose agents speak, and those lost whose machines are silent.

    A scheduler that misses a heartbeat loses what runs on the machine, which goes on. Only what may still run is asked
    about: the provider has the machine, or cannot say, and nobody has seen the attempt end.
    """
    silent = {node.name for node in seen.nodes if not (node.is_up or node.is_joining)}
    silent -= {node.name for node in seen.nodes if node.is_up}
    doubtful = [
        each
        for each in seen.placements
        if (each.stage is Stage.LOST and each.ended_at is None and each.cause is None)
        or (each.stage is Stage.STARTED and each.instance in silent)
    ]
    if not doubtful:
        return seen
    there = seen.present
    alive = _alive((each for each in doubtful if each.instance in there), jobs, seen.at)
    stages = {
        each.attempt_id: Stage.STARTED if each.attempt_id in alive else Stage.LOST
        for each in doubtful
    }
    placements = [
        replace(each, stage=stages.get(each.attempt_id, each.stage)) for each in seen.placements
    ]
    return replace(seen, placements=placements)


def _alive(placements: Iterable[Placement], jobs: JobStore, now: datetime) -> set[str]:
    """Return the ids of those attempts whose agents have been heard of lately."""
    by_job: defaultdict[JobRef, dict[str, int]] = defaultdict(dict)
    for each in placements:
        attempt = AttemptRef.parse(each.attempt_id)
        by_job[attempt.task.job][attempt.task_id] = attempt.number
    return {
        AttemptRef(*ref, task.task_id, numbers[task.task_id]).attempt_id
        for ref, numbers in by_job.items()
        for task in jobs.tasks(ref, numbers)
        if is_alive(task, numbers[task.task_id], now)
    }
