"""The report: what each policy does with each trace, as tables and pictures."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from simulator import plots
from simulator.farm import Pace, simulate
from simulator.ideal import ideals
from simulator.parts import Trace
from simulator.policies import (
    Baton,
    ClusterAutoscaler,
    FixedFarm,
    OnePerTask,
    Policy,
    TargetValue,
)
from simulator.published import TALK_TOTAL, TALK_WAIT, Comparison, compare
from simulator.scores import Score, average, scores
from simulator.traces import FRESH_SEEDS, benchmark, long_frames, mixed_day, short_bursts
from simulator.words import INTRODUCTION, SPARE_TEXT

Make = Callable[[int], Trace]
SPARES = (0, 1, 3, 5, 8, 10, 12, 15, 20)
REPEATS = 20
IDEAL_RUNS = 60
TRACES: dict[str, tuple[Make, int]] = {  # and how many machines of each shape the fixed farm has
    "bursts of short frames": (short_bursts, 200),
    "long heavy frames": (long_frames, 150),
    "mixed day": (mixed_day, 60),
}
SEEDS = range(5)
HEAD = (
    "| policy | makespan, s | wait p50 / p99, s | instance-minutes | paid minutes | cost, $ | waste | peak "
    "| makespan / bound | minutes / bound | minutes / tighter bound | paid / bound |"
)


def policies(standing: int) -> dict[str, Callable[[], Policy]]:
    """Return the policies that are compared."""
    return {
        "Baton": Baton,
        "one instance per task": OnePerTask,
        "target value on the queue": TargetValue,
        "cluster-autoscaler": ClusterAutoscaler,
        f"fixed farm of {standing}": partial(FixedFarm, standing),
    }


def write(folder: Path, *, runs: int) -> None:
    """Write simulator.md and its pictures."""
    pictures = folder / "simulator"
    pictures.mkdir(parents=True, exist_ok=True)
    table = {
        name: average(scores(benchmark, each, range(_runs(name, runs))))
        for name, each in policies(125).items()
    }
    spares = [
        (percent, average(scores(_spared(percent), Baton, range(runs // 2)))) for percent in SPARES
    ]
    shown = {
        name: simulate(benchmark(1), each, seed=1, pace=Pace(sample_s=2.0))
        for name, each in policies(125).items()
    }
    plots.farm_over_time(shown, pictures / "machines.png")
    plots.waits(shown, pictures / "waits.png")
    plots.frontier(
        {name: each for name, each in table.items() if name != "Baton"},
        spares,
        pictures / "frontier.png",
    )
    parts = [
        INTRODUCTION,
        _published(compare(REPEATS)),
        _benchmark(table, runs),
        _spare_table(spares),
        *(_trace(name, make, standing) for name, (make, standing) in TRACES.items()),
    ]
    (folder / "simulator.md").write_text("\n\n".join(parts) + "\n")


def _runs(name: str, runs: int) -> int:
    return runs if name == "Baton" else max(runs // 3, 1)


def _spared(percent: int) -> Make:
    """Return the benchmark with so many spare instances."""

    def make(seed: int) -> Trace:
        trace = benchmark(seed)
        sites = [
            (replace(settings, spare_percent=percent), cloud) for settings, cloud in trace.sites
        ]
        return replace(trace, sites=sites)

    return make


def _published(found: Comparison) -> str:
    return f"""## The published benchmark

The talk "Making Movie Magic with Nomad" ran one job under one autoscaler on two kinds of cluster. Here: one
instance per task, the best of three runs, mean of {REPEATS} repeats. Calibrated, not measured: the talk prints
only ratios, and the two clouds are fitted to them.

| | Nomad on groups | GKE | less | the talk |
|---|---|---|---|---|
| pending to running, mean | {found.nomad_wait_s:.0f} s | {found.gke_wait_s:.0f} s | {found.wait_gain:.1%} \
| {TALK_WAIT:.0%} |
| pending to running, median | {found.nomad_p50_s:.0f} s | | | under 2 min |
| the whole job | {found.nomad_total_s:.0f} s | {found.gke_total_s:.0f} s | {found.total_gain:.1%} | {TALK_TOTAL:.0%} |
| most machines | {found.nomad_peak:.0f} | {found.gke_peak:.0f} | | |"""


def _benchmark(table: dict[str, Score], runs: int) -> str:
    return f"""## The benchmark job under each policy

500 frames of about 226 s on the Nomad cloud; Baton {runs} runs, the others {max(runs // 3, 1)}, means.

{_table(table)}

![machines over time](simulator/machines.png)

![waits](simulator/waits.png)"""


def _spare_table(spares: list[tuple[int, Score]]) -> str:
    lines = []
    for percent, each in spares:
        best = ideals(benchmark, range(IDEAL_RUNS), percent)
        lines.append(
            f"| {percent} % | {each.by_makespan:.3f} | {each.by_minutes:.3f} | {each.by_tight:.3f} "
            f"| {each.by_paid:.3f} | {each.peak:.0f} | {best.by_makespan:.3f} | {best.by_minutes:.3f} |"
        )
    return "\n".join([SPARE_TEXT, *lines, "", "![frontier](simulator/frontier.png)"])


def _trace(name: str, make: Make, standing: int) -> str:
    found: dict[str, Score] = {}
    runs: list[Score] = []
    for label, policy in policies(standing).items():
        each = scores(make, policy, SEEDS)
        runs = runs or each
        found[label] = average(each)
    by_seed = ", ".join(f"{each.by_makespan:.2f} and {each.by_minutes:.2f}" for each in runs)
    fresh = average(scores(make, Baton, FRESH_SEEDS))
    return f"""## {name[0].upper()}{name[1:]}

{_table(found)}

Baton by seed, makespan and instance-minutes over their bounds: {by_seed}.
The mean of {len(FRESH_SEEDS)} other seeds, by which no setting was chosen: {fresh.by_makespan:.3f} and
{fresh.by_minutes:.3f}, and {fresh.by_tight:.3f} of the tighter bound."""


def _table(found: dict[str, Score]) -> str:
    lines = [
        f"| {name} | {each.makespan_s:,.0f} | {each.p50_s:,.0f} / {each.p99_s:,.0f} | {each.instance_minutes:,.0f} "
        f"| {each.paid_minutes:,.0f} | {each.cost_dollars:,.2f} | {each.waste:.0%} | {each.peak:,.0f} "
        f"| {each.by_makespan:.2f} | {each.by_minutes:.2f} | {each.by_tight:.2f} | {each.by_paid:.2f} |"
        for name, each in found.items()
    ]
    return "\n".join([HEAD, "|---" * HEAD.count(" |") + "|", *lines])
