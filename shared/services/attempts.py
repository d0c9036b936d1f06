"""What agents call: claim, inputs, heartbeat, logs, outputs, finish. docs/protocol.md is the contract.

Each call names its attempt by a token; nothing in a body can widen it. A call of an attempt that counts no more changes
nothing.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.core.blocking import is_refused
from shared.core.lifecycle import Report, claim, report
from shared.core.paths import node_path
from shared.core.recovery import next_step
from shared.errors import AttemptWithdrawn, CloudError, InvalidRequest, StaleAttempt
from shared.log import log
from shared.models.job import AttemptRef, Fence, Job
from shared.models.task import Attempt, Outcome, Task, TaskStatus
from shared.ports import Ports, TaskChange
from shared.services.ask import ask_to_settle, ask_to_tell_that_it_runs
from shared.services.ledger import entry_of
from shared.services.unclaimed import take_back

HEARTBEAT_S = 10
URL_LIFETIME_S = 6 * 3600
# Between two notes of being alive in the task's document: what a lost attempt is billed by.
TOUCHED_EVERY = timedelta(seconds=60)
_SIGNED_EVERY = timedelta(minutes=10)
_REMEMBERED_URLS = 1_000


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that an attempt made. `relative_path` is below the job's output path, with forward slashes."""

    relative_path: str
    md5: str
    size: int


def spec_name(job: Job) -> str:
    """Where the job's environment and list of inputs are."""
    return f"accounts/{job.account_id}/jobs/{job.job_id}/spec.json"


def blob_name(account_id: str, md5: str) -> str:
    """Where the bytes with this MD5 (base64) are, for this account and no other. Raises: InvalidRequest."""
    return f"accounts/{account_id}/blobs/{digest_of(md5)}"


def digest_of(md5: str) -> str:
    """Return an MD5 in hexadecimal, as names have it. Raises: InvalidRequest when it is not the base64 of 16 bytes."""
    try:
        digest = base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest({"md5": f"{md5!r} is not base64"}) from error
    if len(digest) != 16:
        raise InvalidRequest({"md5": f"{md5!r} is not an MD5"})
    return digest.hex()


def outputs_prefix(ref: AttemptRef) -> str:
    """Where everything that one attempt makes is, and nothing else."""
    return f"accounts/{ref.account_id}/outputs/{ref.job_id}/{ref.task_id}/{ref.number}"


def log_name(ref: AttemptRef) -> str:
    """Where an attempt's whole log is."""
    return f"{outputs_prefix(ref)}/log.txt"


def manifest_name(ref: AttemptRef) -> str:
    """Where the list of a successful attempt's files is."""
    return f"{outputs_prefix(ref)}/manifest.json"


def output_name(ref: AttemptRef, relative_path: str) -> str:
    """Where one file of an attempt is."""
    return f"{outputs_prefix(ref)}/files/{relative_path}"


def claim_attempt(
    ref: AttemptRef, *, claim_id: str, instance: str, zone: str, ports: Ports, shape: str = ""
) -> dict[str, object]:
    """Start the billing of an attempt and say what it shall run; the same process is answered the same again.

    `shape` names what it was placed for: where the job asks for other machines by now, this one is not billed as such.
    Raises: StaleAttempt; AttemptWithdrawn.
    """
    seen: list[tuple[Task, Job, Attempt]] = []
    is_blocked = False

    def decide(task: Task, job: Job) -> TaskChange | None:
        nonlocal is_blocked
        step = next_step(job, task.attempts, zone, counted_from=task.counted_from)
        is_next = task.live is None and task.attempt == ref.number
        if is_next and shape not in ("", step.shape.name):
            raise AttemptWithdrawn(f"the job asks for {step.shape.name} now, not for {shape}")
        now = ports.now()
        attempt = Attempt(
            number=ref.number,
            claim=claim_id,
            instance=instance,
            zone=zone,
            orchestrator_id=job.orchestrator_id,
            instance_type=step.shape.instance_type,
            is_preemptible=step.shape.is_preemptible,
            price_micros_per_minute=step.price_micros_per_minute,
            cores=step.cores,
            memory_mib=step.memory_mib,
            note=step.note,
            started_at=now,
            alive_at=now,
        )
        seen[:] = [(task, job, task.live or attempt)]
        moved = claim(task, job, attempt)
        is_blocked = moved is not None and is_refused(job, task, instance)
        return TaskChange(task=moved.task, page=moved.page) if moved and not is_blocked else None

    ports.jobs.change_task(ref.task, decide)
    if is_blocked:
        take_back(ref, ports)
        raise AttemptWithdrawn(f"instance {instance} is blocked for job {ref.job_id}")
    task, job, held = seen[0]
    ask_to_tell_that_it_runs(job, ports)
    return {
        "attempt": ref.attempt_id,
        "command": task.command,
        "frames": task.frames,
        "output_path": node_path(job.output_path),
        "spec_url": _spec_url(job, ports),
        "memory_mib": held.memory_mib or job.memory_mib,
        "heartbeat_s": HEARTBEAT_S,
    }


