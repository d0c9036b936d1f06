"""A job: one submission."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from shared.models.account import Provider
from shared.models.task import TASKS_PER_PAGE, TaskStatus, WaitingFor


class JobRef(NamedTuple):
    """Where a job is: no job is ever named without its account."""

    account_id: str
    job_id: str


class TaskRef(NamedTuple):
    """Where a task is."""

    account_id: str
    job_id: str
    task_id: str

    @property
    def job(self) -> JobRef:
        """The job it belongs to."""
        return JobRef(self.account_id, self.job_id)


class AttemptRef(NamedTuple):
    """Where an attempt is."""

    account_id: str
    job_id: str
    task_id: str
    number: int

    @property
    def task(self) -> TaskRef:
        """The task it tries."""
        return TaskRef(self.account_id, self.job_id, self.task_id)

    @property
    def attempt_id(self) -> str:
        """The one name of this attempt everywhere: the scheduler's idempotency key, the ledger's key, object names."""
        return f"{self.account_id}-{self.job_id}-{self.task_id}-{self.number}"

    @classmethod
    def parse(cls, attempt_id: str) -> "AttemptRef":
        """Read an attempt id back. Raises: ValueError when it is none."""
        account_id, job_id, task_id, number = attempt_id.rsplit("-", 3)
        return cls(account_id, job_id, task_id, int(number))


class JobStatus(StrEnum):
    """Where a job is; docs/states.md draws the way from one to the next."""

    UPLOAD_PENDING = "upload_pending"
    UPLOADING = "uploading"
    SYNC_PENDING = "sync_pending"
    SYNCING = "syncing"
    SYNC_FAILED = "sync_failed"
    PENDING = "pending"
    HOLDING = "holding"
    RUNNING = "running"
    SUCCESS = "success"
    DOWNLOADED = "downloaded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    KILLED = "killed"


class Command(StrEnum):
    """What people may order for a job or a task."""

    HOLD = "hold"
    UNHOLD = "unhold"
    KILL = "kill"
    RETRY = "retry"  # everything that has not succeeded
    RETRY_ALL = "retry_all"
    RETRY_FAILED = "retry_failed"
    RETRY_PREEMPTED = "retry_preempted"
    RETRY_SYNC = "retry_sync"  # its inputs are made ready once more
    REVIEWED = "reviewed"  # a person has looked at what came of it
    EDIT = "edit"  # priority, machine, most instances
    RELEASE = "release"  # the scouts have succeeded; only the server orders this one


class Fence(StrEnum):
    """What the last command on the whole job means for every claim, at once."""

    OPEN = "open"
    HELD = "held"
    KILLED = "killed"


class SyncState(StrEnum):
    """How far the inputs are on their way to where the job will run."""

    PENDING = "pending"
    SYNCING = "syncing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Sync:
    """Progress of making the inputs ready; counts are distinct files."""

    state: SyncState
    done_count: int = 0
    total_count: int = 0
    reason: str = ""


class UploadState(StrEnum):
    """How far the files are that an upload daemon sends."""

    WAITING = "waiting"
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Progress of a daemon's upload, by the daemon's own account. `tries` counts how often it was handed out."""

    state: UploadState
    file_count: int = 0
    sent_bytes: int = 0
    total_bytes: int = 0
    tries: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of pages in the job's payload object: bytes `start` to `end` (exclusive), JSON lines, one task each."""

    first_page: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command on a whole job, with its number.

    `is_for_ladder`: it is only for those tasks that lost a machine or ran out of memory.
    """

    seq: int
    command: Command
    is_for_ladder: bool = False


# What a submission that says nothing of it asks for.
OUT_OF_MEMORY_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A larger instance type that a task may go to when it runs out of memory, as the catalogue had it.

    Units: prices are micro-dollars a minute; `memory_mib` is what an attempt on it gets.
    """

    instance_type: str
    cores: int
    memory_mib: int
    price_micros_per_minute: int
    preemptible_micros_per_minute: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One submission's header, status and sums.

    `command_seq` counts the commands on the whole job; a page has carried out those up to its own `command_seq`.
    `orders` are all that some page may not have carried out yet, oldest first; `command` is the last that was no edit.
    What the recovery ladder needs is copied at submission: a task goes to standard machines, at
    `standard_micros_per_minute`, after `standard_after` preemptible attempts were lost (0: never), and to the next of
    the `larger` instance types, smallest first, when it runs out of memory. No attempt starts on the
    `blocked_instances` any more: its frames fail there and succeed elsewhere.
    `waiting_for` is why most of it waits, `waiting_shapes` why what is at the scheduler does, by the shape's name;
    `unserved_since`, by the same name, is since when no machine of a shape can be had.
    Each of its attempts takes a seat of all its `licences`.
    `input_bytes` are those of its distinct files; `placement` says why it runs where it does: by which `weights`, and
    each orchestrator's `scores`.
    """

    account_id: str
    job_id: str
    title: str
    project: str
    owner: str
    created_at: datetime
    task_count: int
    instance_type: str
    is_preemptible: bool
    price_micros_per_minute: int
    output_path: str
    provider: Provider = Provider.GCP
    operating_system: str = "linux"
    cores: int = 1
    memory_mib: int = 0
    input_bytes: int = 0
    priority: int = 5
    max_instances: int = 0
    preempted_retries: int = 0
    standard_after: int = 0
    standard_micros_per_minute: int | None = None
    out_of_memory_retries: int = OUT_OF_MEMORY_RETRIES
    larger: tuple[Rung, ...] = ()
    scout_task_ids: tuple[str, ...] = ()
    scouts_pending: bool = False
    licences: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notify_emails: tuple[str, ...] = ()
    location: str = ""
    blocks: tuple[Block, ...] = ()
    status: JobStatus = JobStatus.PENDING
    fence: Fence = Fence.OPEN
    command: Command | None = None
    command_seq: int = 0
    orders: tuple[Order, ...] = ()
    reviewed_at: datetime | None = None
    reviewed_by: str = ""
    orchestrator_id: str = ""
    placement: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    upload: Upload = field(default_factory=lambda: Upload(state=UploadState.DONE))
    sync: Sync = field(default_factory=lambda: Sync(state=SyncState.DONE))
    waiting_for: WaitingFor | None = None
    waiting_note: str = ""
    waiting_shapes: Mapping[str, WaitingFor] = field(default_factory=dict)
    unserved_since: Mapping[str, datetime] = field(default_factory=dict)
    blocked_instances: tuple[str, ...] = ()
    counts: Mapping[TaskStatus, int] = field(default_factory=dict)
    cost_micros: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ref(self) -> JobRef:
        """Where it is."""
        return JobRef(self.account_id, self.job_id)

    @property
    def page_count(self) -> int:
        """How many pages its tasks fill."""
        return -(-self.task_count // TASKS_PER_PAGE)

    @property
    def is_ended(self) -> bool:
        """Tell whether nothing of it waits or runs any more; a killed job may still be on its way there."""
        return self.ended_at is not None
