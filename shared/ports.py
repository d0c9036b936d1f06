"""What the services need from outside.

Each docstring is the contract that the conformance suites test on every implementation.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol

from shared.models.account import (
    Account,
    ApiKey,
    Budget,
    InstanceType,
    Package,
    Principal,
    Project,
    Role,
    User,
)
from shared.models.download import DownloadLease
from shared.models.farm import (
    Decision,
    FleetInstance,
    FleetProblem,
    KeptDecision,
    Node,
    Orchestrator,
    Placement,
    PoolKey,
    PoolState,
    Shape,
    Took,
)
from shared.models.job import AttemptRef, Job, JobRef, TaskRef
from shared.models.money import Ending, LedgerEntry, LedgerSums
from shared.models.task import Outcome, Page, PageChange, PageSummary, Task, WaitingFor
from shared.models.upload import QueuedUpload


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """A task as it shall be, and what else goes into the same commit.

    One that `is_bound_to_job` stands only if the job, too, is as it was read: no command on the job would mend it.
    """

    task: Task
    page: PageChange
    ledger: LedgerEntry | None = None
    is_bound_to_job: bool = False


@dataclass(frozen=True, kw_only=True)
class PageDecision:
    """What one commit does to the tasks of a page, and the last command on the job that it has then carried out."""

    changes: Sequence[TaskChange]
    command_seq: int


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a committed change left behind.

    `open_count` is how many tasks of the page have not ended, `success_count` how many have frames nobody has fetched.
    """

    task: Task
    open_count: int
    success_count: int


class LogRun(NamedTuple):
    """Lines that follow each other in a log; `first` is the number of the first, from 0."""

    first: int
    lines: Sequence[str]


