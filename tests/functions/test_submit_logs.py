"""Logs: what each attempt of a task wrote, and only what the caller does not have."""

from typing import Any

import pytest

from shared import wiring
from shared.models.job import AttemptRef, TaskRef
from shared.models.task import Outcome
from shared.services import logs
from shared.services.attempts import add_log_lines, log_name
from tests.functions.conftest import Studio
from tests.functions.frames import CLAIM, finish, start, submit


def read(studio: Studio, job_id: str, *known: int, task: str = "000") -> dict[str, Any]:
    """Ask as the client does; it says 0 when it knows nothing."""
    counts = "".join(f"&num_lines%5B%5D={each}" for each in known or (0,))
    reply = studio.get(f"/get_log_file?job={job_id}&task={task}{counts}")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json
    return found


def lines(found: dict[str, Any]) -> list[list[str]]:
    return [each["log"] for each in found["logs"]]


def write(ref: AttemptRef, first: int, *texts: str) -> None:
    """Have the agent send lines of a running attempt."""
    add_log_lines(ref, claim_id=CLAIM, first_line=first, lines=texts, ports=wiring.ports())


def store(ref: AttemptRef, content: bytes) -> None:
    """Have the agent store the whole log."""
    wiring.blobs().write(log_name(ref), content, "text/plain")


def test_a_task_that_never_ran_has_no_logs(studio: Studio) -> None:
    job_id = submit(studio, 1)
    found = read(studio, job_id)
    assert isinstance(found.pop("status_description"), str)
    assert found == {"logs": [], "new_num_lines": [], "task_status": "pending"}


def test_a_running_task_tells_what_its_agent_has_sent_and_asks_it_for_more(studio: Studio) -> None:
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    assert lines(read(studio, job_id)) == [[]]
    task = wiring.job_store().task(TaskRef(studio.account_id, job_id, "000"))
    assert task.watched_until is not None and task.watched_until > wiring.now()
    write(ref, 0, "Fra:1", "")
    write(ref, 2, "Saved: 'a.png'")
    found = read(studio, job_id)
    (log,) = found["logs"]
    assert float(log.pop("timestamp")) == task.attempts[0].started_at.timestamp()
    assert log == {
        "container_id": f"{job_id}-000-1",
        "instance_name": "i-0",
        "log": ["Fra:1", "", "Saved: 'a.png'"],
    }
    assert (found["new_num_lines"], found["task_status"]) == ([3], "running")


def test_only_lines_that_the_caller_does_not_have_are_told(studio: Studio) -> None:
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    texts = [f"line {n}" for n in range(150)]
    write(ref, 0, *texts)
    found = read(studio, job_id, 149)
    assert (lines(found), found["new_num_lines"]) == ([["line 149"]], [150])
    found = read(studio, job_id, 150)
    assert (lines(found), found["new_num_lines"]) == ([[]], [150])
    assert lines(read(studio, job_id, 75)) == [texts[75:]]


def test_lines_that_the_agent_left_out_are_told_as_missing(studio: Studio) -> None:
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    write(ref, 0, "one")
    write(ref, 10, "eleven")
    found = read(studio, job_id, 0)
    ((first, missing, last),) = lines(found)
    assert (first, last, found["new_num_lines"]) == ("one", "eleven", [11])
    assert "9 lines are left out" in missing


def test_the_whole_log_is_told_when_the_attempt_has_ended(studio: Studio) -> None:
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    write(ref, 5, "five")
    store(ref, "ä 0\n1\n\n3\n4\nfive\n".encode())
    finish(ref, Outcome.FAILED)
    found = read(studio, job_id)
    assert lines(found) == [["ä 0", "1", "", "3", "4", "five"]]
    assert found["new_num_lines"] == [6]
    assert (found["task_status"], found["status_description"]) == ("failed", "it broke")
    assert lines(read(studio, job_id, 4)) == [["4", "five"]]


def test_of_an_attempt_that_vanished_what_it_had_sent_is_told(studio: Studio) -> None:
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    write(ref, 0, "the last words")
    finish(ref, Outcome.FAILED)
    assert lines(read(studio, job_id)) == [["the last words"]]


def test_each_attempt_has_a_container_of_its_own(studio: Studio) -> None:
    job_id = submit(studio, 1)
    first = start(studio, job_id, 0)
    store(first, b"a\nb\n")
    finish(first, Outcome.FAILED)
    studio.put("/tasks_multi", {"action": "retry", "jobid": job_id, "taskids": ["000"]})
    second = start(studio, job_id, 0, number=2)
    write(second, 0, "c")
    found = read(studio, job_id, 1)
    assert (lines(found), found["new_num_lines"]) == ([["b"], ["c"]], [2, 1])
    assert [each["container_id"][-1] for each in found["logs"]] == ["1", "2"]
    found = read(studio, job_id, 2, 1)
    assert (lines(found), found["new_num_lines"]) == ([[], []], [2, 1])


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
def test_a_long_log_is_told_in_several_answers(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(logs, "MAX_ANSWER_BYTES", 40)
    monkeypatch.setattr(logs, "_CHUNK_BYTES", chunk_bytes)
    job_id = submit(studio, 1)
    ref = start(studio, job_id, 0)
    texts = [f"line {n}" for n in range(12)]
    store(ref, "\n".join(texts).encode())
    finish(ref, Outcome.SUCCESS)
    seen: list[str] = []
    while len(seen) < len(texts):
        found = read(studio, job_id, len(seen))
        ((*told, last),) = lines(found)
        count = found["new_num_lines"][0] - len(seen)
        assert count > 0
        assert [*told, last][count:] == (
            []
            if len(seen) + count == len(texts)
            else [f"... more follows: ask again from line {len(seen) + count}"]
        )
        seen += [*told, last][:count]
    assert seen == texts


def test_ids_may_come_without_their_zeros(studio: Studio) -> None:
    job_id = submit(studio, 1)
    assert read(studio, str(int(job_id)), task="0")["logs"] == []


@pytest.mark.parametrize("query", ["job=99999&task=000", "job=x&task=0", "job=../1&task=000"])
def test_an_unknown_job_is_not_found(studio: Studio, query: str) -> None:
    assert studio.get(f"/get_log_file?{query}&num_lines[]=0").status_code == 404


def test_an_unknown_task_is_not_found(studio: Studio) -> None:
    job_id = submit(studio, 1)
    for task in ("001", "x", "9" * 2000):
        assert studio.get(f"/get_log_file?job={job_id}&task={task}").status_code == 404


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("task=000", "job"),
        ("job=00001", "task"),
        ("job=00001&task=000&num_lines[]=-1", "num_lines[]"),
        ("job=00001&task=000&num_lines[]=many", "num_lines[]"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(
    studio: Studio, query: str, name: str
) -> None:
    reply = studio.get(f"/get_log_file?{query}")
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, [name])
