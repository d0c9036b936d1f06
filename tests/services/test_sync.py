"""Sync: a job starts when all of its inputs are there, and says by name what is missing.

However many there are: each message looks for some of them, and whatever becomes of it, the next goes on from there.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests

from shared.models.job import Command, JobRef, JobStatus, Sync, SyncState
from shared.models.task import WaitingFor
from shared.schemas.submission import MAX_FILES
from shared.services import sync
from shared.services.attempts import blob_name
from shared.services.control import order
from shared.services.inputs import InputFile, input_list, inputs_name, read_inputs
from tests.md5 import md5_of
from tests.services.farm import Farm
from tests.services.rig import Message

SCENE = {"/vol/otter/scene.ma": b"scene"}
PENDING = Sync(state=SyncState.PENDING, total_count=1)


def with_inputs(farm: Farm, files: dict[str, bytes], **fields: Any) -> JobRef:
    """Return an expanded job that waits for its inputs."""
    asked: dict[str, Any] = {"sync": PENDING, "status": JobStatus.SYNC_PENDING}
    return farm.submit(inputs=files, **asked | fields)


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
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_FAILED, WaitingFor.SYNC)
    assert "the list of its inputs is not in the store" in job.waiting_note


# More files than one message looks for

MANY = {f"/vol/otter/{n}.tx": f"texture {n}".encode() for n in range(7)}
MANY_PENDING = Sync(state=SyncState.PENDING, total_count=7)


@pytest.fixture(name="few_together")
def few_together_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message looks for two files, so that a small job needs four."""
    monkeypatch.setattr(sync, "FILES_TOGETHER", 2)


@pytest.fixture(name="failing_store")
def failing_store_fixture(farm: Farm) -> Iterator[str]:
    """Where faults of the store are ordered; none is left."""
    url = f"{farm.stack.url('storage')}/faults"
    yield url
    requests.post(url, json=[], timeout=10).raise_for_status()


def with_many(farm: Farm) -> JobRef:
    return with_inputs(farm, MANY, sync=MANY_PENDING)


def lose(farm: Farm, number: int) -> None:
    """Have a file of MANY gone from the store."""
    farm.ports.blobs.delete(blob_name(farm.account_id, md5_of(f"texture {number}".encode())))


def asked_again(farm: Farm) -> int:
    """Return how many further messages of a sync are on their way, and forget them."""
    return len(farm.published("sync"))


def test_of_two_hundred_thousand_files_any_run_is_read_by_itself(farm: Farm) -> None:
    ref = JobRef(farm.account_id, "00001")
    files = [InputFile(md5_of(f"{n}".encode()), n * 1024**2) for n in range(MAX_FILES)]
    listed = input_list({"md5": each.md5, "size": each.size_bytes} for each in files)
    farm.ports.blobs.write(inputs_name(ref), listed, "text/plain")
    for first in (0, 1, 123_456, MAX_FILES - 2):
        found = read_inputs(ref, first, 3, farm.ports.blobs)
        assert found == files[first : first + 3]
    assert read_inputs(ref, MAX_FILES, 3, farm.ports.blobs) == []


@pytest.mark.usefixtures("few_together")
def test_each_message_looks_for_some_of_the_files_and_asks_for_the_next(farm: Farm) -> None:
    ref = with_many(farm)
    for done_count in (2, 4, 6):
        assert farm.push("sync", ref) == 204
        job = farm.job(ref)
        assert job.sync == Sync(state=SyncState.SYNCING, done_count=done_count, total_count=7)
        assert (job.status, job.waiting_for) == (JobStatus.SYNCING, WaitingFor.SYNC)
        assert job.waiting_note == f"{done_count} of 7 files are ready"
        assert (asked_again(farm), farm.placed(ref)) == (1, [])
    assert farm.push("sync", ref) == 204
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=7, total_count=7)
    assert (asked_again(farm), farm.placed(ref)) == (0, ["000-1"])
    farm.deliver()
    assert farm.findings(ref) == []