class JobStore(Protocol):
    """Jobs, pages, tasks and the ledger."""

    def allocate_job_id(self, account_id: str) -> str:
        """Return an id no job of the account has or had: digits, at least five."""
        ...

    def claim_submission(self, account_id: str, digest: str, job_id: str, now: datetime) -> str:
        """Remember that the body with this digest becomes `job_id`; returns the id of the first such within 30 s."""
        ...

    def create_job(self, job: Job) -> bool:
        """Store a new job and put it on the account's active list, in one commit; False when it is there already."""
        ...

    def job(self, ref: JobRef) -> Job:
        """Return a job. Raises: NotFound."""
        ...

    def jobs(self, refs: Iterable[JobRef]) -> list[Job]:
        """Return those of the jobs that exist."""
        ...

    def change_job(self, ref: JobRef, change: Callable[[Job], Job]) -> Job:
        """Replace a job by `change(job)`, only what differs is written. `change` may run several times.

        Raises: NotFound; Contended; whatever `change` raises.
        """
        ...

    def add_page(self, job: Job, number: int, tasks: Sequence[Task]) -> bool:
        """Create a page and its tasks in one commit; False when the page is there already."""
        ...

    def add_pages(self, job: Job, pages: Mapping[int, Sequence[Task]]) -> None:
        """Create several, by their numbers, each in a commit of its own; what is there already stays as it is."""
        ...

    def page(self, ref: JobRef, number: int) -> Page:
        """Return a whole page. Raises: NotFound."""
        ...

    def page_summaries(self, job: Job) -> list[PageSummary]:
        """Return the figures of those pages that exist, in order."""
        ...

    def pages_of(self, jobs: Sequence[Job]) -> dict[JobRef, list[PageSummary]]:
        """Return the same for many jobs, in few calls: each job is there, also one without a page."""
        ...

    def place(self, ref: JobRef, page: Page, task_ids: Sequence[str], now: datetime) -> bool:
        """Note that these tasks' present attempts are given to the scheduler; False when the page has changed since."""
        ...

    def task(self, ref: TaskRef) -> Task:
        """Return a task. Raises: NotFound."""
        ...

    def tasks(self, ref: JobRef, task_ids: Iterable[str]) -> list[Task]:
        """Return those of the tasks that exist, in the order asked."""
        ...

    def change_task(
        self,
        ref: TaskRef,
        decide: Callable[[Task, Job], TaskChange | None],
        *,
        by_task_alone: bool = False,
    ) -> Applied | None:
        """Change one task, its page and the ledger in one commit; None when `decide` returns None.

        `decide` sees the job as it was read beside the task; only the task is guarded. It may run several times.
        `by_task_alone` says that nothing that may change in the job alters the decision: then the job may be older.
        Raises: NotFound; Contended; whatever `decide` raises.
        """
        ...

    def change_page(
        self,
        ref: JobRef,
        number: int,
        decide: Callable[[Page, Job, Sequence[Task]], PageDecision],
    ) -> Page:
        """Change many tasks of one page in one commit.

        The page is guarded as well as the tasks. Returns the page as it was.
        Raises: NotFound; Contended; whatever `decide` raises.
        """
        ...

    def jobs_between(
        self, account_id: str, above: str, below: str, equal: Mapping[str, Any] | None = None
    ) -> list[Job]:
        """Return at most 500 jobs whose ids lie strictly between two, in order; an empty bound is none.

        With `equal` (status, project, owner) jobs that have other values are left out, though not from a few jobs.
        """
        ...

    def last_job_before(self, account_id: str, at: datetime) -> str:
        """Return the id of the last job that was created before a moment, "" when there is none."""
        ...

    def first_job_after(self, account_id: str, at: datetime) -> str:
        """Return the id of the first job that was created after a moment, "" when there is none."""
        ...

    def jobs_before(self, account_id: str, below: str, most: int) -> list[Job]:
        """Return the newest jobs, newest first; only those whose ids are below `below`, unless it is empty."""
        ...

    def task_and_job(self, ref: TaskRef) -> tuple[Task, Job]:
        """Return a task and its job as they are now. Raises: NotFound."""
        ...

    def job_ledger(self, ref: JobRef) -> list[LedgerEntry]:
        """Return all entries that name the job, in no order; one read each, and one if there is none."""
        ...

    def touch(self, attempt: AttemptRef, now: datetime, memory_peak_mib: int) -> None:
        """Note that the live attempt was alive; an old attempt changes nothing."""
        ...

    def watch(self, ref: TaskRef, until: datetime) -> None:
        """Note that somebody reads the task's log until then."""
        ...

    def add_log_lines(
        self, attempt: AttemptRef, first_line: int, lines: Sequence[str], now: datetime
    ) -> None:
        """Store lines of a live log; the same first line again replaces them."""
        ...

    def log_runs(self, attempt: AttemptRef, first: int) -> list[LogRun]:
        """Return what is stored of an attempt's log from a line on, in order, some thousands of lines at most."""
        ...


class LedgerPart(NamedTuple):
    """Which entries: those of a UTC day (YYYY-MM-DD) that have all that is not None."""

    date: str
    hour: str | None = None
    project: str | None = None
    outcome: Outcome | None = None


class LedgerSpan(NamedTuple):
    """Which entries: those of a project, of all where it is empty, from a UTC day on and before another, if named."""

    project: str = ""
    first: date | None = None
    before: date | None = None


class LedgerStore(Protocol):
    """What the ledger comes to, and the days that are drawn from it."""

    def sums(self, account_id: str, parts: Sequence[LedgerPart]) -> list[LedgerSums]:
        """Return what each part comes to, all as of one moment; no entry is read, the database adds up."""
        ...

    def spent(self, account_id: str, spans: Sequence[LedgerSpan]) -> list[int]:
        """Return what each span has cost, in micro-dollars; no entry is read, the database adds up."""
        ...

    def values(self, account_id: str, day: date, name: str) -> list[str]:
        """Return the different values that a field, `project` or `hour`, has in the entries of a day, in order."""
        ...

    def endings(
        self, ref: JobRef, outcome: Outcome, most: int, since: datetime | None = None
    ) -> list[Ending]:
        """Return where and when a job's attempts ended like this, newest first, so many at most."""
        ...

    def has_ended_on(self, ref: JobRef, instance: str, outcome: Outcome, since: datetime) -> bool:
        """Tell whether one of a job's attempts has ended like this on an instance since a moment."""
        ...

    def days(self, account_id: str, first: date, count: int) -> list[Mapping[str, Any]]:
        """Return what is stored of so many days from the first on; an empty mapping for a day without anything."""
        ...

    def save_day(self, account_id: str, day: date, fields: Mapping[tuple[str, ...], Any]) -> None:
        """Store some fields of a day, by their paths; the others stay."""
        ...


