"""Look after jobs from scripts: list, read logs, kill; and read what was spent."""

import json
from functools import partial

from shared.models.job import JobRef, JobStatus
from shared.models.task import TaskStatus
from tests.clients.artist import Artist
from tests.clients.matrix import FLOWS


def _has(artist: Artist, ref: JobRef, *statuses: TaskStatus) -> bool:
    return [task.status for task in artist.farm.tasks(ref)] == list(statuses)


@FLOWS.flow(since="8.0")
def control(artist: Artist) -> None:
    """Jobs are listed, a log is read, then one task and in the end the whole job is killed."""
    wait = "sleep 600"
    ref = artist.farm.submit(["echo the first frame", wait, wait], max_instances=3)
    T = TaskStatus  # noqa: N806
    artist.wait("all run", partial(_has, artist, ref, T.SUCCESS, T.RUNNING, T.RUNNING))
    artist.wait("the job says so", lambda: artist.farm.job(ref).status is JobStatus.RUNNING)
    number = int(ref.job_id)
    [one], several, log, killed = artist.drive(
        "call",
        ["get_jobs", number],
        ["get_jobs", max(number - 1, 1), number + 5],
        ["get_log", number, 0],
        ["kill_tasks", number, 1],
    ).told()
    assert one["jid"] == ref.job_id and one["status"] == "running"
    assert ref.job_id in [each["jid"] for each in several]
    told = json.loads(log)
    assert told["task_status"] == "success" and len(told["logs"]) == len(told["new_num_lines"])
    assert any("the first frame" in line for each in told["logs"] for line in each["log"])
    assert killed["body"] == "success"
    artist.wait("one task is killed", partial(_has, artist, ref, T.SUCCESS, T.KILLED, T.RUNNING))
    [killed] = artist.drive("call", ["kill_jobs", ref.job_id]).told()
    assert killed["body"] == "success"
    artist.farm.wait_for_end(ref, "killed")
    assert _has(artist, ref, T.SUCCESS, T.KILLED, T.KILLED)


@FLOWS.flow(since="8.1")
def usage(artist: Artist) -> None:
    """What was spent comes by day, and a period without anything is answered too."""
    ref = artist.farm.submit(["true"])
    artist.farm.wait_for_end(ref, "success")
    start = artist.farm.job(ref).created_at.date()
    today = {"date": f"{start}T00:00:00"}
    tomorrow = {"date": f"{start.replace(year=start.year + 1)}T00:00:00"}
    long_ago = {"date": "2001-01-01T00:00:00"}, {"date": "2001-01-03T00:00:00"}
    spent, nothing, stored, none_stored = artist.drive(
        "call",
        ["get_compute_usage", today, tomorrow],
        ["get_compute_usage", *long_ago],
        ["get_storage_usage", today, today],
        ["get_storage_usage", *long_ago],
    ).told()
    assert spent[str(start)]["walltime"] >= 1 and spent[str(start)]["cost"] > 0
    assert all(not day["cost"] and not day["walltime"] for day in nothing.values())
    assert list(stored) == [str(start)]
    assert list(none_stored) == ["2001-01-01", "2001-01-02", "2001-01-03"]
    assert all(day == {"cost": 0.0, "GiB": 0.0} for day in none_stored.values())
