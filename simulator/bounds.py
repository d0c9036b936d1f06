"""What no schedule can beat: how soon work can end, and the instance-minutes that ending so soon takes at least.

No instance is taken to be there before the work that it is for, unless other work of its shape is under way.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt

from shared.models.farm import Shape
from simulator.clouds import Cloud
from simulator.farm import weather
from simulator.outcome import Outcome
from simulator.parts import SimulatedJob


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The bounds of one run.

    Units: `makespan_s` is the sum over the jobs. `instance_minutes` lets a task be cut into pieces that several
    instances share, and all instances come at once; `tight_minutes` does not. `busy_minutes` is the work alone.
    """

    makespan_s: float
    instance_minutes: float
    tight_minutes: float
    busy_minutes: float


def bounds(outcome: Outcome) -> Bounds:
    """Return the bounds for what ran; what preemptions took counts as work, for no schedule can know them before."""
    makespan_s = fluid_s = tight_s = busy_s = 0.0
    weathers = weather(outcome.trace, outcome.seed)
    for group in _groups(outcome):
        site = group[0].site or 0
        orchestrator, cloud = outcome.trace.sites[site]
        boot_s = nominal_boot_s(cloud)
        fluid = _fewest_of(group, boot_s)
        tight = fluid
        for job in group:
            is_cold = job is group[0]
            work = _work(job)
            makespan_s += soonest_s(
                work,
                first_s=weathers[site] * cloud.boot.shift_s + cloud.agent_s if is_cold else 0.0,
                limit=min(orchestrator.max_instances, job.said.max_instances or inf),
                per_s=cloud.create_per_s if is_cold else None,
            )
            room_s = _makespan(job) - (boot_s if is_cold else 0.0)
            least = fewest_whole(work, room_s, per_s=cloud.create_per_s if is_cold else None)
            tight = max(tight, least)
            busy_s += sum(work)
        fluid_s += fluid * boot_s
        tight_s += tight * boot_s
    return Bounds(
        makespan_s=makespan_s,
        instance_minutes=(busy_s + fluid_s) / 60,
        tight_minutes=(busy_s + tight_s) / 60,
        busy_minutes=busy_s / 60,
    )


def nominal_boot_s(cloud: Cloud) -> float:
    """Return the usual time from a machine's creation to its first attempt."""
    return cloud.boot.shift_s + cloud.boot.median_s + cloud.agent_s


def soonest_s(
    work_s: Sequence[float], *, first_s: float, limit: float, per_s: float | None
) -> float:
    """Return when the work can have ended at the soonest, on any number of instances up to a limit.

    No attempt starts before `first_s`; instances are created at most `per_s` a second, None for all at once.
    """
    total = sum(work_s)
    ramp_s = limit / per_s if per_s else 0.0
    while_ramping = limit * ramp_s / 2
    if per_s and total <= while_ramping:
        together_s = sqrt(2 * total / per_s)
    else:
        together_s = ramp_s + (total - while_ramping) / limit
    return first_s + max(max(work_s), together_s)


def fewest(work_s: Sequence[float], room_s: float) -> int:
    """Return how many instances it takes at least to do the work when each has `room_s` for it."""
    return ceil(sum(work_s) / max(room_s, *work_s, 1e-9) - 1e-9)


def fewest_whole(work_s: Sequence[float], room_s: float, *, per_s: float | None) -> int:
    """Return the same for tasks that are not cut, on instances that come `per_s` a second, None for all at once.

    No two tasks that take more than half of the room share an instance; each instance has less room than the last.
    """
    room_s = max(room_s, *work_s)
    found = max(fewest(work_s, room_s), sum(each > room_s / 2 for each in work_s))
    if per_s:
        # n instances have n * room - n * n / (2 * per_s) together
        under_root = (room_s * per_s) ** 2 - 2 * per_s * sum(work_s)
        if under_root > 0:
            found = max(found, ceil(room_s * per_s - sqrt(under_root) - 1e-6))
    return found


def _fewest_of(group: Sequence[SimulatedJob], boot_s: float) -> int:
    """Return how many instances it takes at least to do all jobs of a group, each in the time that it took.

    Whatever begins and ends within a span of time is done by those that are there in it.
    """
    spans = [(job.said.at_s, job.said.at_s + _makespan(job), _work(job)) for job in group]
    found = 0
    for begun_s, *_ in spans:
        room_from_s = begun_s + boot_s if begun_s == spans[0][0] else begun_s
        for _, ended_s, _ in spans:
            within = [
                w for start, end, work in spans if start >= begun_s and end <= ended_s for w in work
            ]
            if within:
                found = max(found, fewest(within, ended_s - room_from_s))
    return found


def _work(job: SimulatedJob) -> list[float]:
    return [each + job.lost_s.get(index, 0.0) for index, each in enumerate(job.said.durations_s)]


def _makespan(job: SimulatedJob) -> float:
    if job.ended_at_s is None:
        raise ValueError(f"{job.said.job_id} has not ended")
    return job.ended_at_s - job.said.at_s


def _groups(outcome: Outcome) -> list[list[SimulatedJob]]:
    """Return the jobs of each site and shape that overlapped: instances could go from one of them to another."""
    lanes: defaultdict[tuple[int, Shape], list[SimulatedJob]] = defaultdict(list)
    for job in outcome.jobs:
        lanes[job.site or 0, job.said.shape].append(job)
    found: list[list[SimulatedJob]] = []
    for jobs in lanes.values():
        until_s = float("-inf")
        for job in jobs:
            if job.said.at_s > until_s:
                found.append([])
            found[-1].append(job)
            until_s = max(until_s, job.said.at_s + _makespan(job))
    return found