@dataclass(frozen=True, kw_only=True)
class Round:
    """The right to run one round of admission, and the account's active jobs as they were when it began.

    From `until` on it must start nothing more: the right ends soon after, and another round may begin beside it.
    """

    account_id: str
    lease_id: str
    until: datetime
    job_ids: Sequence[str]
    has_backlog: bool


class AdmissionStore(Protocol):
    """The account's active jobs, and the lease that makes admission single-flight."""

    def begin(self, account_id: str, now: datetime) -> Round | None:
        """Take the lease; None when another holds it, who will then run once more."""
        ...

    def finish(self, done: Round, now: datetime) -> Round | None:
        """Give the lease back; the next round, and the lease is kept anew, when one was asked for meanwhile."""
        ...

    def release(self, done: Round) -> bool:
        """Give the lease back in any case; returns whether another round was asked for meanwhile."""
        ...

    def note_backlog(self, account_id: str, has_backlog: bool) -> None:
        """Say whether ready tasks wait for a limit, so that the end of an attempt calls for another round."""
        ...

    def activate(self, ref: JobRef) -> None:
        """Put a job on the active list."""
        ...

    def strike(self, account_id: str, job_ids: Sequence[str]) -> None:
        """Take jobs off the active list."""
        ...

    def has_backlog(self, account_id: str) -> bool:
        """Tell whether the last round left ready tasks waiting for a limit; may be a few milliseconds old."""
        ...

    def accounts(self) -> list[str]:
        """Return the ids of all accounts."""
        ...

    def active_job_ids(self, account_id: str) -> list[str]:
        """Return the ids of the active jobs."""
        ...


class AccountStore(Protocol):
    """Accounts, projects, users, keys."""

    def account(self, account_id: str) -> Account:
        """Raises: NotFound."""
        ...

    def accounts(self) -> list[Account]:
        """Return all, by id."""
        ...

    def create_account(self, account: Account) -> bool:
        """Store a new account; False, and nothing changes, when it is there already."""
        ...

    def save_account(self, account: Account) -> None:
        """Store all of an account but whether it has budgets."""
        ...

    def budgets(self, account_id: str) -> list[Budget]:
        """Return the budgets of an account and its projects, by project; its own is the first."""
        ...

    def change_budgets(
        self, account_id: str, change: Callable[[Sequence[Budget]], Sequence[Budget]]
    ) -> None:
        """Replace the budgets and note on the account whether it has any, in one commit. `change` may run repeatedly.

        Raises: Contended; whatever `change` raises.
        """
        ...

    def project(self, account_id: str, name: str) -> Project:
        """Raises: NotFound."""
        ...

    def projects(self, account_id: str) -> list[Project]:
        """Return all projects, by name."""
        ...

    def save_project(self, account_id: str, project: Project) -> None: ...

    def user(self, account_id: str, user_id: str) -> User:
        """Raises: NotFound."""
        ...

    def users(self, account_id: str) -> list[User]:
        """Return all users, by email."""
        ...

    def save_user(self, account_id: str, user: User) -> None: ...

    def change_user(self, account_id: str, user_id: str, change: Callable[[User], User]) -> User:
        """Replace a user by `change(user)`, which may run several times, and return that.

        Only what differs is written. Raises: NotFound; Contended; whatever `change` raises.
        """
        ...

    def delete_user(self, account_id: str, user_id: str) -> None:
        """Forget a user; quiet when there is none."""
        ...

    def api_keys(self, account_id: str) -> list[ApiKey]:
        """Return all keys of an account, revoked ones too, oldest first."""
        ...

    def api_key(self, client_id: str) -> ApiKey:
        """Return a key by its public id, of whichever account. Raises: NotFound."""
        ...

    def save_api_key(self, key: ApiKey) -> None: ...

    def change_api_key(self, client_id: str, change: Callable[[ApiKey], ApiKey]) -> None:
        """Replace a key by `change(key)`, only what differs is written. `change` may run several times.

        Raises: NotFound; Contended.
        """
        ...

    def touch_api_key(self, client_id: str, now: datetime) -> None:
        """Note when a key was last used."""
        ...