@pytest.mark.usefixtures("few_together")
def test_a_message_that_comes_again_goes_on_from_the_files_that_were_found(farm: Farm) -> None:
    ref = with_many(farm)
    farm.push("sync", ref)
    farm.push("sync", ref)
    farm.published("sync")  # it was killed before it could ask for the next
    for number in range(4):
        lose(farm, number)
    assert farm.push("sync", ref) == 204
    assert farm.job(ref).sync.done_count == 6
    farm.deliver()
    assert farm.job(ref).sync.state is SyncState.DONE


def test_a_job_whose_sync_was_killed_at_its_end_starts_when_the_message_comes_again(
    farm: Farm,
) -> None:
    done = Sync(state=SyncState.DONE, done_count=1, total_count=1)
    ref = with_inputs(farm, SCENE)
    farm.ports.jobs.change_job(ref, lambda now: replace(now, sync=done))
    assert farm.push("sync", ref) == 204
    assert farm.placed(ref) == ["000-1"]


@pytest.mark.usefixtures("few_together")
def test_the_sweep_goes_on_with_a_sync_that_stopped_half_way(farm: Farm) -> None:
    ref = with_many(farm)
    farm.push("sync", ref)
    farm.published("sync")
    farm.sweep()
    farm.deliver()
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=7, total_count=7)
    assert farm.placed(ref) == ["000-1"]


@pytest.mark.usefixtures("few_together")
@pytest.mark.parametrize("seed", range(3))
def test_messages_that_come_many_times_at_once_and_late_do_no_harm(farm: Farm, seed: int) -> None:
    chance = random.Random(seed)
    ref = with_many(farm)
    waiting: list[Message] = [{}] * 3
    seen = [0]
    with ThreadPoolExecutor(3) as pool:
        while waiting:
            assert len(seen) < 30, "messages beget more messages than they are"
            chance.shuffle(waiting)
            together, waiting = waiting[:3], waiting[3:]
            if chance.random() < 0.4:
                waiting.append(together[0])
            answers = list(pool.map(lambda _: farm.push("sync", ref), together))
            assert answers == [204] * len(together)
            seen.append(farm.job(ref).sync.done_count)
            waiting += [message for _, message in farm.published("sync")]
    assert seen == sorted(seen)
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=7, total_count=7)
    farm.deliver()
    assert farm.placed(ref) == ["000-1"]
    assert farm.findings(ref) == []


@pytest.mark.usefixtures("few_together")
def test_a_store_that_fails_is_asked_again_and_what_was_found_stays_found(
    farm: Farm, failing_store: str
) -> None:
    ref = with_many(farm)
    farm.push("sync", ref)
    fault = {"path_prefix": "/batch/", "times": 100, "status": 503}
    requests.post(failing_store, json=[fault], timeout=10).raise_for_status()
    farm.published("sync")
    for _ in range(2):
        assert farm.push("sync", ref) == 503
    job = farm.job(ref)
    assert (job.sync.state, job.sync.done_count) == (SyncState.SYNCING, 2)
    assert asked_again(farm) == 0
    requests.post(failing_store, json=[], timeout=10).raise_for_status()
    farm.push("sync", ref)
    farm.deliver()
    assert farm.job(ref).sync.state is SyncState.DONE


@pytest.mark.usefixtures("few_together")
def test_a_file_that_is_missing_far_behind_is_named_and_found_by_a_retry(farm: Farm) -> None:
    ref = with_many(farm)
    lose(farm, 5)
    farm.push("sync", ref)
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.sync.done_count) == (JobStatus.SYNC_FAILED, 4)
    assert "/vol/otter/5.tx" in job.waiting_note
    farm.upload({"/vol/otter/5.tx": b"texture 5"})
    order(ref, Command.RETRY_SYNC, farm.ports)
    farm.deliver()
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=7, total_count=7)
    assert farm.placed(ref) == ["000-1"]


@pytest.mark.usefixtures("few_together")
def test_nobody_looks_for_the_files_of_a_killed_job_until_it_is_retried(farm: Farm) -> None:
    ref = with_many(farm)
    farm.push("sync", ref)
    order(ref, Command.KILL, farm.ports)
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.is_ended, job.sync.done_count) == (JobStatus.KILLED, True, 2)
    order(ref, Command.RETRY, farm.ports)
    farm.deliver()
    assert farm.job(ref).sync == Sync(state=SyncState.DONE, done_count=7, total_count=7)
    assert len(farm.placed(ref)) == 1
    assert farm.findings(ref) == []
