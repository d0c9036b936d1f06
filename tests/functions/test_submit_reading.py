"""Lists of jobs and tasks: what filters find, pages, and who sees what."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared import wiring
from shared.models.account import Project, Role, User
from shared.models.job import Command, JobRef
from shared.models.task import Outcome
from shared.services import reading
from shared.services.control import order
from shared.services.settle import settle
from shared.stores import jobs as job_store
from tests.functions.conftest import Studio
from tests.functions.frames import finish, render, start, submit


def page(studio: Studio, query: str) -> tuple[list[dict[str, Any]], str | None]:
    reply = studio.get(f"/api/v1/{query}")
    assert reply.status_code == 200, reply.text
    assert set(reply.json) == {"data", "next_cursor"}
    return reply.json["data"], reply.json["next_cursor"]


def jobs(studio: Studio, query: str = "") -> list[int]:
    return [int(each["jid"]) for each in page(studio, f"jobs?{query}")[0]]


def tasks(studio: Studio, query: str) -> list[str]:
    return [each["tid"] for each in page(studio, f"tasks?{query}")[0]]


def every(studio: Studio, query: str, name: str) -> tuple[list[str], int]:
    """Follow the cursor to its end; returns what was listed, and in how many calls."""
    found: list[str] = []
    cursor: str | None = ""
    calls = 0
    while cursor is not None:
        data, cursor = page(studio, f"{query}&start_cursor={cursor}")
        found += [each[name] for each in data]
        calls += 1
    return found, calls


@pytest.fixture
def shows(studio: Studio) -> Studio:
    """Jobs 1 to 5: 3 and 4 of the project seal, 2 killed, 4 of Kai, 5 with a strange title."""
    wiring.account_store().save_project(studio.account_id, Project(name="seal"))
    submit(studio, 1)
    killed = submit(studio, 1, location="lisbon")
    submit(studio, 1, project="seal", priority=7)
    submit(studio, 1, project="seal", owner="kai")
    submit(studio, 1, job_title="sh_040, v2", preemptible=False)
    order(JobRef(studio.account_id, killed), Command.KILL, wiring.ports())
    return studio


# Jobs


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("jid_gt_00001,jid_lt_00004", [2, 3]),
        ("jid_gt_-0001,jid_lt_00001", []),
        ("jid_eq_3", [3]),
        ("jid_in_1|00003|9", [1, 3]),
        ("jid_gte_2,jid_lte_3", [2, 3]),
        ("jid_gt_4,jid_lt_2", []),
        ("status_eq_killed", [2]),
        ("status_ne_killed,jid_lt_4", [1, 3]),
        ("status_in_killed|failed", [2]),
        ("project_eq_seal", [3, 4]),
        ("project_eq_seal,owner_eq_kai", [4]),
        ("owner_in_kai|nobody", [4]),
        (r"title_eq_sh_040\, v2", [5]),
        ("location_eq_lisbon", [2]),
        ("preemptible_eq_false", [5]),
        ("priority_gt_5", [3]),
        ("ended_at_gt_2020-01-01", []),
    ],
)
def test_a_filter_finds_what_fulfils_all_its_terms(
    shows: Studio, wanted: str, found: list[int]
) -> None:
    reply = shows.get("/api/v1/jobs", query_string={"filter": wanted})
    assert [int(each["jid"]) for each in reply.json["data"]] == found


def test_jobs_are_found_by_when_they_were_created(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = wiring.now()
    for number in range(5):
        job_id = submit(studio, 1)
        path = f"accounts/{studio.account_id}/jobs/{job_id}"
        at = now - timedelta(days=4 - number)
        wiring.firestore_client().document(path).update({"created_at": at})
    third = (now - timedelta(days=2)).isoformat().replace("+00:00", "Z")

    def found(*terms: str) -> list[int]:
        reply = studio.get("/api/v1/jobs", query_string={"filter": ",".join(terms)})
        return [int(each["jid"]) for each in reply.json["data"]]

    assert found(f"created_at_lt_{third}") == [1, 2]
    assert found(f"created_at_lte_{third}") == [1, 2, 3]
    assert found(f"created_at_gt_{third}") == [4, 5]
    assert found(f"created_at_gte_{third}", "jid_lt_5") == [3, 4]
    assert found(f"created_at_eq_{third}") == [3]
    assert found("created_at_lt_2020-01-01") == []
    assert found("created_at_gt_2200-01-01") == []


def test_a_list_goes_on_with_its_cursor_until_that_is_null(shows: Studio) -> None:
    assert every(shows, "jobs?limit=2", "jid") == (
        ["00001", "00002", "00003", "00004", "00005"],
        3,
    )
    assert every(shows, "jobs?limit=1&filter=project_eq_seal", "jid")[0] == ["00003", "00004"]


def test_nothing_is_hidden_behind_many_that_do_not_fit(
    shows: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LOOKED_AT", 2)
    monkeypatch.setattr(reading, "MAX_LISTED", 1)
    monkeypatch.setattr(job_store, "MOST_JOBS", 1)
    found, calls = every(shows, "jobs?limit=1&filter=preemptible_eq_false", "jid")
    assert (found, calls > 1) == (["00005"], True)


def test_only_the_fields_asked_for_are_told(shows: Studio) -> None:
    data, _ = page(shows, "jobs?filter=jid_eq_2&fields=status, location,status")
    assert data == [{"status": "killed", "location": "lisbon"}]
    (whole,), _ = page(shows, "jobs?filter=jid_eq_1")
    assert {"title", "project", "cost", "counts", "metadata", "created_at"} < set(whole)


def test_a_plain_user_finds_jobs_of_their_own_projects_only(shows: Studio) -> None:
    user = User(user_id="kai", email="kai@x.example", role=Role.USER, projects=("seal",))
    wiring.account_store().save_user(shows.account_id, user)
    shows.user_id = "kai"
    shows.sign_in(Role.USER)
    assert jobs(shows) == [3, 4]
    assert jobs(shows, "filter=jid_eq_1") == jobs(shows, "filter=project_eq_otter") == []
    assert shows.get("/api/v1/tasks?filter=jid_eq_1").status_code == 404
    assert shows.get("/get_log_file?job=1&task=0").status_code == 404


@pytest.mark.parametrize("path", ["jobs?", "tasks?", "tasks?filter=jid_eq_1&"])
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("filter=shape_eq_round", "filter"),
        ("filter=status_eq_happy", "filter"),
        ("fields=jid,secrets", "fields"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("start_cursor=-1", "start_cursor"),
        ("start_cursor=x", "start_cursor"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    studio: Studio, path: str, query: str, name: str
) -> None:
    if path.startswith("tasks?filter") and name == "filter":
        query = query.replace("filter=", "filter=jid_eq_1,")
        path = "tasks?"
    reply = studio.get(f"/api/v1/{path}{query}")
    assert reply.status_code == 422
    assert name in reply.json["error"]["fields"]


# Tasks


def test_tasks_are_told_with_how_and_where_they_ran(studio: Studio) -> None:
    job_id = submit(studio, 3, scout_frames="1")
    finish(start(studio, job_id, 1), Outcome.FAILED)
    settle(JobRef(studio.account_id, job_id), wiring.ports())
    first, second, third = page(studio, f"tasks?filter=jid_eq_{job_id}")[0]
    assert (first["status"], first["waiting_for"], first["instance"]) == ("holding", "scout", None)
    assert first["tid"] == "000"
    assert {name: second[name] for name in ("jid", "tid", "status", "attempt", "frames")} == {
        "jid": job_id,
        "tid": "001",
        "status": "failed",
        "attempt": 1,
        "frames": "1",
    }
    told = ("outcome", "exit_code", "reason", "instance", "minutes", "scout", "waiting_for")
    assert [second[name] for name in told] == ["failed", 1, "it broke", "i-1", 1, True, None]
    assert second["cost"] > 0
    assert second["started_at"] <= second["ended_at"]
    assert third["cost"] == third["minutes"] == 0


def test_a_running_task_is_told_as_it_is_now(studio: Studio) -> None:
    job_id = submit(studio, 1)
    start(studio, job_id, 0)
    (task,) = page(studio, f"tasks?filter=jid_eq_{job_id}")[0]
    assert (task["status"], task["ended_at"], task["outcome"]) == ("running", None, None)
    assert task["instance"] == "i-0"


def test_tasks_are_found_by_what_they_came_to(studio: Studio) -> None:
    job_id = submit(studio, 130)
    render(studio, job_id, 3, 101)
    finish(start(studio, job_id, 120), Outcome.FAILED)
    this = f"filter=jid_eq_{job_id}"
    assert tasks(studio, f"{this},status_eq_success") == ["003", "101"]
    assert tasks(studio, f"{this},status_in_success|failed,tid_gt_50") == ["101", "120"]
    assert tasks(studio, f"{this},exit_code_ne_0,status_ne_pending") == ["120"]
    assert tasks(studio, f"{this},instance_eq_i-101") == ["101"]
    assert tasks(studio, f"{this},tid_gte_98,tid_lt_102") == ["098", "099", "100", "101"]
    assert tasks(studio, f"{this},tid_gt_5000") == []
    assert tasks(studio, f"{this},scout_eq_true") == []


@pytest.mark.parametrize(("limit", "calls"), [(500, 1), (100, 2), (130, 1), (64, 3)])
def test_every_task_is_listed_once_whatever_the_page(
    studio: Studio, limit: int, calls: int
) -> None:
    job_id = submit(studio, 130)
    query = f"tasks?filter=jid_eq_{job_id}&fields=tid&limit={limit}"
    assert every(studio, query, "tid") == ([f"{n:03}" for n in range(130)], calls)


def test_a_page_of_tasks_ends_after_so_many_pages_looked_at(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGES_LOOKED_AT", 1)
    job_id = submit(studio, 230)
    render(studio, job_id, 229)
    query = f"tasks?filter=jid_eq_{job_id},status_eq_success"
    assert every(studio, query, "tid") == (["229"], 3)


@pytest.mark.parametrize(
    "wanted", ["", "status_eq_failed", "jid_gt_1", "jid_eq_1,jid_eq_2", "jid_eq_1,jid_lt_5"]
)
def test_tasks_of_anything_but_one_job_are_refused(studio: Studio, wanted: str) -> None:
    reply = studio.get(f"/api/v1/tasks?filter={wanted}")
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["filter"])


def test_nothing_is_told_of_another_accounts_jobs(
    studio: Studio, new_studio: Callable[[], Studio]
) -> None:
    stranger = new_studio()
    job_id = submit(studio, 1)
    assert jobs(stranger) == []
    for path in (f"api/v1/tasks?filter=jid_eq_{job_id}", f"get_log_file?job={job_id}&task=000"):
        assert stranger.get(f"/{path}").status_code == 404
        stranger_ = stranger.get(f"/{path.replace(job_id, '99999')}")
        assert stranger_.status_code == 404