class CatalogStore(Protocol):
    """What can be asked for: the same for every account."""

    def instance_types(self) -> list[InstanceType]:
        """Return those that are offered, by name."""
        ...

    def known_instance_types(self) -> list[InstanceType]:
        """Return all that ever were offered, by name: jobs may still ask for them."""
        ...

    def packages(self) -> list[Package]:
        """Return all, by id."""
        ...

    def save(self, instance_types: Sequence[InstanceType], packages: Sequence[Package]) -> None:
        """Replace what is offered, all of it or nothing; types that are no longer in it stay known."""
        ...


class DownloadStore(Protocol):
    """What download daemons may be handed, and what they hold."""

    def jobs(self, account_id: str, location: str, above: str, most: int) -> list[Job]:
        """Return jobs of exactly this location that have frames nobody has fetched, by id; an empty `above` is none.

        A job is among them once its sums say so.
        """
        ...

    def pages(self, ref: JobRef, most: int) -> list[Page]:
        """Return pages with tasks whose frames nobody has fetched, those with the most of them, by number."""
        ...

    def change_leases(
        self,
        ref: JobRef,
        page: int,
        change: Callable[[Mapping[str, DownloadLease]], Mapping[str, DownloadLease]],
        now: datetime,
    ) -> None:
        """Store the leases, by task id, that `change` returns for some of a page's; it may run several times.

        Raises: Contended; whatever `change` raises.
        """
        ...


class TransferStore(Protocol):
    """Uploads in parts that have begun and are not joined yet."""

    def save_multipart(
        self, account_id: str, upload_id: str, fields: Mapping[str, Any]
    ) -> None: ...

    def multipart(self, account_id: str, upload_id: str) -> Mapping[str, Any]:
        """Raises: NotFound."""
        ...

    def delete_multipart(self, account_id: str, upload_id: str) -> None: ...


class UploadStore(Protocol):
    """The queue of uploads that wait for a daemon, or are with one; how far each is, its job says."""

    def add(self, upload: QueuedUpload) -> bool:
        """Put an upload into the queue; False, and nothing changes, when its job is in it already."""
        ...

    def waiting(
        self, account_id: str, location: str, now: datetime
    ) -> Iterator[Sequence[QueuedUpload]]:
        """Yield what may be handed out at exactly this location, those that wait longest first, some at a time."""
        ...

    def find(self, ref: JobRef) -> QueuedUpload | None:
        """Return a job's place in the queue, if it has one."""
        ...

    def change(self, upload: QueuedUpload, *, holder: str, available_at: datetime) -> bool:
        """Give an upload another holder and time; False when somebody changed it since it was read."""
        ...

    def remove(self, ref: JobRef) -> None:
        """Take a job's upload out of the queue; quiet when it is not in it."""
        ...


