"""What a tick sees of a simulated site: the same that the autoscaler's observation and census come to."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from shared.core.census import Backlog
from shared.core.durations import left
from shared.models.farm import Instance, Shape
from simulator.parts import Machine, SimulatedJob, Site, moment
from simulator.policies import Seen


def observe(
    site: Site,
    index: int,
    *,
    jobs: Mapping[SimulatedJob, float | None],
    now_s: float,
    new_name: Callable[[], str],
) -> Seen:
    """Return what waits and what there is; `jobs` are those that have not ended, and what an attempt of each takes."""
    counts: defaultdict[tuple[Shape, float | None, bool], int] = defaultdict(int)
    for job, expected_s in jobs.items():
        if job.site == index:
            counts[job.said.shape, expected_s, False] += job.queued_count
            counts[job.said.shape, expected_s, True] += len(job.ready)
    return Seen(
        orchestrator=site.orchestrator,
        backlog=[
            Backlog(shape=shape, count=number, expected_s=expected_s, is_held=is_held)
            for (shape, expected_s, is_held), number in counts.items()
            if number
        ],
        instances=[_seen(each, jobs, site, now_s) for each in site.machines.values()],
        prices=site.prices(),
        now=moment(now_s),
        new_name=new_name,
    )


def _seen(
    machine: Machine, jobs: Mapping[SimulatedJob, float | None], site: Site, now_s: float
) -> Instance:
    """Return a machine; when it gets free is said only where it matters, sooner than another one boots."""
    if machine.job is None:
        return machine.seen(None)
    expected_s = jobs[machine.job]
    if expected_s is None:
        return machine.seen(None)
    left_s = left(expected_s, now_s - machine.job.started[machine.task])
    return machine.seen(left_s if left_s < site.orchestrator.boot_s else None)
