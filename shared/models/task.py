"""A task, its attempts, and the page that shows a hundred tasks at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

TASKS_PER_PAGE = 100


class TaskStatus(StrEnum):
    """Where a task is; docs/states.md draws the way from one to the next."""

    HOLDING = "holding"
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    DOWNLOADED = "downloaded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    KILLED = "killed"


ENDED = frozenset(
    {
        TaskStatus.SUCCESS,
        TaskStatus.DOWNLOADED,
        TaskStatus.FAILED,
        TaskStatus.PREEMPTED,
        TaskStatus.KILLED,
    }
)


class WaitingFor(StrEnum):
    """Why a task, a job or a pool does not run yet: always exactly one reason."""

    HOLD = "hold"  # somebody holds it
    SCOUT = "scout"  # the scouts have not all succeeded yet
    UPLOAD = "upload"  # files are still on their way from the artist
    SYNC = "sync"  # inputs are being made ready where the job will run
    ADMISSION = "admission"  # its turn is being worked out
    LIMIT = "limit"  # the account or the job runs as much as it may
    BUDGET = "budget"  # it would cost more than the account or the project may spend
    LICENCE = "licence"  # all seats of a licence that it takes are taken
    ZONE_OFF = "zone_off"  # no zone that could run it is switched on
    QUOTA = "quota"  # the provider's limit is reached
    STOCK_OUT = "stock_out"  # the provider has no such machine left for now
    BOOT = "boot"  # a machine is booting for it
    SCHEDULER = "scheduler"  # handed over, the scheduler has not started it yet


# Admission's own: they are its to take back, nothing that happens at a scheduler says more about what they hold back.
LIMITS = frozenset({WaitingFor.LIMIT, WaitingFor.BUDGET, WaitingFor.LICENCE})
# No machine can be had: what waits at a scheduler for one of these does not run, however long the line before it.
UNSERVED = frozenset({WaitingFor.ZONE_OFF, WaitingFor.QUOTA, WaitingFor.STOCK_OUT})


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCESS = "success"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    PREEMPTED = "preempted"  # the provider took the machine back, with notice
    LOST = "lost"  # the machine or its agent vanished without a word
    KILLED = "killed"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a task on one instance; live while `outcome` is None.

    Units: minutes are started minutes; `cost_micros` is `billed_minutes` times the price, which is copied at the claim
    as `cores` and `memory_mib` are: whatever the job asks for later, this is what runs. `note` says why it is
    not simply what the job asks for.
    """

    number: int
    claim: str
    instance: str
    zone: str
    orchestrator_id: str
    instance_type: str
    is_preemptible: bool
    price_micros_per_minute: int
    started_at: datetime
    alive_at: datetime
    cores: int = 1
    memory_mib: int = 0
    note: str = ""
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""
    memory_peak_mib: int = 0
    billed_minutes: int = 0
    cost_micros: int = 0
    output_count: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One command for one chunk of frames.

    `attempt` is the number of the live attempt, or of the next one while none is live; `attempts` holds all that were
    claimed, oldest first, the live one last. `unclaimed` counts those since that came to nothing before any claim; what
    people take back is none of them. `counted_from` is the first attempt that counts for how often the task is tried
    again: when people retry what has ended, that begins anew.
    """

    task_id: str
    page: int
    command: str
    frames: str
    is_scout: bool = False
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    unclaimed: int = 0
    counted_from: int = 1
    watched_until: datetime | None = None

    @property
    def live(self) -> Attempt | None:
        """The attempt that runs now."""
        if self.attempts and self.attempts[-1].outcome is None:
            return self.attempts[-1]
        return None

    def count(self, outcome: Outcome) -> int:
        """Return how many of the attempts that count ended like this."""
        counted = (each for each in self.attempts if each.number >= self.counted_from)
        return sum(each.outcome is outcome for each in counted)


@dataclass(frozen=True, kw_only=True)
class PageChange:
    """What one change of one task does to its page, besides setting the task's own entries.

    Every number is added blindly in the same commit that changes the task, so it counts exactly once.
    """

    before: TaskStatus
    after: TaskStatus
    attempt: int
    ended_count: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, kw_only=True)
class PageSummary:
    """The figures of one page, without its tasks' entries.

    `admitted_count` (ever given to a scheduler) minus `ended_count` (ever ended or withdrawn) is what is in flight.
    """

    number: int
    counts: Mapping[TaskStatus, int]
    admitted_count: int
    ended_count: int
    cost_micros: int
    command_seq: int
    placed_at: datetime | None = None

    @property
    def in_flight_count(self) -> int:
        """Attempts at the scheduler or running."""
        return self.admitted_count - self.ended_count

    @property
    def ready_count(self) -> int:
        """Tasks that wait to be given to a scheduler: pending ones less those already there."""
        waiting_there = self.in_flight_count - self.counts.get(TaskStatus.RUNNING, 0)
        return self.counts.get(TaskStatus.PENDING, 0) - waiting_there


@dataclass(frozen=True, kw_only=True)
class Page(PageSummary):
    """A hundred tasks at a glance: what the dashboard listens to and admission reads.

    Shapes: every mapping is keyed by task id; `placed` holds the attempt number last given to the scheduler.
    """

    statuses: Mapping[str, TaskStatus] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    placed: Mapping[str, int] = field(default_factory=dict)
    version: object = None

    def is_placed(self, task_id: str) -> bool:
        """Tell whether the present attempt of a pending task is at the scheduler."""
        return self.placed.get(task_id) == self.attempts[task_id]

    def ready(self) -> list[str]:
        """Return the tasks that may be admitted, in order."""
        return [
            task_id
            for task_id, status in sorted(self.statuses.items(), key=lambda item: int(item[0]))
            if status is TaskStatus.PENDING and not self.is_placed(task_id)
        ]