class Identity(Protocol):
    """People who sign in with a browser."""

    def verify(self, id_token: str) -> Principal:
        """Return whom an ID token speaks for. Raises: Unauthenticated."""
        ...

    def save_user(
        self,
        account_id: str,
        email: str,
        role: Role,
        projects: Sequence[str],
        password: str | None,
    ) -> str:
        """Let somebody sign in, or change what they may do; returns the user's id. No projects means all.

        Raises: InvalidRequest (email, password); Conflict when they belong to another account.
        """
        ...

    def set_active(self, user_id: str, is_active: bool) -> None:
        """Let somebody sign in, or no more, which also ends their sessions. Raises: NotFound."""
        ...

    def delete_user(self, user_id: str) -> None:
        """Forget somebody; quiet when they are gone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tick:
    """The right to scale one orchestrator."""

    orchestrator_id: str
    lease_id: str


class OrchestratorStore(Protocol):
    """Orchestrators, their pools, and every decision taken for them."""

    def orchestrators(self) -> list[Orchestrator]: ...

    def orchestrator(self, orchestrator_id: str) -> Orchestrator:
        """Raises: NotFound."""
        ...

    def save_orchestrator(self, orchestrator: Orchestrator) -> None: ...

    def change_orchestrator(
        self, orchestrator_id: str, change: Callable[[Orchestrator], Orchestrator]
    ) -> Orchestrator:
        """Replace an orchestrator by `change(orchestrator)`, only what differs is written; `change` may run again.

        Raises: NotFound; Contended; whatever `change` raises.
        """
        ...

    def pools(self, orchestrator_id: str) -> list[PoolState]:
        """Return its pools as the last ticks saw them, by zone, instance type and price class."""
        ...

    def decisions(self, orchestrator_id: str, pool: PoolKey, limit: int) -> list[KeptDecision]:
        """Return the latest decisions for a pool, newest first."""
        ...

    def begin_tick(self, orchestrator_id: str, now: datetime) -> Tick | None:
        """Take the tick's lease; None when another tick runs, which will then see to it that one more comes."""
        ...

    def finish_tick(self, tick: Tick, now: datetime) -> bool:
        """Give the lease back; False, and the lease is kept anew, when somebody asked for another tick meanwhile."""
        ...

    def release_tick(self, tick: Tick) -> bool:
        """Give the lease back in any case; returns whether somebody asked for another tick meanwhile."""
        ...

    def save_decisions(
        self,
        orchestrator_id: str,
        decisions: Sequence[Decision],
        pools: Mapping[PoolKey, Mapping[str, int]],
        now: datetime,
        took: Took | None = None,
        waiting: Mapping[PoolKey, tuple[WaitingFor, str] | None] | None = None,
    ) -> None:
        """Store what the pools are like now, and each decision with its facts, its reason and how long it took.

        Shapes: `waiting` says why some pools do not serve what waits for them; None where nothing waits.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SubmittedAttempt:
    """What a scheduler must start. Units: MiB; `environment` reaches the agent.

    Shapes: it runs in `avoided_zones` only where nothing is free elsewhere, and never on one of the
    `avoided_instances`, where the scheduler can be told so.
    """

    ref: AttemptRef
    shape: Shape
    zones: Sequence[str]
    cores: int
    memory_mib: int
    priority: int
    environment: Mapping[str, str]
    avoided_zones: Sequence[str] = ()
    avoided_instances: Sequence[str] = ()


class Scheduler(Protocol):
    """Starts attempts on instances. Every call may be repeated safely; retries of its own are off."""

    def submit(self, attempt: SubmittedAttempt) -> None:
        """Queue an attempt under its id; the same id again changes nothing."""
        ...

    def cancel(self, attempt_id: str) -> None:
        """Stop an attempt, with notice if it runs; quiet when it is gone."""
        ...

    def placements(self) -> list[Placement]:
        """Return every attempt it still knows; ended ones may be missing after a while.

        Read after `nodes`, it shows everything that was ever started on a machine that was not eligible there, but for
        what Kubernetes was binding to it in that very moment.
        """
        ...

    def nodes(self) -> list[Node]:
        """Return every machine that registered and is not forgotten."""
        ...

    def joined_at(self, node_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Return since when these machines are up, of those of whom only a call for each tells."""
        ...

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        """Let a machine take new attempts, or not; what runs goes on. Quiet when the machine is gone."""
        ...

    def forget(self, attempt_ids: Sequence[str]) -> None:
        """Remove ended attempts from its books."""
        ...


