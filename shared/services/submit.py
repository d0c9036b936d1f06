"""Submit: check what a client asks for, store it, make it a job, and set it in motion.

Killed between any two lines, a repeated call or the sweep finishes it: the digest of the body names the job, every
object is written under the job's own name, and every message may come twice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson

from shared.core.environment import conflicts, merge_environment
from shared.core.orders import on_machine
from shared.core.paths import node_path, with_slashes
from shared.core.permissions import Action, check
from shared.core.progress import with_upload
from shared.errors import InvalidRequest
from shared.models.account import InstanceType, Package, Principal
from shared.models.job import Block, Job, JobStatus, Sync, SyncState, Upload, UploadState
from shared.models.submission import Submission, SubmittedFile, SubmittedTask
from shared.models.task import TASKS_PER_PAGE, WaitingFor
from shared.models.upload import AwaitedFile
from shared.ports import CatalogStore, Ports
from shared.schemas.bounded import MAX_COMPLAINTS
from shared.schemas.loading import load
from shared.schemas.submission import SubmissionSchema
from shared.schemas.uploads import MAX_FINISH_BYTES
from shared.services.attempts import blob_name, spec_name
from shared.services.catalog import offered_types
from shared.services.control import PAGES_TOGETHER, block_messages
from shared.services.expand import payload_name
from shared.services.inputs import input_list, inputs_name
from shared.services.projects import check_project
from shared.services.upload_daemon import enqueue, files_name, listed
from shared.services.uploads import MAX_LOOKED_FOR, held

# What a daemon's `finish` has of each file beside its path, twice.
_FINISH_BYTES_A_FILE = len(json.dumps({"": {"source": "", "md5": "q7sQ0v8m0zqL0m5Z1y2rWg=="}}))

_SCHEMA = SubmissionSchema()
# Kept from one request to the next: to start threads takes longer than to write a small object.
_WRITERS = ThreadPoolExecutor(32, thread_name_prefix="submit")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A submission whose every name is known to exist."""

    submission: Submission
    machine: InstanceType
    offered: Sequence[InstanceType]
    packages: Sequence[Package]
    inputs: Sequence[Mapping[str, Any]]
    awaits_upload: bool


def submit_job(
    principal: Principal, body: bytes, said: Mapping[str, Any], ports: Ports, catalog: CatalogStore
) -> str:
    """Turn a submission into a job and return its id; the same body within 30 s is the same job.

    `body` is what was sent, `said` the JSON in it. Raises: Forbidden; InvalidRequest, and then nothing is stored.
    """
    check(principal, Action.SUBMIT)
    plan = _plan(principal, load(_SCHEMA, said), ports, catalog)
    who = f"{principal.account_id}\n{principal.user_id}\n".encode()
    job = _stored(
        _job(principal, plan, ports),
        plan,
        digest=hashlib.sha256(who + body).hexdigest(),
        said=said,
        ports=ports,
    )
    ports.jobs.create_job(job)
    _set_in_motion(job, ports)
    return job.job_id


def _plan(
    principal: Principal, submission: Submission, ports: Ports, catalog: CatalogStore
) -> _Plan:
    """Check every name against the account and the catalogue, every file against the store. Raises: InvalidRequest."""
    wrong: dict[str, str] = {}
    check_project(principal, submission.project, ports, wrong)
    offered = offered_types(principal.account_id, ports.accounts, catalog)
    machine = next((each for each in offered if each.name == submission.instance_type), None)
    if machine is None:
        wrong["instance_type"] = f"unknown: {submission.instance_type}"
    known = {package.package_id: package for package in catalog.packages()}
    unknown = [each for each in submission.package_ids if each not in known]
    packages = [known[each] for each in submission.package_ids if each in known]
    if unknown:
        wrong["software_package_ids"] = f"unknown: {', '.join(unknown)}"
    elif machine and any(each.platform != machine.operating_system for each in packages):
        wrong["software_package_ids"] = f"not for {machine.operating_system}"
    elif clashing := conflicts(packages):
        wrong["software_package_ids"] = f"cannot be used together: {', '.join(clashing)}"
    inputs, awaits_upload = _inputs(principal.account_id, submission, ports, wrong)
    if wrong or machine is None:
        raise InvalidRequest(wrong)
    return _Plan(
        submission=submission,
        machine=machine,
        offered=offered,
        packages=packages,
        inputs=inputs,
        awaits_upload=awaits_upload,
    )


