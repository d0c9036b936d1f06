"""What the benchmark job takes when nothing is lost between: how near its goals can any policy come?

Machines are created without a pause until there are enough, and nobody knows how long one boots before it is up. But
each starts a frame the moment it is up, is gone the moment that its frame ends, and those that still boot when the last
frame has started are gone at that very moment. No look at the farm takes any time: what is left is the price of not
knowing.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import mean

from simulator.bounds import fewest, nominal_boot_s, soonest_s
from simulator.farm import weather
from simulator.parts import Trace


@dataclass(frozen=True, kw_only=True)
class Ideal:
    """Makespan and instance-minutes of such a run over their bounds, as `Score` has them."""

    by_makespan: float
    by_minutes: float


def ideal(trace: Trace, seed: int, spare_percent: int) -> Ideal:
    """Return the figures for a trace of one job on one cloud, none of whose machines has the time for two tasks.

    The boots are those of the simulation with this seed.
    """
    ((settings, cloud),) = trace.sites
    (job,) = trace.submissions
    work_s, (found_weather,) = job.durations_s, weather(trace, seed)
    boots = random.Random(f"boots {seed}")
    machines = []
    for index in range(len(work_s) * (100 + spare_percent) // 100):
        boot_s = cloud.boot.draw_s(found_weather, boots)
        if boot_s is None:
            raise ValueError("every machine must boot here")
        created_s = index / cloud.create_per_s
        machines.append((created_s + boot_s, created_s))
    machines.sort()
    last_up_s = machines[len(work_s) - 1][0]
    used, unused = machines[: len(work_s)], machines[len(work_s) :]
    ended_s = [
        up_s + cloud.agent_s + took_s for (up_s, _), took_s in zip(used, work_s, strict=True)
    ]
    gone_s = ended_s + [max(last_up_s, created_s) for _, created_s in unused]
    lived_s = sum(gone_s) - sum(created_s for _, created_s in machines)
    soonest = soonest_s(
        work_s,
        first_s=found_weather * cloud.boot.shift_s + cloud.agent_s,
        limit=settings.max_instances,
        per_s=cloud.create_per_s,
    )
    boot_s = nominal_boot_s(cloud)
    least_s = sum(work_s) + fewest(work_s, max(ended_s) - boot_s) * boot_s
    return Ideal(by_makespan=max(ended_s) / soonest, by_minutes=lived_s / least_s)


def ideals(trace_of: Callable[[int], Trace], seeds: Iterable[int], spare_percent: int) -> Ideal:
    """Return the means of one run for each seed."""
    runs = [ideal(trace_of(seed), seed, spare_percent) for seed in seeds]
    return Ideal(
        by_makespan=mean(each.by_makespan for each in runs),
        by_minutes=mean(each.by_minutes for each in runs),
    )
