"""What the farm looks like: the lists of scheduler and provider, joined into instances and demand."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from shared.core.durations import expected, left, prior
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
)
from shared.models.job import JobRef

# What an instance is paid for at least.
PAID = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Attempts of one shape that wait for a machine.

    Shapes: `expected_s` is what each will take, None when nobody knows; `is_passed_over`: machines went unused while
    they waited, so that another one may be of no use to them; `is_held`: not at the scheduler yet, because the account
    or the job runs as much as it may, and there as soon as others end; `avoided_zones`, by name, are those where they
    would rather not run.
    """

    shape: Shape
    count: int
    expected_s: float | None = None
    is_passed_over: bool = False
    is_held: bool = False
    avoided_zones: tuple[str, ...] = ()


def expected_seconds(placements: Iterable[Placement], now: datetime) -> dict[str, float]:
    """Return how long an attempt of each job is expected to take, for those of which anything can be said."""
    ended: defaultdict[str, list[float]] = defaultdict(list)
    running: defaultdict[str, list[float]] = defaultdict(list)
    kinds: dict[str, tuple[str, Shape]] = {}
    for each in placements:
        job = _job(each)
        kinds.setdefault(job, (_account(each), each.shape))
        if each.started_at is None:
            continue
        if each.stage in (Stage.ENDED, Stage.FORGOTTEN) and each.ended_at is not None:
            ended[job].append((each.ended_at - each.started_at).total_seconds())
        elif each.stage is Stage.STARTED:
            running[job].append((now - each.started_at).total_seconds())
    known: defaultdict[tuple[str, Shape], list[float]] = defaultdict(list)
    for job, took in ended.items():
        known[kinds[job]].append(median(took))
    priors = {kind: prior(took) for kind, took in known.items()}
    found = {
        job: expected(ended.get(job, ()), running.get(job, ()), priors.get(kind))
        for job, kind in kinds.items()
    }
    return {job: seconds for job, seconds in found.items() if seconds is not None}


def backlog(
    orchestrator: Orchestrator, placements: Sequence[Placement], expected_s: Mapping[str, float]
) -> list[Backlog]:
    """Return what waits for a machine, by shape, how long it will take, and whether machines went unused beside it.

    Shapes: attempts that avoid other zones are other groups.
    """
    passed_over = _passed_over(orchestrator, placements)
    counts: defaultdict[tuple[Shape, float | None, bool, tuple[str, ...]], int] = defaultdict(int)
    for each in placements:
        if each.stage is Stage.WAITING:
            until = passed_over.get(each.shape)
            is_old = until is not None and _has_waited_since(each, until)
            counts[each.shape, expected_s.get(_job(each)), is_old, each.avoided_zones] += 1
    return [
        Backlog(
            shape=shape,
            count=count,
            expected_s=seconds,
            is_passed_over=is_old,
            avoided_zones=avoided,
        )
        for (shape, seconds, is_old, avoided), count in counts.items()
    ]


def held_back(
    placements: Iterable[Placement], pending: Mapping[JobRef, int], expected_s: Mapping[str, float]
) -> list[Backlog]:
    """Return what will wait for a machine once something ends: a job's pending tasks less those that wait here.

    They are taken to ask for what most of the job's attempts ask for: few are tried again on other machines.
    """
    waiting: Counter[str] = Counter()
    shapes: defaultdict[str, Counter[Shape]] = defaultdict(Counter)
    for each in placements:
        if each.is_live:
            shapes[_job(each)][each.shape] += 1
            waiting[_job(each)] += each.stage is Stage.WAITING
    counts: Counter[tuple[Shape, float | None]] = Counter()
    for ref, count in pending.items():
        job = f"{ref.account_id}-{ref.job_id}"
        if job in shapes:
            ((shape, _),) = shapes[job].most_common(1)
            counts[shape, expected_s.get(job)] += max(count - waiting[job], 0)
    return [
        Backlog(shape=shape, count=count, expected_s=seconds, is_held=True)
        for (shape, seconds), count in counts.items()
        if count
    ]


def _passed_over(
    orchestrator: Orchestrator, placements: Iterable[Placement]
) -> dict[Shape, datetime]:
    """Return, by shape, until when those were submitted beside whom machines were seen to go unused.

    Not any more for a shape of which one of them has been started since.
    """
    noted: dict[Shape, datetime] = {}
    for each in orchestrator.breakers:
        if each.is_of_unused:
            shape = Shape(*each.pool[1:])
            noted[shape] = max(noted.get(shape, each.opened_at), each.opened_at)
    until = {shape: at - _patience(orchestrator) for shape, at in noted.items()}
    started = {
        each.shape
        for each in placements
        if each.shape in noted
        and each.started_at is not None
        and each.started_at > noted[each.shape]
        and _has_waited_since(each, until[each.shape])
    }
    return {shape: moment for shape, moment in until.items() if shape not in started}


def _has_waited_since(placement: Placement, moment: datetime) -> bool:
    return placement.submitted_at is not None and placement.submitted_at <= moment


def _patience(orchestrator: Orchestrator) -> timedelta:
    """Return how long a machine may stay idle beside what waits: any scheduler has found it by then."""
    return PAID + timedelta(seconds=2 * orchestrator.tick_s)


def _job(placement: Placement) -> str:
    """Return whose attempt it is: the attempt's id without task and number."""
    return placement.attempt_id.rsplit("-", 2)[0]


def _account(placement: Placement) -> str:
    """Return who pays for it: the attempt's id without job, task and number."""
    return placement.attempt_id.rsplit("-", 3)[0]