_spec_urls: dict[str, tuple[str, datetime]] = {}


def _spec_url(job: Job, ports: Ports) -> str:
    """Return the signed URL of a job's spec; one signature serves all claims of ten minutes."""
    name, now = spec_name(job), ports.now()
    url, until = _spec_urls.get(name, ("", now))
    if until <= now:
        if len(_spec_urls) >= _REMEMBERED_URLS:
            _spec_urls.clear()
        url = ports.blobs.url_to_read(name, URL_LIFETIME_S)
        _spec_urls[name] = (url, now + _SIGNED_EVERY)
    return url


def input_urls(
    ref: AttemptRef, *, claim_id: str, md5s: Sequence[str], ports: Ports
) -> dict[str, str]:
    """Return signed URLs of the account's own blobs. Raises: InvalidRequest; StaleAttempt; AttemptWithdrawn."""
    names = {md5: blob_name(ref.account_id, md5) for md5 in md5s}
    _live(ports.jobs.task(ref.task), ref, claim_id)
    return {md5: ports.blobs.url_to_read(name, URL_LIFETIME_S) for md5, name in names.items()}


def heartbeat(
    ref: AttemptRef, *, claim_id: str, memory_peak_mib: int, ports: Ports
) -> dict[str, object]:
    """Note that the attempt is alive and say whether to go on. Raises: StaleAttempt; AttemptWithdrawn."""
    task, job = ports.jobs.task_and_job(ref.task)
    live = _live(task, ref, claim_id)
    now = ports.now()
    if now - live.alive_at >= TOUCHED_EVERY:
        ports.jobs.touch(ref, now, memory_peak_mib)
    is_killed = job.fence is Fence.KILLED
    return {
        "action": "stop" if is_killed else "continue",
        "reason": "the job was killed" if is_killed else "",
        "heartbeat_s": HEARTBEAT_S,
        "is_watched": task.watched_until is not None and task.watched_until > now,
    }


def add_log_lines(
    ref: AttemptRef, *, claim_id: str, first_line: int, lines: Sequence[str], ports: Ports
) -> None:
    """Keep some lines for those who watch. Raises: StaleAttempt; AttemptWithdrawn."""
    _live(ports.jobs.task(ref.task), ref, claim_id)
    ports.jobs.add_log_lines(ref, first_line, lines, ports.now())


def output_urls(
    ref: AttemptRef, *, claim_id: str, files: Sequence[Output], ports: Ports
) -> dict[str, object]:
    """Return signed URLs for the attempt's own files and its log. Raises: StaleAttempt; AttemptWithdrawn."""
    _live(ports.jobs.task(ref.task), ref, claim_id)
    return {
        "urls": {
            each.relative_path: ports.blobs.url_to_write(
                output_name(ref, each.relative_path), URL_LIFETIME_S, each.md5
            )
            for each in files
        },
        "log_url": ports.blobs.url_to_write(log_name(ref), URL_LIFETIME_S),
    }


