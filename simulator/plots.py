"""The report's pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from simulator.outcome import Outcome
from simulator.scores import Score

# The same bytes each time: no date inside, no font but the library's own.
mpl.rcParams["font.family"] = "DejaVu Sans"
METADATA = {"Software": "simulator"}
WIDTH, HEIGHT = 9.0, 4.8


def farm_over_time(runs: Mapping[str, Outcome], path: Path) -> None:
    """Draw the machines of the benchmark job under each policy: asked for, and at work."""
    figure = Figure(figsize=(WIDTH, 2.1 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (name, run) in zip(rows[:, 0], runs.items(), strict=True):
        at_min = [each.at_s / 60 for each in run.samples]
        axes.fill_between(
            at_min,
            [each.machines for each in run.samples],
            step="post",
            alpha=0.35,
            label="asked for",
        )
        axes.fill_between(
            at_min, [each.busy for each in run.samples], step="post", alpha=0.8, label="at work"
        )
        axes.axvline(run.ended_at_s / 60, color="black", linewidth=0.8)
        axes.set_title(f"{name}: ends after {run.ended_at_s:.0f} s", loc="left", fontsize=9)
        axes.set_xlim(0, 20)
    rows[0, 0].legend(loc="upper right", fontsize=8)
    rows[-1, 0].set_xlabel("minutes since the job was submitted")
    figure.savefig(path, dpi=110, metadata=METADATA)


def frontier(points: Mapping[str, Score], spares: Sequence[tuple[int, Score]], path: Path) -> None:
    """Draw makespan against instance-minutes, each over its bound; the goals are a box."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    far, near = figure.subplots(1, 2)
    makespans = [each.by_makespan for _, each in spares]
    minutes = [each.by_minutes for _, each in spares]
    for axes in (far, near):
        axes.plot(makespans, minutes, marker="o", color="tab:blue")
        axes.axvline(1.2, linestyle="--", color="grey", linewidth=0.8)
        axes.axhline(1.1, linestyle="--", color="grey", linewidth=0.8)
        axes.set_xlabel("makespan over its strict bound")
    for name, each in points.items():
        far.scatter(each.by_makespan, each.by_minutes)
        far.annotate(f" {name}", (each.by_makespan, each.by_minutes), fontsize=8)
    far.set_xlim(1, 4.5)
    far.set_title("all policies", loc="left", fontsize=9)
    for percent, each in spares:
        near.annotate(f" {percent} %", (each.by_makespan, each.by_minutes), fontsize=8)
    near.set_title("Baton, by spare instances; dashed: the goals", loc="left", fontsize=9)
    far.set_ylabel("instance-minutes over the Pareto bound")
    figure.savefig(path, dpi=110, metadata=METADATA)


def waits(runs: Mapping[str, Outcome], path: Path) -> None:
    """Draw how long the benchmark's frames wait for their start."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    for name, run in runs.items():
        ordered = sorted(run.waits_s)
        shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
        axes.plot(ordered, shares, label=name)
    axes.set_xlim(0, 600)
    axes.set_xlabel("seconds from pending to running")
    axes.set_ylabel("share of the frames")
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110, metadata=METADATA)
