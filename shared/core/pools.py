"""The instances of each pool, sorted by what can be done with them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.models.farm import Instance, InstanceStatus, Orchestrator, PoolKey, ProblemCode

# When many are not heard of at once it is more likely the scheduler that does not hear, or that has lost its books:
# only a tenth is given up per tick.
SILENT_SHARE = 0.1
# A machine that has not joined after three times the usual, but never less than five minutes, is late.
SHORTEST_BOOT_LIMIT_S = 300


@dataclass
class Pool:
    """The instances of one pool.

    Shapes: `coming` will join soon, `late` should have joined long ago, `silent` joined and are heard of no more;
    `unused` are idle and of no use to what waits; `broken` are stopped, or the provider cannot start them.
    """

    coming: list[Instance] = field(default_factory=list)
    idle: list[Instance] = field(default_factory=list)
    unused: list[Instance] = field(default_factory=list)
    busy: list[Instance] = field(default_factory=list)
    drained: list[Instance] = field(default_factory=list)
    broken: list[Instance] = field(default_factory=list)
    late: list[Instance] = field(default_factory=list)
    silent: list[Instance] = field(default_factory=list)
    size: int = 0

    @property
    def trouble_count(self) -> int:
        return len(self.broken) + len(self.late) + len(self.silent) + len(self.unused)

    @property
    def staying(self) -> int:
        """How many there are or will be for whatever waits next; one that is blocked for all of that is none."""
        useful = [each for each in self.unused if not each.is_blocked]
        return sum(map(len, (self.coming, self.idle, useful, self.busy)))

    @property
    def expected(self) -> int:
        """How many the scheduler should know."""
        present = (self.idle, self.unused, self.busy, self.drained, self.late, self.silent)
        return sum(map(len, present))


def boot_limit(orchestrator: Orchestrator) -> timedelta:
    """Return how old a machine may be that has not joined."""
    return timedelta(seconds=max(SHORTEST_BOOT_LIMIT_S, 3 * orchestrator.boot_s))


def sort(
    orchestrator: Orchestrator, instances: Iterable[Instance], now: datetime
) -> dict[PoolKey, Pool]:
    """Return the pools that have instances."""
    limit = boot_limit(orchestrator)
    pools: defaultdict[PoolKey, Pool] = defaultdict(Pool)
    for each in instances:
        pool = pools[each.pool]
        pool.size += 1
        match each.status:
            case InstanceStatus.BOOTING:
                if each.problem in (ProblemCode.STOCK_OUT, ProblemCode.QUOTA):
                    pool.broken.append(each)
                elif now - each.created_at > limit:
                    pool.late.append(each)
                else:
                    pool.coming.append(each)
            case InstanceStatus.IDLE:
                (pool.unused if each.is_unused else pool.idle).append(each)
            case InstanceStatus.BUSY:
                pool.busy.append(each)
            case InstanceStatus.DRAINING if each.idle_since is not None:
                pool.drained.append(each)
            case InstanceStatus.DEAD:
                (pool.broken if each.problem else pool.silent).append(each)
    return dict(pools)