def finish_attempt(
    ref: AttemptRef, *, said: Report, outputs: Sequence[Output], ports: Ports
) -> TaskStatus:
    """End an attempt as its agent says; a repeat changes nothing. Raises: StaleAttempt."""
    if outputs and _holds(ports.jobs.task(ref.task), ref, said.claim):
        # Only then: a process that will be refused must not replace the list of the one that holds the attempt.
        listed = [
            {"relative_path": each.relative_path, "md5": each.md5, "size": each.size}
            for each in outputs
        ]
        content = json.dumps(listed).encode()
        ports.blobs.write(manifest_name(ref), content, "application/json")
    if said.outcome is Outcome.PREEMPTED:
        _take_out_of_use(ref, ports)
    return end_attempt(ref, said, ports)


def _take_out_of_use(ref: AttemptRef, ports: Ports) -> None:
    """Let the scheduler start nothing more on a machine that is about to go, before its agent ends and leaves it free.

    Only spares attempts: where it fails, they are preempted too and tried again.
    """
    task, job = ports.jobs.task_and_job(ref.task)
    live = task.live
    if live is None or live.number != ref.number:
        return
    scheduler = ports.schedulers(ports.orchestrators.orchestrator(job.orchestrator_id))
    try:
        nodes = scheduler.nodes()
        mine = [node for node in nodes if node.name == live.instance]
        for node in mine:
            scheduler.set_eligible(node.node_id, False)
        if nodes and not mine:  # some schedulers have no nodes to show
            log("WARNING", "preempted node not found", instance=live.instance)
    except CloudError as error:
        log("WARNING", "preempted node left in use", instance=live.instance, reason=str(error))


def end_attempt(ref: AttemptRef, said: Report, ports: Ports) -> TaskStatus:
    """End an attempt, with its ledger entry in the same commit, and set off what follows. Raises: StaleAttempt."""
    status = TaskStatus.RUNNING
    was_scout = False

    def decide(task: Task, job: Job) -> TaskChange | None:
        nonlocal status, was_scout
        moved = report(task, job, ref.number, said)
        status, was_scout = (moved.task if moved else task).status, task.is_scout
        if moved is None or moved.ended is None:
            return None
        entry = entry_of(job, moved.task, moved.ended)
        # What lets a job go passes over tasks that run: one that began to hold behind its back would hold for ever.
        holds = status is TaskStatus.HOLDING
        return TaskChange(task=moved.task, page=moved.page, ledger=entry, is_bound_to_job=holds)

    # A success is one whatever has been ordered for the job meanwhile; how anything else ends is the job's to say.
    is_success = said.outcome is Outcome.SUCCESS
    applied = ports.jobs.change_task(ref.task, decide, by_task_alone=is_success)
    if applied is not None:
        # Urgent is what others wait for: the end of a page, perhaps of the job, and of a scout.
        ask_to_settle(ref.task.job, ports, is_urgent=applied.open_count == 0 or was_scout)
        if status is TaskStatus.PENDING or ports.admission.has_backlog(ref.account_id):
            ports.bus.publish("admit", [{"account_id": ref.account_id}])
    return status


def _holds(task: Task, ref: AttemptRef, claim_id: str | None) -> bool:
    live = task.live
    return live is not None and live.number == ref.number and live.claim == claim_id


def _live(task: Task, ref: AttemptRef, claim_id: str) -> Attempt:
    if task.live is not None and _holds(task, ref, claim_id):
        return task.live
    if task.status is TaskStatus.KILLED:
        raise AttemptWithdrawn(f"task {task.task_id} was killed")
    raise StaleAttempt(f"attempt {ref.number} of task {task.task_id} is not this process's")


def outcome_of(name: object) -> Outcome:
    """Read the outcome an agent may report. Raises: InvalidRequest."""
    reportable: Mapping[object, Outcome] = {
        outcome.value: outcome for outcome in Outcome if outcome is not Outcome.LOST
    }
    if not isinstance(name, str) or name not in reportable:
        raise InvalidRequest({"outcome": f"must be one of {', '.join(map(str, reportable))}"})
    return reportable[name]
