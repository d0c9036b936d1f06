"""Who may call what: every role, every route, as the one table says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import functions_framework
import pytest
from flask.testing import FlaskClient

from shared import wiring
from shared.core.permissions import ALLOWED, Action
from shared.models.account import Period, Project, Role, User
from shared.services.budgets import set_budget
from tests.core.farm import an_orchestrator
from tests.functions.conftest import ROOT, Studio
from tests.functions.everything import Call, Things, calls
from tests.functions.frames import render, submit


@pytest.fixture(scope="session")
def billing(cloud: Mapping[str, str]) -> FlaskClient:
    """The function that answers what was used."""
    create_app: Any = functions_framework.create_app
    made: FlaskClient = create_app("billing", str(ROOT / "main.py")).test_client()
    return made


@pytest.fixture
def things() -> Things:
    """Ids of nothing: whether somebody may is said before whether there is anything."""
    return Things(
        account_id="studio-of-nobody",
        project="otter",
        job_id="00777",
        waiting_job_id="00778",
        location="nowhere",
        multipart_id="0" * 32,
        content=b"these bytes are nobody's",
    )


def become(studio: Studio, role: Role, *projects: str) -> None:
    """Call as somebody else of the studio from now on."""
    studio.user_id = f"{role}-{'-'.join(projects)}"
    user = User(user_id=studio.user_id, email=f"{role}@otter.example", role=role, projects=projects)
    wiring.account_store().save_user(studio.account_id, user)
    studio.sign_in(role)


def send(call: Call, studio: Studio, billing: FlaskClient, headers: dict[str, str]) -> Any:
    web = billing if call.url.startswith("/billing/") else studio.web
    return web.open(call.url, method=call.key[0], headers=headers, data=call.data)


@pytest.mark.parametrize("role", Role)
def test_a_role_may_call_what_the_table_says_and_nothing_else(
    studio: Studio, things: Things, billing: FlaskClient, role: Role
) -> None:
    become(studio, role)
    for call in calls(things):
        reply = send(call, studio, billing, studio.headers)
        is_refused = (reply.status_code, "Forbidden" in reply.text) == (403, True)
        assert is_refused is (call.action not in ALLOWED[role]), f"{call}: {reply.text}"
        assert reply.status_code != 401, f"{call}: {reply.text}"


def test_without_a_token_nothing_but_the_open_routes_answers(
    studio: Studio, things: Things, billing: FlaskClient
) -> None:
    for call in calls(things):
        for headers in ({}, {"Authorization": "Bearer none"}):
            reply = send(call, studio, billing, headers)
            assert reply.status_code == 401, str(call)


def test_a_refusal_names_the_role_and_what_it_may_not(studio: Studio, billing: FlaskClient) -> None:
    become(studio, Role.USER)
    reply = billing.get("/billing/get_usage", headers=studio.headers)
    assert (reply.status_code, "users may not read billing" in reply.text) == (403, True)


@pytest.mark.parametrize("role", Role)
def test_administrators_see_all_projects_and_users_their_own(studio: Studio, role: Role) -> None:
    wiring.account_store().save_project(studio.account_id, Project(name="seal"))
    others, own = submit(studio), submit(studio, project="seal")
    render(studio, others, 0)
    become(studio, role, "seal")
    is_limited = role is Role.USER
    listed = [each["jid"] for each in studio.get("/api/v1/jobs").json["data"]]
    projects = [each["name"] for each in studio.get("/api/v1/projects/").json["data"]]
    assert sorted(listed) == ([own] if is_limited else [others, own])
    assert projects == (["seal"] if is_limited else ["otter", "seal"])
    replies = [
        studio.get(f"/api/v1/tasks?filter=jid_eq_{others}"),
        studio.get(f"/get_log_file?job={others}&task=000&num_lines[]=0"),
        studio.post(f"/jobs/{others}/downloads", {"tids": None}),
        studio.get(f"/downloads/{others}"),
        studio.post("/downloads/status", {"download_id": f"{others}-000-1", "status": "pending"}),
        studio.put("/tasks_multi", {"action": "kill", "jobid": others, "taskids": ["001"]}),
        studio.put("/jobs_multi", {"action": "hold", "jobids": [others]}),
        studio.put("/jobs_multi", {"action": "edit", "jobids": [others], "changes": {"priority": 2}}),
    ]  # fmt: skip
    statuses = [reply.status_code for reply in replies]
    assert statuses == [404] * 8 if is_limited else all(status < 300 for status in statuses)


@pytest.fixture
def home(studio: Studio) -> Iterator[None]:
    """A place where jobs may go, as long as the test runs; nobody answers there."""
    orchestrator = an_orchestrator(orchestrator_id=f"home-{studio.account_id}")
    store = wiring.orchestrator_store()
    store.save_orchestrator(orchestrator)
    yield
    store.save_orchestrator(replace(orchestrator, is_enabled=False))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("role", Role)
def test_what_the_account_spends_is_told_to_those_who_read_its_bills_and_to_nobody_else(
    studio: Studio, billing: FlaskClient, role: Role
) -> None:
    accounts, today = wiring.account_store(), wiring.now().date()
    for project, dollars in (("", "3.21"), ("otter", "7.89")):
        set_budget(
            studio.account_id,
            project=project,
            dollars=dollars,
            period=Period.TOTAL if project else Period.MONTH,
            accounts=accounts,
        )
    path = f"accounts/{studio.account_id}/ledger/of-another-project"
    entry = {"project": "seal", "date": today.isoformat(), "cost_micros": 3_210_000}
    wiring.firestore_client().document(path).set(entry)
    submit(studio)
    become(studio, role, "otter")
    (job,) = studio.get("/api/v1/jobs").json["data"]
    renewed_on = (today.replace(day=1) + timedelta(days=31)).replace(day=1).isoformat()
    assert (job["waiting_for"], job["waiting_note"]) == (
        "budget",
        f"the account's budget has no room for another attempt; it renews on {renewed_on} (UTC)",
    )
    reply = billing.get("/billing/get_budgets", headers=studio.headers)
    if role is Role.USER:
        assert reply.status_code == 403
        return
    own = {"project": None, "period": "month", "renews_on": renewed_on, "limit_micros": 3_210_000}
    otter = {"project": "otter", "period": "total", "renews_on": None, "limit_micros": 7_890_000}
    assert reply.json == {
        "data": [
            own | {"spent_micros": 3_210_000, "under_way_micros": 0},
            otter | {"spent_micros": 0, "under_way_micros": 0},
        ]
    }


def test_only_administrators_and_owners_manage() -> None:
    managing = {action for action in Action if action.startswith("manage")}
    assert not ALLOWED[Role.USER] & (managing | {Action.READ_BILLING})
    assert {Action.MANAGE_USERS} == ALLOWED[Role.OWNER] - ALLOWED[Role.ADMINISTRATOR]


def test_a_role_that_was_taken_away_ends_with_the_token_still_good(
    new_studio: Callable[[], Studio], billing: FlaskClient
) -> None:
    studio = new_studio()
    become(studio, Role.OWNER)
    demoted = User(user_id=studio.user_id, email="x@otter.example", role=Role.USER)
    wiring.account_store().save_user(studio.account_id, demoted)
    assert billing.get("/billing/get_usage", headers=studio.headers).status_code == 403
