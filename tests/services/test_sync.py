"""Sync: a job starts when all of its inputs are there, and says by name what is missing."""

from typing import Any

from shared.models.job import JobRef, JobStatus, Sync, SyncState
from shared.models.task import WaitingFor
from shared.services.attempts import blob_name
from tests.md5 import md5_of
from tests.services.farm import Farm

SCENE = {"/vol/otter/scene.ma": b"scene"}
PENDING = Sync(state=SyncState.PENDING, total_count=1)


def with_inputs(farm: Farm, files: dict[str, bytes], **fields: Any) -> JobRef:
    """Return an expanded job that waits for its inputs."""
    return farm.submit(inputs=files, sync=PENDING, status=JobStatus.SYNC_PENDING, **fields)


def test_a_job_starts_when_its_inputs_are_there(farm: Farm) -> None:
    same = {"/vol/otter/a.exr": b"same", "/vol/otter/b.exr": b"same"}
    ref = with_inputs(farm, SCENE | same)
    farm.push("settle", ref)
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_PENDING, WaitingFor.SYNC)
    assert farm.placed(ref) == []
    assert farm.push("sync", ref) == 204
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=2, total_count=2)
    assert farm.placed(ref) == ["000-1"]
    farm.deliver()
    assert farm.findings(ref) == []


def test_a_missing_file_is_named_and_nothing_starts(farm: Farm) -> None:
    files = SCENE | {"/vol/otter/wood.tx": b"wood"}
    ref = with_inputs(farm, files)
    farm.ports.blobs.delete(blob_name(farm.account_id, md5_of(b"wood")))
    assert farm.push("sync", ref) == 204
    job = farm.job(ref)
    assert (job.status, job.sync.state) == (JobStatus.SYNC_FAILED, SyncState.FAILED)
    assert "/vol/otter/wood.tx" in job.sync.reason
    assert (job.waiting_for, job.waiting_note) == (WaitingFor.SYNC, job.sync.reason)
    assert farm.placed(ref) == []
    assert farm.findings(ref) == []


def test_a_damaged_file_is_named_and_nothing_starts(farm: Farm) -> None:
    ref = with_inputs(farm, SCENE)
    name = blob_name(farm.account_id, md5_of(b"scene"))
    farm.ports.blobs.write(name, b"half a scene", "application/octet-stream")
    assert farm.push("sync", ref) == 204
    assert "/vol/otter/scene.ma" in farm.job(ref).sync.reason
    assert farm.placed(ref) == []


def test_inputs_may_be_ready_before_the_tasks_are_written(farm: Farm) -> None:
    ref = farm.create(inputs=SCENE, sync=PENDING)
    assert farm.push("sync", ref) == 204
    assert farm.placed(ref) == []
    assert farm.expand(ref) == 204
    assert farm.placed(ref) == ["000-1"]


def test_a_job_whose_inputs_were_lost_with_its_spec_starts_nothing(farm: Farm) -> None:
    ref = with_inputs(farm, SCENE)
    farm.ports.blobs.delete(f"accounts/{farm.account_id}/jobs/{ref.job_id}/spec.json")
    assert farm.push("sync", ref) == 204
    assert farm.placed(ref) == []
