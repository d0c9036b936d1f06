"""Jobs of a studio whose tasks are rendered at once, by an agent that a test plays."""

import uuid
from collections.abc import Sequence
from typing import Any

from shared import wiring
from shared.core.lifecycle import Report
from shared.models.job import AttemptRef, JobRef, TaskRef
from shared.models.task import Outcome, TaskStatus
from shared.services.attempts import Output, claim_attempt, finish_attempt, output_name
from shared.services.expand import expand
from shared.services.settle import settle
from tests.functions.conftest import Studio, submission
from tests.md5 import md5_of

CLAIM = "claim-of-the-test-0001"


def submit(studio: Studio, task_count: int = 3, **changed: Any) -> str:
    """Submit a job and have its tasks written; all of them wait."""
    tasks = [{"command": f"render {n}", "frames": str(n)} for n in range(task_count)]
    once = {"job_title": uuid.uuid4().hex}  # the same body twice in half a minute is one job
    changed = once | {"tasks_data": tasks, "scout_frames": "", "location": None} | changed
    reply = studio.post("/jobs/", submission(**changed))
    assert reply.status_code == 201, reply.text
    job_id = str(reply.json["jobid"])
    expand(JobRef(studio.account_id, job_id), 0, 10, wiring.ports())
    return job_id


def start(studio: Studio, job_id: str, index: int, number: int = 1) -> AttemptRef:
    """Have an agent claim a task."""
    ref = AttemptRef(studio.account_id, job_id, str(index).zfill(3), number)
    claim_attempt(ref, claim_id=CLAIM, instance=f"i-{index}", zone="z", ports=wiring.ports())
    return ref


def finish(ref: AttemptRef, outcome: Outcome, paths: Sequence[str] = ()) -> None:
    """Have the agent end an attempt, with these files."""
    ports = wiring.ports()
    contents = {path: f"{ref.task_id} {path}".encode() for path in paths}
    for path, content in contents.items():
        ports.blobs.write(output_name(ref, path), content, "application/octet-stream")
    outputs = [
        Output(relative_path=path, md5=md5_of(content), size=len(content))
        for path, content in contents.items()
    ]
    said = Report(
        outcome=outcome,
        at=wiring.now(),
        claim=CLAIM,
        exit_code=0 if outcome is Outcome.SUCCESS else 1,
        reason="" if outcome is Outcome.SUCCESS else "it broke",
        output_count=len(outputs),
        output_bytes=sum(each.size for each in outputs),
    )
    finish_attempt(ref, said=said, outputs=outputs, ports=ports)


def render(studio: Studio, job_id: str, *indices: int, files: int = 1) -> None:
    """Have tasks rendered, and the job summed."""
    for index in indices:
        paths = [f"beauty/a.{index:04}.{n}.exr" for n in range(files)]
        finish(start(studio, job_id, index), Outcome.SUCCESS, paths)
    settle(JobRef(studio.account_id, job_id), wiring.ports())


def status_of(studio: Studio, job_id: str, task_id: str) -> TaskStatus:
    """Return where a task is."""
    return wiring.job_store().task(TaskRef(studio.account_id, job_id, task_id)).status
