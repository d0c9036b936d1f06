"""Modelled clouds: how long machines take to boot, how many there are, when they are taken back, what they cost."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log

from shared.models.farm import PoolKey, Shape


@dataclass(frozen=True, kw_only=True)
class Boot:
    """How long a machine takes from its creation until it can work.

    (`shift_s` + LogNormal(ln `median_s`, `sigma`)) x weather, where the weather of a run is LogNormal(0,
    `weather_sigma`), the same for all of its machines; of all machines `dead_share` never join.
    """

    shift_s: float
    median_s: float
    sigma: float
    weather_sigma: float = 0.0
    dead_share: float = 0.0

    def weather(self, chance: random.Random) -> float:
        """Return the weather of one run."""
        return exp(chance.gauss(0.0, self.weather_sigma))

    def draw_s(self, weather: float, chance: random.Random) -> float | None:
        """Return how long one machine takes, None when it never joins."""
        seconds = weather * (self.shift_s + exp(chance.gauss(log(self.median_s), self.sigma)))
        return None if self.dead_share and chance.random() < self.dead_share else seconds


@dataclass(frozen=True, kw_only=True)
class Stock:
    """How many machines a pool can have from a moment on."""

    from_s: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One region of one provider, with its scheduler.

    Shapes: `stocks` by pool, each list in order of time, pools that are not in it have no end; `prices` are
    micro-dollars a minute. A machine is created `1 / create_per_s` seconds after the one before. A machine's first
    attempt starts `agent_s` after it was placed, a later one at once; the scheduler takes `placement_s` to place one.
    `is_resize_serial`: the next growth is refused until the machines of the one before have been created and started.
    """

    boot: Boot
    create_per_s: float = 9.6
    agent_s: float = 8.0
    placement_s: float = 0.005
    preempted_per_hour: float = 0.0
    is_resize_serial: bool = False
    stocks: Mapping[PoolKey, Sequence[Stock]] = field(default_factory=dict)
    prices: Mapping[Shape, int] = field(default_factory=dict)

    def stock(self, pool: PoolKey, at_s: float) -> int | None:
        """Return how many machines the pool can have, None when there is no end to them."""
        found = None
        for each in self.stocks.get(pool, ()):
            if each.from_s <= at_s:
                found = each.count
        return found

    @property
    def usual_boot_s(self) -> int:
        """What an operator would write into the orchestrator's settings: the middle of all boots, agent included."""
        return round(self.boot.shift_s + self.boot.median_s + self.agent_s)
