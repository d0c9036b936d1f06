"""What the farm looks like: the lists of scheduler and provider, joined into instances and demand."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from shared.models.farm import (
    FleetInstance,
    FleetProblem,
    Instance,
    InstanceStatus,
    Node,
    Orchestrator,
    Placement,
    PoolKey,
    ProblemCode,
    Shape,
    Stage,
    StockOut,
)

# A pool that could not grow is left alone for a minute at first, then for twice as long each time, up to half an hour.
FIRST_PAUSE_S = 60
LONGEST_PAUSE_S = 1800
# A pool that has not failed again for so long after its pause starts afresh.
REMEMBERED = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Attempts of one shape that wait for a machine. `expected_s`: what each will take, None when nobody knows."""

    shape: Shape
    count: int
    expected_s: float | None = None


def expected_seconds(placements: Iterable[Placement], now: datetime) -> dict[str, float]:
    """Return how long an attempt of each job is expected to take, for those of which one has ended.

    What runs longer already than the ended ones took speaks too: scouts are often the quick ones.
    """
    ended: defaultdict[str, list[float]] = defaultdict(list)
    running: defaultdict[str, list[float]] = defaultdict(list)
    for each in placements:
        if each.started_at is None:
            continue
        if each.stage in (Stage.ENDED, Stage.FORGOTTEN) and each.ended_at is not None:
            ended[_job(each)].append((each.ended_at - each.started_at).total_seconds())
        elif each.stage is Stage.STARTED:
            running[_job(each)].append((now - each.started_at).total_seconds())
    return {job: max(median(took), median(running[job] or [0.0])) for job, took in ended.items()}


def backlog(placements: Iterable[Placement], expected_s: Mapping[str, float]) -> list[Backlog]:
    """Return what waits for a machine, by shape and how long it will take."""
    counts: defaultdict[tuple[Shape, float | None], int] = defaultdict(int)
    for each in placements:
        if each.stage is Stage.WAITING:
            counts[each.shape, expected_s.get(_job(each))] += 1
    return [
        Backlog(shape=shape, count=count, expected_s=seconds)
        for (shape, seconds), count in counts.items()
    ]


def _job(placement: Placement) -> str:
    """Return whose attempt it is: the attempt's id without task and number."""
    return placement.attempt_id.rsplit("-", 2)[0]


def instances(
    orchestrator: Orchestrator,
    listed: Iterable[FleetInstance],
    *,
    nodes: Iterable[Node],
    placements: Iterable[Placement],
    expected_s: Mapping[str, float],
    now: datetime,
) -> list[Instance]:
    """Return the provider's machines with what the scheduler knows of each."""
    by_name: dict[str, Node] = {}
    for node in nodes:
        if node.is_up or node.name not in by_name:
            by_name[node.name] = node
    work = _Work(placements, expected_s, now)
    boot = timedelta(seconds=orchestrator.boot_s)
    return [_instance(each, by_name.get(each.name), work, boot) for each in listed]


class _Work:
    """What runs where, and since when nothing does."""

    def __init__(
        self, placements: Iterable[Placement], expected_s: Mapping[str, float], now: datetime
    ) -> None:
        self.free_in_s: dict[str, float | None] = {}
        self.ended_at: dict[str, datetime] = {}
        self.now = now
        for each in placements:
            if each.stage is Stage.STARTED:
                self.free_in_s[each.instance] = _left_s(each, expected_s.get(_job(each)), now)
            elif each.ended_at is not None:
                known = self.ended_at.get(each.instance, each.ended_at)
                self.ended_at[each.instance] = max(known, each.ended_at)


def _left_s(placement: Placement, expected_s: float | None, now: datetime) -> float | None:
    """Return how long a running attempt will still take; one that is late by some time, as long again."""
    if expected_s is None or placement.started_at is None:
        return None
    return abs(expected_s - (now - placement.started_at).total_seconds())


def _instance(listed: FleetInstance, node: Node | None, work: _Work, boot: timedelta) -> Instance:
    known = Instance(
        name=listed.name,
        pool=listed.pool,
        status=InstanceStatus.BOOTING,
        created_at=listed.created_at,
        problem=listed.problem,
    )
    if listed.is_retiring:
        return replace(known, status=InstanceStatus.RETIRING)
    if listed.is_stopped:
        return replace(known, status=InstanceStatus.DEAD, problem=ProblemCode.OTHER)
    if node is None:
        return known
    if not node.is_up:
        return replace(known, status=InstanceStatus.DEAD)
    if listed.name in work.free_in_s:
        status = InstanceStatus.BUSY if node.is_eligible else InstanceStatus.DRAINING
        return replace(known, status=status, free_in_s=work.free_in_s[listed.name])
    # One that never worked has been idle since it joined; nobody noted when, so it is taken to have booted as usual.
    joined_at = min(listed.created_at + boot, work.now)
    status = InstanceStatus.IDLE if node.is_eligible else InstanceStatus.DRAINING
    return replace(known, status=status, idle_since=work.ended_at.get(listed.name, joined_at))


def counts(pools: Iterable[PoolKey], found: Iterable[Instance]) -> dict[PoolKey, dict[str, int]]:
    """Return how many instances of each status each pool has; every status is named, empty pools too."""
    result = {pool: dict.fromkeys(map(str, InstanceStatus), 0) for pool in pools}
    for each in found:
        pool = result.setdefault(each.pool, dict.fromkeys(map(str, InstanceStatus), 0))
        pool[each.status] += 1
    return result


def stock_outs(
    orchestrator: Orchestrator, problems: Sequence[FleetProblem], now: datetime
) -> tuple[StockOut, ...]:
    """Return which pools to leave alone, given what went wrong lately; the same problem again changes nothing.

    A quota holds for the whole region, so it pauses the shape in all of its zones.
    """
    known = {each.pool: each for each in orchestrator.stock_outs if now < each.until + REMEMBERED}
    before = dict(known)
    for problem in sorted(problems, key=lambda problem: problem.at):
        if problem.code is ProblemCode.OTHER:
            continue
        zones = [problem.pool.zone]
        if problem.code is ProblemCode.QUOTA:
            zones = sorted({*zones, *orchestrator.zones})
        for pool in (problem.pool._replace(zone=zone) for zone in zones):
            past = before.get(pool)
            if past is not None and problem.at <= past.until:
                continue
            pause_s = FIRST_PAUSE_S if past is None else min(past.pause_s * 2, LONGEST_PAUSE_S)
            until = now + timedelta(seconds=pause_s)
            known[pool] = StockOut(pool=pool, until=until, reason=problem.code, pause_s=pause_s)
    return tuple(known[pool] for pool in sorted(known))