def _inputs(
    account_id: str, submission: Submission, ports: Ports, wrong: dict[str, str]
) -> tuple[list[Mapping[str, Any]], bool]:
    """Return each file once, as a node shall have it, and whether an upload daemon shall send some of them.

    What can be neither on the node nor in the store is added to `wrong`.
    """
    missing_md5 = "no MD5: local_upload must be true, or every file must be in the store already"
    is_daemons = not submission.is_uploaded_by_client
    awaits_upload = False
    found: dict[str, Mapping[str, Any]] = {}
    names: dict[str, int] = {}
    for index, file in enumerate(submission.files):
        if len(wrong) >= MAX_COMPLAINTS:
            break
        if file.md5 is not None:
            names.setdefault(blob_name(account_id, file.md5), index)
        elif is_daemons:
            awaits_upload = True
        else:
            wrong["local_upload"] = f"upload_files.{index} has {missing_md5}"
            continue
        path = node_path(file.path)
        if found.setdefault(path, {"md5": file.md5})["md5"] != file.md5:
            wrong[f"upload_files.{index}.destination"] = f"another file is at {path} on the node"
            continue
        found[path] = {
            "path": path,
            "md5": file.md5,
            "size": file.size_bytes,
            "executable": file.is_executable,
        }
    if not _are_stored(names, submission, ports, wrong) and is_daemons:
        awaits_upload = True
    if awaits_upload and _finish_bytes(submission.files) > MAX_FINISH_BYTES:
        wrong["upload_files"] = "too many for one upload daemon: send fewer files, or shorter paths"
    return list(found.values()), awaits_upload


def _are_stored(
    names: Mapping[str, int], submission: Submission, ports: Ports, wrong: dict[str, str]
) -> bool:
    """Tell whether the store has all these blobs; what it lacks is added to `wrong`, unless a daemon shall send it.

    Of more than 5,000 only the first are sought: the others a daemon sends anyhow, and the sync finds out.
    Shapes: `names` has the position of a file that each is of.
    """
    sought = dict(islice(names.items(), MAX_LOOKED_FOR))
    stored = held(sought, ports.blobs) if sought else {}
    are_there = len(sought) == len(names)
    for name, index in sought.items():
        if len(wrong) >= MAX_COMPLAINTS:
            break
        file = submission.files[index]
        blob = stored.get(name)
        if blob is not None and blob.size_bytes == file.size_bytes:
            continue
        are_there = False
        if not submission.is_uploaded_by_client:
            continue
        if blob is None:
            wrong[f"upload_files.{index}.md5"] = f"not in the store: {file.path}"
        else:
            wrong[f"upload_files.{index}.st_size"] = f"the store holds another size: {file.path}"
    return are_there


def _finish_bytes(files: Sequence[SubmittedFile]) -> int:
    """Return how large the body is by which a daemon will say that it has sent the files."""
    paths = {file.path for file in files}
    return sum(2 * len(json.dumps(path)) + _FINISH_BYTES_A_FILE for path in paths)


def _job(principal: Principal, plan: _Plan, ports: Ports) -> Job:
    asked, machine = plan.submission, plan.machine
    has_inputs = bool(plan.inputs)
    job = Job(
        account_id=principal.account_id,
        job_id=ports.jobs.allocate_job_id(principal.account_id),
        title=asked.title,
        project=asked.project,
        owner=asked.owner or principal.user_id,
        created_at=ports.now(),
        task_count=len(asked.tasks),
        instance_type=machine.name,
        is_preemptible=asked.is_preemptible,
        price_micros_per_minute=machine.price_micros_per_minute,
        output_path=with_slashes(asked.output_path),
        input_bytes=sum(
            {each["md5"] or each["path"]: each["size"] for each in plan.inputs}.values()
        ),
        priority=asked.priority,
        max_instances=asked.max_instances,
        preempted_retries=asked.preempted_retries,
        standard_after=asked.standard_after,
        out_of_memory_retries=asked.out_of_memory_retries,
        scout_task_ids=tuple(str(index).zfill(3) for index in asked.scouts),
        scouts_pending=bool(asked.scouts),
        licences=tuple(sorted({each.licence for each in plan.packages if each.licence})),
        metadata=asked.metadata,
        notify_emails=asked.notify_emails,
        location=asked.location,
        status=JobStatus.SYNC_PENDING if has_inputs else JobStatus.PENDING,
        sync=Sync(
            state=SyncState.PENDING if has_inputs else SyncState.DONE,
            total_count=len({each["md5"] for each in plan.inputs}),
        ),
        waiting_for=WaitingFor.SYNC if has_inputs else WaitingFor.ADMISSION,
        waiting_note="its inputs are made ready" if has_inputs else "its turn is next",
    )
    job = on_machine(job, machine, asked.is_preemptible, plan.offered)
    return with_upload(job, _upload(asked)) if plan.awaits_upload else job