def instances(
    orchestrator: Orchestrator,
    listed: Iterable[FleetInstance],
    *,
    nodes: Iterable[Node],
    placements: Sequence[Placement],
    expected_s: Mapping[str, float],
    now: datetime,
) -> list[Instance]:
    """Return the provider's machines with what the scheduler knows of each."""
    known = by_name(nodes)
    work = _Work(placements, expected_s, now)
    boot = timedelta(seconds=orchestrator.boot_s)
    found = [_instance(each, known.get(each.name), work, boot) for each in listed]
    return [replace(each, is_unused=_is_unused(each, work, orchestrator)) for each in found]


def undated(
    listed: Iterable[FleetInstance], nodes: Iterable[Node], placements: Iterable[Placement]
) -> list[str]:
    """Return the node ids of the machines of which only when they joined would say since when they are idle."""
    known = by_name(nodes)
    worked = {each.instance for each in placements}
    found = (known[each.name] for each in listed if each.name in known)
    return [
        node.node_id
        for node in found
        if node.is_up and node.joined_at is None and node.name not in worked
    ]


def by_name(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the node of each machine: of several that registered under a name the one that is up, or may soon be."""
    return {node.name: node for node in sorted(nodes, key=lambda it: (it.is_up, it.is_joining))}


def _is_unused(instance: Instance, work: "_Work", orchestrator: Orchestrator) -> bool:
    """Tell whether it was idle for long while something waited that asked for such a machine."""
    waiting_since = work.waiting_since.get(Shape(*instance.pool[1:]))
    if instance.idle_since is None or waiting_since is None:
        return False
    return work.now - max(instance.idle_since, waiting_since) > _patience(orchestrator)


class _Work:
    """What runs where, since when nothing does, and since when something waits."""

    def __init__(
        self, placements: Sequence[Placement], expected_s: Mapping[str, float], now: datetime
    ) -> None:
        self.free_in_s: dict[str, float | None] = {}
        self.ended_at: dict[str, datetime] = {}
        self.waiting_since: dict[Shape, datetime] = {}
        self.instances = {each.instance for each in placements}
        self.now = now
        for each in placements:
            if each.stage is Stage.WAITING and each.submitted_at is not None:
                oldest = self.waiting_since.get(each.shape, each.submitted_at)
                self.waiting_since[each.shape] = min(oldest, each.submitted_at)
            elif each.stage is Stage.STARTED:
                self.free_in_s[each.instance] = _left_s(each, expected_s.get(_job(each)), now)
            elif each.ended_at is not None:
                known = self.ended_at.get(each.instance, each.ended_at)
                self.ended_at[each.instance] = max(known, each.ended_at)


def _left_s(placement: Placement, expected_s: float | None, now: datetime) -> float | None:
    if expected_s is None or placement.started_at is None:
        return None
    return left(expected_s, (now - placement.started_at).total_seconds())


def _instance(listed: FleetInstance, node: Node | None, work: _Work, boot: timedelta) -> Instance:
    known = Instance(
        name=listed.name,
        pool=listed.pool,
        status=InstanceStatus.BOOTING,
        created_at=listed.created_at,
        problem=listed.problem,
        has_joined=(node is not None and not node.is_joining) or listed.name in work.instances,
    )
    if listed.is_retiring:
        return replace(known, status=InstanceStatus.RETIRING)
    if listed.is_stopped:
        return replace(known, status=InstanceStatus.DEAD, problem=ProblemCode.OTHER)
    is_eligible = node is None or node.is_eligible
    if listed.name in work.free_in_s:
        # The nodes were listed before the attempts: it may have joined, or been heard of again, in between.
        status = InstanceStatus.BUSY if is_eligible else InstanceStatus.DRAINING
        free_in_s = None if node and not node.is_up else work.free_in_s[listed.name]
        return replace(known, status=status, free_in_s=free_in_s)
    if node is None or node.is_joining:
        return replace(known, may_return=node is not None and is_eligible)
    if not node.is_up:
        return replace(known, status=InstanceStatus.DEAD, may_return=is_eligible)
    status = InstanceStatus.IDLE if is_eligible else InstanceStatus.DRAINING
    return replace(known, status=status, idle_since=_idle_since(listed, node, work, boot))


def _idle_since(listed: FleetInstance, node: Node, work: _Work, boot: timedelta) -> datetime:
    """Return since when nothing runs on a machine: one that never worked has been idle since it joined.

    Where nobody knows when that was it is taken to have booted as usual, if it can have.
    """
    ended_at = work.ended_at.get(listed.name)
    if ended_at is not None:
        return ended_at
    usual = listed.created_at + boot
    return min(node.joined_at or max(usual, node.joined_after or usual), work.now)


def counts(pools: Iterable[PoolKey], found: Iterable[Instance]) -> dict[PoolKey, dict[str, int]]:
    """Return how many instances of each status each pool has; every status is named, empty pools too."""
    result = {pool: dict.fromkeys(map(str, InstanceStatus), 0) for pool in pools}
    for each in found:
        pool = result.setdefault(each.pool, dict.fromkeys(map(str, InstanceStatus), 0))
        pool[each.status] += 1
    return result


def unused(
    orchestrator: Orchestrator, found: Iterable[Instance], now: datetime
) -> list[FleetProblem]:
    """Return the pools whose machines the scheduler could use and does not."""
    idle = Counter(
        each.pool
        for each in found
        if each.is_unused and each.status is InstanceStatus.IDLE and orchestrator.is_on(each.pool)
    )
    return [
        FleetProblem(pool=pool, code=ProblemCode.UNUSED, message=f"{count} are unused", at=now)
        for pool, count in sorted(idle.items())
    ]
