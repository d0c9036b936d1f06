"""Frames that arrived at the artist's: how often their job is summed for it, and that it is in the end."""

from shared import wiring
from shared.models.account import Principal, Role
from shared.models.job import JobRef, JobStatus, TaskRef
from shared.models.submission import DownloadStatus
from shared.models.task import TaskStatus
from shared.services.control import mark_downloaded
from shared.services.download_daemon import next_downloads, note_status
from tests.services.farm import Farm


def rendered(farm: Farm, task_count: int) -> JobRef:
    """Return a job that has ended, all of it with frames."""
    ref = farm.submit(task_count)
    for index in range(task_count):
        farm.run(ref, f"{index:03}")
    farm.deliver()
    assert farm.job(ref).counts == {TaskStatus.SUCCESS: task_count}
    return ref


def somebody(farm: Farm) -> Principal:
    return Principal(account_id=farm.account_id, user_id="ines", role=Role.OWNER)


def tell(farm: Farm, ref: JobRef, task_id: str) -> None:
    said = DownloadStatus(download_id=f"{ref.job_id}-{task_id}-1", status="downloaded")
    note_status(somebody(farm), said, farm.ports, wiring.download_store())


def test_a_job_is_summed_once_when_the_last_frames_of_a_page_have_arrived(farm: Farm) -> None:
    ref = rendered(farm, 4)
    asked = []
    for task_id in ("002", "000", "003", "003", "001"):
        tell(farm, ref, task_id)
        asked.append(len(farm.published("settle")))
    assert asked == [0, 0, 0, 0, 1]
    assert farm.push("settle", ref) == 204
    assert farm.job(ref).status is JobStatus.DOWNLOADED
    assert farm.findings(ref) == []


def test_sums_that_a_lost_message_left_behind_are_made_up_for_when_a_daemon_asks(
    farm: Farm,
) -> None:
    ref = rendered(farm, 1)
    mark_downloaded(TaskRef(*ref, "000"), 1, farm.ports)
    later = farm.ports_in(minutes=1)
    store = wiring.download_store()
    assert next_downloads(somebody(farm), farm.job(ref).location, 5, later, store) == []
    farm.deliver("settle")
    assert farm.job(ref).status is JobStatus.DOWNLOADED