def _upload(asked: Submission) -> Upload:
    sizes = {file.path: file.size_bytes for file in asked.files}
    total_bytes = sum(sizes.values())
    return Upload(state=UploadState.WAITING, file_count=len(sizes), total_bytes=total_bytes)


def _stored(job: Job, plan: _Plan, *, digest: str, said: Mapping[str, Any], ports: Ports) -> Job:
    """Store all that is large about a job and return it with its blocks, under the id that the digest has.

    The digest is claimed while the objects are being written: only the repeat of a submission writes them twice.
    """
    tasks, blocks = _payload(plan.submission)
    payload = tasks + _manifest(said)
    job = replace(job, blocks=blocks)
    writing = _write(_objects(job, plan, payload), ports)
    try:
        first_id = ports.jobs.claim_submission(job.account_id, digest, job.job_id, job.created_at)
    finally:
        wait(writing)
    if first_id != job.job_id:
        for name, *_ in _objects(job, plan, payload):
            ports.blobs.delete(name)
        job = replace(job, job_id=first_id)
        writing = _write(_objects(job, plan, payload), ports)
    for written in writing:
        written.result()
    return job


def _payload(submission: Submission) -> tuple[bytes, tuple[Block, ...]]:
    """Return the tasks as JSON lines, and where each run of pages is in them."""
    tasks, scouts = submission.tasks, frozenset(submission.scouts)
    tasks_per_block = PAGES_TOGETHER * TASKS_PER_PAGE
    content = bytearray()
    blocks = []
    for first in range(0, len(tasks), tasks_per_block):
        start = len(content)
        content += b"".join(
            _line(task, index in scouts)
            for index, task in enumerate(tasks[first : first + tasks_per_block], start=first)
        )
        blocks.append(Block(first_page=first // TASKS_PER_PAGE, start=start, end=len(content)))
    return bytes(content), tuple(blocks)


def _line(task: SubmittedTask, is_scout: bool) -> bytes:
    said = {"command": task.command, "frames": task.frames, "scout": is_scout}
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def _manifest(said: Mapping[str, Any]) -> bytes:
    """Return what was asked for, without the tasks: the last line of the payload, behind its last block."""
    asked = {name: value for name, value in said.items() if name != "tasks_data"}
    try:
        return orjson.dumps(asked, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:  # what can be read may still be too deep to be written
        raise InvalidRequest({"body": f"cannot be kept: {error}"}) from error


def _objects(job: Job, plan: _Plan, payload: bytes) -> list[tuple[str, bytes, str]]:
    """Return name, content and type: the tasks with the submission, and what agents need to know.

    Of a job that waits for its upload, agents learn when that is finished; only the end of it may write their list.
    """
    environment = merge_environment(plan.packages, plan.submission.environment)
    objects = [(payload_name(job.ref), payload, "application/jsonl")]
    if plan.awaits_upload:
        files = listed(environment, _awaited(plan.submission))
        return [*objects, (files_name(job.ref), files, "application/json")]
    if plan.inputs:
        objects.append((inputs_name(job.ref), input_list(plan.inputs), "text/plain"))
    spec = orjson.dumps({"environment": environment, "inputs": plan.inputs})
    return [*objects, (spec_name(job), spec, "application/json")]


def _awaited(asked: Submission) -> list[AwaitedFile]:
    files = {file.path: file for file in asked.files}
    return [
        AwaitedFile(
            source=file.path,
            path=node_path(file.path),
            md5=file.md5,
            size_bytes=file.size_bytes,
            executable=file.is_executable,
        )
        for file in files.values()
    ]


def _write(objects: Sequence[tuple[str, bytes, str]], ports: Ports) -> list[Future[None]]:
    return [_WRITERS.submit(ports.blobs.write, *each) for each in objects]


def _set_in_motion(job: Job, ports: Ports) -> None:
    ports.bus.publish("expand", block_messages(job, range(job.page_count)))
    if job.upload.state is not UploadState.DONE:
        enqueue(job, ports)
    elif job.sync.state is SyncState.PENDING:
        ports.bus.publish("sync", [{"account_id": job.account_id, "job_id": job.job_id}])
