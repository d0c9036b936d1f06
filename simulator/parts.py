"""What a simulated farm is made of: jobs, machines, and the sites where they meet."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median

from shared.core.durations import expected
from shared.models.account import Account
from shared.models.farm import Instance, InstanceStatus, Orchestrator, PoolKey, Shape
from shared.models.job import Job, Sync, SyncState
from shared.models.task import PageSummary, TaskStatus
from simulator.clouds import Cloud

START = datetime(2026, 1, 1, tzinfo=UTC)
# Of a job's ended attempts the last ones say how long the next will take.
REMEMBERED = 101


def moment(at_s: float) -> datetime:
    """Return the time of day of a second of the simulation."""
    return START + timedelta(seconds=at_s)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as it comes: `durations_s` is what each of its tasks takes, which only the simulator knows."""

    job_id: str
    account_id: str
    at_s: float
    shape: Shape
    durations_s: tuple[float, ...]
    max_instances: int = 0
    priority: int = 5


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What happens to a farm: who submits what, and on which clouds.

    Shapes: `sites` are orchestrators' settings with the cloud they are in; submissions are in order of time.
    """

    name: str
    submissions: Sequence[Submission]
    sites: Sequence[tuple[Orchestrator, Cloud]]
    accounts: Sequence[Account]


class SimulatedJob:
    """A job, which of its tasks wait, and what its attempts took."""

    def __init__(self, said: Submission) -> None:
        self.said = said
        self.site: int | None = None
        self.ready: deque[int] = deque(range(len(said.durations_s)))
        self.started: dict[int, float] = {}
        self.took_s: deque[float] = deque(maxlen=REMEMBERED)
        self.median_s: float | None = None
        self.queued_count = 0
        self.admitted_count = 0
        self.ended_count = 0
        self.done_count = 0
        self.lost_s: dict[int, float] = {}
        self.ended_at_s: float | None = None
        self.model = Job(
            account_id=said.account_id,
            job_id=said.job_id,
            title=said.job_id,
            project="p",
            owner="o",
            created_at=moment(said.at_s),
            task_count=len(said.durations_s),
            instance_type=said.shape.instance_type,
            is_preemptible=said.shape.is_preemptible,
            price_micros_per_minute=0,
            output_path="/o",
            priority=said.priority,
            max_instances=said.max_instances,
            sync=Sync(state=SyncState.DONE),
        )

    @property
    def is_ended(self) -> bool:
        return self.done_count == len(self.said.durations_s)

    def page(self) -> PageSummary:
        """Return the job's figures as admission reads them."""
        placed = self.admitted_count - self.ended_count
        running = len(self.started)
        counts = {
            TaskStatus.PENDING: len(self.ready) + placed - running,
            TaskStatus.RUNNING: running,
        }
        return PageSummary(
            number=0,
            counts=counts,
            admitted_count=self.admitted_count,
            ended_count=self.ended_count,
            cost_micros=0,
            command_seq=0,
        )

    def learn(self, took_s: float) -> None:
        """Note what an attempt took."""
        self.took_s.append(took_s)
        self.median_s = None

    def known_s(self) -> float | None:
        """Return what its ended attempts took, None before the first."""
        if self.median_s is None and self.took_s:
            self.median_s = median(self.took_s)
        return self.median_s

    def expected_s(self, now_s: float, prior: float | None) -> float | None:
        """Return what the core believes that an attempt takes. Attempts that run stand in the order of their start."""
        known = self.known_s()
        middle = islice(self.started.values(), len(self.started) // 2, None)
        running = [now_s - at_s for at_s in islice(middle, 1)]
        return expected([known] if known is not None else [], running, prior)


class Machine:
    """One instance, from the call that asks for it to its deletion; the provider charges from `created_at_s` on."""

    __slots__ = (
        "asked_at_s", "boots_s", "created_at_s", "gone_at_s", "idle_since_s", "is_warm", "job", "name", "pool", "site",
        "status", "task", "up_at_s", "view", "work_s",
    )  # fmt: skip

    def __init__(self, name: str, pool: PoolKey, site: int, asked_at_s: float) -> None:
        self.name = name
        self.pool = pool
        self.site = site
        self.asked_at_s = asked_at_s
        self.created_at_s = asked_at_s
        self.boots_s: float | None = None
        self.up_at_s: float | None = None
        self.gone_at_s: float | None = None
        self.idle_since_s: float | None = None
        self.is_warm = False
        self.job: SimulatedJob | None = None
        self.task = 0
        self.work_s = 0.0
        self.status = InstanceStatus.BOOTING
        self.view: Instance | None = None

    def become(self, status: InstanceStatus) -> None:
        """Change the status; what was seen of it before is out of date."""
        self.status = status
        self.view = None

    def seen(self, free_in_s: float | None) -> Instance:
        """Return it as the autoscaler sees it."""
        if self.view is None:
            idle = self.idle_since_s
            self.view = Instance(
                name=self.name,
                pool=self.pool,
                status=self.status,
                created_at=moment(self.created_at_s),
                idle_since=None if idle is None else moment(idle),
            )
        return self.view if free_in_s is None else replace(self.view, free_in_s=free_in_s)


@dataclass
class Site:
    """One orchestrator: its cloud, its scheduler's queues and its machines.

    Shapes: `waiting` and `idle` by shape; `machines` by name, those that are not gone.
    """

    orchestrator: Orchestrator
    cloud: Cloud
    weather: float
    waiting: dict[Shape, deque[tuple[SimulatedJob, int]]] = field(default_factory=dict)
    idle: dict[Shape, dict[str, Machine]] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    sizes: dict[PoolKey, int] = field(default_factory=dict)
    next_create_s: float = 0.0
    next_placement_s: float = 0.0
    resizing_until_s: float = 0.0
    ticked_at_s: float = float("-inf")
    shrunk_at_s: float = float("-inf")
    is_asked: bool = False

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def prices(self) -> Mapping[PoolKey, int]:
        """Return micro-dollars a minute, by pool."""
        return {
            PoolKey(zone, *shape): price
            for zone in self.orchestrator.zones
            for shape, price in self.cloud.prices.items()
        }
