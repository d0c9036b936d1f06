"""What became of a trace: times, instance-minutes, money, waste."""

from dataclasses import dataclass, field
from datetime import timedelta

from shared.core.pricing import billed_minutes, cost_micros
from simulator.parts import START, Machine, SimulatedJob, Trace


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The farm at one moment: machines asked for, up and busy, and attempts that wait."""

    at_s: float
    machines: int
    up: int
    busy: int
    waiting: int


@dataclass
class Outcome:
    """The figures of one run.

    Units: `instance_s` is from creation to deletion; `paid_minutes` are started minutes, and `cost_micros` is theirs.
    `lost_s` is work that was lost with its machine. `peak` counts machines that were asked for, `peak_up` that joined.
    """

    trace: Trace
    seed: int
    jobs: list[SimulatedJob] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    first_start_s: float | None = None
    ended_at_s: float = 0.0
    instance_s: float = 0.0
    paid_minutes: int = 0
    cost_micros: int = 0
    busy_s: float = 0.0
    lost_s: float = 0.0
    machine_count: int = 0
    tick_count: int = 0
    refused_count: int = 0
    lives: list[tuple[float, float, float | None]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def started(self, job: SimulatedJob, at_s: float) -> None:
        """Note that an attempt starts."""
        self.waits_s.append(at_s - job.said.at_s)
        if self.first_start_s is None or at_s < self.first_start_s:
            self.first_start_s = at_s

    def worked(self, seconds: float) -> None:
        """Note work that is done."""
        self.busy_s += seconds

    def lost(self, seconds: float) -> None:
        """Note work that has to be done again."""
        self.lost_s += seconds

    def gone(self, machine: Machine, price_micros_per_minute: int) -> None:
        """Bill a machine; one that was not created yet costs nothing."""
        self.machine_count += 1
        ended_s = machine.gone_at_s
        if ended_s is None or ended_s <= machine.created_at_s:
            return
        self.instance_s += ended_s - machine.created_at_s
        start, end = (START + timedelta(seconds=each) for each in (machine.created_at_s, ended_s))
        minutes = billed_minutes(start, end)
        self.paid_minutes += minutes
        self.cost_micros += cost_micros(minutes, price_micros_per_minute)
        self.lives.append((machine.created_at_s, ended_s, machine.up_at_s))

    @property
    def peak(self) -> int:
        """The most machines there were at once."""
        return _most_at_once([(born, gone) for born, gone, _ in self.lives])

    @property
    def peak_up(self) -> int:
        """The most machines that the scheduler knew at once."""
        return _most_at_once([(up, gone) for _, gone, up in self.lives if up is not None])

    @property
    def waste(self) -> float:
        """The share of the paid minutes in which nothing was done that lasts."""
        return 1 - self.busy_s / 60 / self.paid_minutes if self.paid_minutes else 0.0

    def wait_s(self, share: float) -> float:
        """Return how long so many of the attempts waited at most, e.g. 0.5 for the median."""
        ordered = sorted(self.waits_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    @property
    def mean_wait_s(self) -> float:
        return sum(self.waits_s) / len(self.waits_s)

    @property
    def makespans_s(self) -> list[float]:
        """How long each job took, in order of submission."""
        return [
            each.ended_at_s - each.said.at_s for each in self.jobs if each.ended_at_s is not None
        ]


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = there = 0
    for _, change in changes:
        there += change
        most = max(most, there)
    return most
