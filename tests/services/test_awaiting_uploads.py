"""Jobs that wait for an upload daemon: they start nothing before, are swept on, and end like any other."""

from shared.models.job import Command, JobRef, JobStatus, Sync, SyncState, Upload, UploadState
from shared.models.task import WaitingFor
from shared.models.upload import QueuedUpload
from shared.services.control import order
from tests.services.farm import Farm

SCENE = {"/vol/otter/scene.ma": b"scene"}
PENDING = Sync(state=SyncState.PENDING)


def awaiting(farm: Farm, state: UploadState = UploadState.WAITING) -> JobRef:
    """Return an expanded job whose files a daemon shall send."""
    upload = Upload(state=state, file_count=1, total_bytes=5)
    return farm.submit(inputs=SCENE, upload=upload, sync=PENDING, status=JobStatus.UPLOAD_PENDING)


def test_nothing_starts_or_fails_while_files_are_on_their_way(farm: Farm) -> None:
    ref = awaiting(farm)
    assert farm.push("sync", ref) == 204
    farm.push("settle", ref)
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.UPLOAD_PENDING, WaitingFor.UPLOAD)
    assert job.sync == PENDING
    assert farm.placed(ref) == []
    farm.deliver()
    assert farm.findings(ref) == []


def test_the_sync_handler_puts_back_what_fell_out_of_the_queue_once(farm: Farm) -> None:
    ref = awaiting(farm)
    for _ in range(2):
        assert farm.push("sync", ref) == 204
    (page,) = farm.ports.uploads.waiting(ref.account_id, "", farm.ports.now())
    assert [each.ref for each in page] == [ref]


def test_a_failed_upload_waits_for_a_person(farm: Farm) -> None:
    ref = awaiting(farm, UploadState.FAILED)
    farm.push("sync", ref)
    farm.push("settle", ref)
    job = farm.job(ref)
    assert (job.status, job.waiting_for) == (JobStatus.SYNC_FAILED, WaitingFor.UPLOAD)
    assert farm.ports.uploads.find(ref) is None
    assert farm.findings(ref) == []


def test_a_job_that_is_killed_while_it_waits_ends_and_leaves_the_queue(farm: Farm) -> None:
    ref = awaiting(farm)
    farm.push("sync", ref)
    order(ref, Command.KILL, farm.ports)
    farm.deliver()
    job = farm.job(ref)
    assert (job.status, job.is_ended) == (JobStatus.KILLED, True)
    assert farm.ports.uploads.find(ref) is None
    assert farm.findings(ref) == []


def test_of_two_who_read_the_same_place_in_the_queue_one_gets_it(farm: Farm) -> None:
    ref, now = awaiting(farm), farm.ports.now()
    farm.ports.uploads.add(QueuedUpload(ref=ref, location="", available_at=now))
    queued = farm.ports.uploads.find(ref)
    assert queued is not None
    changes = [
        farm.ports.uploads.change(queued, holder=each, available_at=now) for each in ("a", "b")
    ]
    assert changes == [True, False]
    farm.ports.uploads.remove(ref)
    farm.ports.uploads.remove(ref)
    assert farm.ports.uploads.change(queued, holder="c", available_at=now) is False