class Fleet(Protocol):
    """The instance groups of one orchestrator. Every call may be repeated safely."""

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        """Start machines under these names; names that exist stay one machine each.

        Raises: OutOfCapacity, OverQuota, RateLimited, CloudError.
        """
        ...

    def pools(self) -> list[PoolKey]:
        """Return every pool that has, or may have, machines."""
        ...

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        """Return all machines of a pool, those it could not start yet and those on their way out too, oldest first.

        Raises: CloudError; a pool that does not exist has none.
        """
        ...

    def retire(self, pool: PoolKey, names: Sequence[str]) -> None:
        """Delete exactly these machines; quiet for those that are gone."""
        ...

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        """Return what the provider could not do for a pool since then, oldest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class Blob:
    """An object in the store. `md5` is base64, None where the provider keeps none."""

    name: str
    size_bytes: int
    md5: str | None


class Blobs(Protocol):
    """Object storage. Names are paths with forward slashes."""

    def write(self, name: str, content: bytes, content_type: str) -> None:
        """Store an object, replacing an older one."""
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes from `start` to `end` (exclusive). Raises: NotFound."""
        ...

    def stat(self, names: Sequence[str]) -> dict[str, Blob]:
        """Return what exists of these, many at once."""
        ...

    def url_to_read(self, name: str, lifetime_s: int) -> str:
        """Return a signed GET URL that needs no header."""
        ...

    def url_to_write(self, name: str, lifetime_s: int, md5: str | None = None) -> str:
        """Return a signed PUT URL; with `md5` the store demands that header and refuses other bytes."""
        ...

    def url_to_upload(self, name: str, lifetime_s: int, md5: str) -> str:
        """Return a signed PUT URL for an artist's client, which sends headers by what the URL looks like.

        Where it sends the MD5 along, the store refuses other bytes; where it does not, `stat` tells what arrived.
        """
        ...

    def begin_parts(self, name: str) -> str:
        """Start an upload in parts; returns its id."""
        ...

    def url_to_write_part(self, name: str, upload_id: str, part: int, lifetime_s: int) -> str:
        """Return a signed PUT URL of one part, whose answer carries an ETag."""
        ...

    def complete_parts(
        self, name: str, upload_id: str, etags: Mapping[int, str], size_bytes: int
    ) -> Blob:
        """Join the parts, if they have so many bytes in all.

        Raises: NotFound (no such upload); InvalidRequest (parts or their size do not match), and the upload stays.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove an object; quiet when it is gone."""
        ...

    def stored_bytes(self, prefix: str) -> int:
        """Return how many bytes all objects have whose names begin like this; takes one call for a thousand of them."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin like this, in order of their UTF-8 bytes; takes a call for a thousand of them.

        Raises: CloudError, also half way.
        """
        ...


class Bus(Protocol):
    """Messages to our own functions; at least once, in any order."""

    def publish(self, topic: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send ids; returns when the bus has them. Raises: CloudError."""
        ...


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message that no handler took. `receipt` is good for a minute or so, for the one who took it."""

    topic: str
    message_id: str
    data: bytes
    published_at: datetime
    receipt: str


class DeadLetters(Protocol):
    """What lies on the dead-letter topic of each topic."""

    def take(self, topic: str) -> list[DeadLetter]:
        """Take what lies there now; what is neither removed nor put back comes back by itself.

        Raises: NotFound; CloudError.
        """
        ...

    def put_back(self, letters: Sequence[DeadLetter]) -> None:
        """Let others have them. Raises: CloudError."""
        ...

    def remove(self, letters: Sequence[DeadLetter]) -> None:
        """Forget them for good. Raises: CloudError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All that the services of dispatch need, made once by `wiring`.

    `schedulers` gives an orchestrator's scheduler, `attempt_token` the token that an agent will carry, `agent_url`
    where agents call, `store_region` where `blobs` are, "" when that is not said.
    """

    jobs: JobStore
    ledger: LedgerStore
    admission: AdmissionStore
    accounts: AccountStore
    orchestrators: OrchestratorStore
    uploads: UploadStore
    blobs: Blobs
    bus: Bus
    schedulers: Callable[[Orchestrator], Scheduler]
    attempt_token: Callable[[AttemptRef, Shape], str]
    agent_url: str
    now: Callable[[], datetime]
    store_region: str = ""
