"""A run against its bounds, and the mean of several."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from statistics import mean

from simulator.bounds import bounds
from simulator.farm import Pace, simulate
from simulator.outcome import Outcome
from simulator.parts import Trace
from simulator.policies import Policy


@dataclass(frozen=True, kw_only=True)
class Score:
    """The figures of a run, or means of several.

    Units: `makespan_s` is the mean of the jobs; `instance_minutes` are exact, `paid_minutes` started ones. The ratios
    are against the bounds for just this run; `by_tight` is that of `instance_minutes` against the tighter bound.
    """

    makespan_s: float
    p50_s: float
    p99_s: float
    peak: float
    instance_minutes: float
    paid_minutes: float
    cost_dollars: float
    waste: float
    by_makespan: float
    by_minutes: float
    by_tight: float
    by_paid: float


def score(outcome: Outcome) -> Score:
    """Return the figures of a run."""
    least = bounds(outcome)
    makespans = outcome.makespans_s
    minutes = outcome.instance_s / 60
    return Score(
        makespan_s=mean(makespans),
        p50_s=outcome.wait_s(0.5),
        p99_s=outcome.wait_s(0.99),
        peak=outcome.peak,
        instance_minutes=minutes,
        paid_minutes=outcome.paid_minutes,
        cost_dollars=outcome.cost_micros / 1e6,
        waste=outcome.waste,
        by_makespan=sum(makespans) / least.makespan_s,
        by_minutes=minutes / least.instance_minutes,
        by_tight=minutes / least.tight_minutes,
        by_paid=outcome.paid_minutes / least.instance_minutes,
    )


def scores(
    make: Callable[[int], Trace],
    policy: Callable[[], Policy],
    seeds: Iterable[int],
    pace: Pace | None = None,
) -> list[Score]:
    """Return the figures of one run for each seed."""
    return [score(simulate(make(seed), policy, seed=seed, pace=pace)) for seed in seeds]


def average(runs: list[Score]) -> Score:
    """Return the means."""
    return Score(
        **{each.name: mean(getattr(run, each.name) for run in runs) for each in fields(Score)}
    )
