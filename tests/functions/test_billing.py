"""The function `billing`: days summed from the ledger, reports of them, storage, and the audit of the books."""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.firestore import DELETE_FIELD
from werkzeug.test import TestResponse

from shared import wiring
from shared.models.account import Period, Principal, Role, User
from shared.models.job import AttemptRef, JobRef
from shared.services.budgets import set_budget
from shared.services.reconcile import reconcile
from tests.services.farm import Farm, farm_fixture, new_farm_fixture
from tests.services.rig import PROJECT, rig_fixture

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture"]


def call(farm: Farm, path: str, token: str | None = None) -> TestResponse:
    """Call the function as the scheduler does."""
    headers = {"X-Baton-Token": wiring.push_token() if token is None else token}
    return farm.apps["billing"].test_client().post(path, headers=headers)


def day(farm: Farm, date: str) -> dict[str, Any]:
    """Return the stored sums of a day, but for when they were drawn."""
    found = wiring.firestore_client().document(f"accounts/{farm.account_id}/days/{date}").get()
    return {name: each for name, each in (found.to_dict() or {}).items() if name != "metered_at"}


def today() -> str:
    return wiring.now().date().isoformat()


def yesterday() -> str:
    return (wiring.now() - timedelta(days=1)).date().isoformat()


def move_entry(farm: Farm, ref: JobRef, attempt: str, date: str) -> None:
    """Have an attempt ended on another day."""
    path = f"accounts/{farm.account_id}/ledger/{ref.job_id}-{attempt}"
    wiring.firestore_client().document(path).update({"date": date})


# Who may call


def test_only_those_with_the_shared_token_may_call(farm: Farm) -> None:
    web = farm.apps["billing"].test_client()
    for path in ("/rollup", "/measure", "/audit"):
        assert call(farm, path, "").status_code == 403
        assert call(farm, path, "wrong").status_code == 403
        assert call(farm, f"{path}?token={wiring.push_token()}", "").status_code == 403
    for query in ("", "?token=", "?token=wrong"):
        assert web.post(f"/projects/{PROJECT}/topics/meter{query}", json={}).status_code == 403
    assert web.get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"account_id": 7},
        {"account_id": None},
        {"account_id": "a/b"},
        {"date": 20260302},
        {"date": None},
    ],
)
def test_a_malformed_message_is_logged_and_acknowledged(
    farm: Farm, caplog: pytest.LogCaptureFixture, wrong: dict[str, object]
) -> None:
    data = {"account_id": farm.account_id, "date": "2026-03-02"} | wrong
    with caplog.at_level(logging.ERROR, logger="baton"):
        assert farm.push_data("meter", json.dumps(data).encode()) == 204
    (said,) = [json.loads(each.message) for each in caplog.records if each.levelname == "ERROR"]
    assert (said["event"], said["code"]) == ("message dropped", "InvalidRequest")


@pytest.mark.parametrize("date", ["", "yesterday", "2026-3-2", ".."])
def test_a_date_that_is_none_is_acknowledged_and_stores_nothing(farm: Farm, date: str) -> None:
    before = farm.state()
    assert farm.push("meter", date=date) == 204
    assert farm.state() == before


# Sums


def test_a_day_is_summed_with_what_came_to_nothing_apart(farm: Farm) -> None:
    otter = farm.submit(3, preempted_retries=1)
    agent = farm.agent(otter)
    agent.claim()
    farm.backdate(otter, started=130, alive=10)
    agent.finish("preempted")
    farm.push("admit")
    farm.run(otter, number=2)
    farm.run(otter, "001", outcome="failed")
    seal = farm.submit(project="seal", price_micros_per_minute=7)
    farm.run(seal)
    assert farm.push("meter", date=today()) == 204
    found = day(farm, today())
    assert sum(hour["cost_micros"] for hour in found.pop("hours").values()) == 5 * 1500 + 7
    assert found == {
        "date": today(),
        "attempt_count": 4,
        "billed_minutes": 6,
        "core_minutes": 6,
        "cost_micros": 5 * 1500 + 7,
        "wasted_minutes": 4,
        "wasted_micros": 4 * 1500,
        "micros_by_project": {"otter": 5 * 1500, "seal": 7},
    }


def test_a_day_that_is_summed_again_is_the_same_and_follows_the_ledger(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref)
    for _ in range(2):
        assert farm.push("meter", date=today()) == 204
        assert day(farm, today())["cost_micros"] == 1500
    farm.run(ref, "001")
    assert farm.push("meter", date=today()) == 204
    assert day(farm, today())["cost_micros"] == 3000


def test_an_entry_of_an_earlier_hour_that_comes_late_is_summed(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref)
    assert farm.push("meter", date=today()) == 204
    farm.run(ref, "001")
    path = f"accounts/{farm.account_id}/ledger/{ref.job_id}-001-1"
    wiring.firestore_client().document(path).update({"hour": "00"})
    assert farm.push("meter", date=today()) == 204
    hours = day(farm, today())["hours"]
    assert hours["00"]["attempt_count"] == (2 if f"{wiring.now():%H}" == "00" else 1)
    assert sum(each["cost_micros"] for each in hours.values()) == 3000


def test_a_project_that_runs_later_in_the_day_is_summed(farm: Farm) -> None:
    farm.run(farm.submit())
    assert farm.push("meter", date=today()) == 204
    farm.run(farm.submit(project="seal"))
    farm.run(farm.submit(project="übung `x`"))
    assert farm.push("meter", date=today()) == 204
    assert day(farm, today())["micros_by_project"] == {
        "otter": 1500,
        "seal": 1500,
        "übung `x`": 1500,
    }


def test_a_day_without_news_is_not_written_again(farm: Farm) -> None:
    farm.run(farm.submit())
    document = wiring.firestore_client().document(f"accounts/{farm.account_id}/days/{today()}")
    assert farm.push("meter", date=today()) == 204
    written = document.get().update_time
    assert farm.push("meter", date=today()) == 204
    assert document.get().update_time == written


def test_a_day_on_which_nothing_ran_comes_to_nothing(farm: Farm) -> None:
    assert farm.push("meter", date="2026-03-02") == 204
    assert day(farm, "2026-03-02") == {
        "date": "2026-03-02",
        "attempt_count": 0,
        "billed_minutes": 0,
        "core_minutes": 0,
        "cost_micros": 0,
        "wasted_minutes": 0,
        "wasted_micros": 0,
        "micros_by_project": {},
        "hours": {},
    }


def test_the_end_of_a_job_has_the_day_summed(farm: Farm) -> None:
    ref = farm.submit()
    farm.run(ref)
    farm.deliver()
    assert day(farm, today())["cost_micros"] == farm.job(ref).cost_micros == 1500


def test_the_schedule_sums_today_and_yesterday_of_every_account(
    new_farm: Callable[[], Farm],
) -> None:
    farms = [new_farm(), new_farm()]
    for farm in farms:
        ref = farm.submit(3)
        for task_id in ("000", "001", "002"):
            farm.run(ref, task_id)
        move_entry(farm, ref, "000-1", yesterday())
    assert call(farms[0], "/rollup").json == {"account_count": 2}
    for farm in farms:
        assert day(farm, today())["cost_micros"] == 3000
        assert day(farm, yesterday())["cost_micros"] == 1500


def test_what_is_settled_days_after_its_end_is_in_the_usage_of_its_day(farm: Farm) -> None:
    ref = farm.submit()
    assert farm.agent(ref).claim().status_code == 200
    farm.backdate(ref, started=3 * 86_400 + 570, alive=3 * 86_400)
    farm.scheduler.cancel(AttemptRef(*ref, "000", 1).attempt_id)
    ended_on = (wiring.now() - timedelta(days=3)).date().isoformat()
    assert reconcile(farm.placements(), farm.scheduler, farm.ports) == 1
    farm.deliver("meter")
    assert call(farm, "/rollup").status_code == 200
    assert [row["minutes"] for row in usage(farm, ended_on, today())] == [10]


def test_an_account_whose_books_cannot_be_summed_keeps_no_other_from_its_sums(
    farm: Farm, new_farm: Callable[[], Farm], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sorted((farm, new_farm()), key=lambda each: each.account_id)
    for each in (first, second):
        each.run(each.submit())
    spoilt = f"accounts/{first.account_id}/ledger/00001-000-1"
    wiring.firestore_client().document(spoilt).update({"hour": DELETE_FIELD})
    try:
        with caplog.at_level(logging.ERROR, logger="baton"):
            assert call(farm, "/rollup").status_code == 200
        assert first.account_id in caplog.text
    finally:
        wiring.firestore_client().document(spoilt).delete()
    assert day(second, today())["cost_micros"] == 1500


def test_an_account_sees_its_own_entries_only(new_farm: Callable[[], Farm]) -> None:
    mine, theirs = new_farm(), new_farm()
    theirs.run(theirs.submit())
    mine.push("meter", date=today())
    assert day(mine, today())["attempt_count"] == 0


# Reports


def ask(
    farm: Farm, path: str, query: Mapping[str, str] | None = None, role: Role = Role.OWNER
) -> TestResponse:
    """Ask as somebody of this role."""
    user = User(user_id=f"kai-{role.value}", email="kai@otter.example", role=role)
    wiring.account_store().save_user(farm.account_id, user)
    who = Principal(account_id=farm.account_id, user_id=user.user_id, role=role)
    token = wiring.tokens().issue_client(who, "localhost", wiring.now(), timedelta(hours=1))
    headers = {"Authorization": f"Bearer {token}"}
    web = farm.apps["billing"].test_client()
    return web.get(f"/billing/{path}", headers=headers, query_string=query)


def usage(farm: Farm, first: str, end: str) -> list[dict[str, Any]]:
    """Ask as the clients do."""
    terms = [
        {"field": "start_time", "op": ">=", "value": first},
        {"field": "start_time", "op": "<", "value": end},
    ]
    grouped = {"group_by": json.dumps(["start_time"]), "order_by": "start_time"}
    reply = ask(farm, "get_usage", grouped | {"filter": json.dumps(terms)})
    assert reply.status_code == 200, reply.text
    assert reply.json is not None
    rows: list[dict[str, Any]] = reply.json["data"]
    return rows


def storage(farm: Farm, first: str, end: str) -> dict[str, Any]:
    reply = ask(farm, "get_storage_usage", {"start": first, "end": end})
    assert reply.status_code == 200, reply.text
    assert reply.json is not None
    (row,) = reply.json["data"]
    return dict(row)


def tomorrow() -> str:
    return (wiring.now() + timedelta(days=1)).date().isoformat()


def store_day(farm: Farm, date: str, **fields: object) -> None:
    """Have a day drawn already."""
    path = f"accounts/{farm.account_id}/days/{date}"
    wiring.firestore_client().document(path).set(fields)


def hour(minutes: int) -> dict[str, int]:
    return {
        "attempt_count": 1,
        "billed_minutes": minutes,
        "core_minutes": 4 * minutes,
        "cost_micros": 1500 * minutes,
    }


def test_what_ran_is_told_by_the_hour_it_ended_in(farm: Farm) -> None:
    ref = farm.submit(2, cores=4)
    farm.run(ref)
    farm.run(ref, "001", outcome="failed")
    farm.push("meter", date=today())
    rows = usage(farm, today(), tomorrow())
    assert sum(row["minutes"] for row in rows) == 2
    assert sum(row["instance_cost"] for row in rows) == pytest.approx(0.003)
    assert sum(row["cores"] for row in rows) == pytest.approx(8 / 60, abs=1e-3)
    assert {row["license_cost"] for row in rows} == {0.0}
    for row in rows:
        at = datetime.strptime(row["start_time"], "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC)
        assert timedelta() <= wiring.now() - at < timedelta(hours=2)


def test_hours_are_in_order_and_of_the_period_alone(farm: Farm) -> None:
    store_day(farm, "2026-03-01", hours={"23": hour(1)})
    store_day(farm, "2026-03-02", hours={"18": hour(3), "05": hour(2)})
    store_day(farm, "2026-03-03", hours={"00": hour(4)})
    rows = usage(farm, "2026-03-02", "2026-03-03")
    assert [row["minutes"] for row in rows] == [2, 3]
    assert rows[1] == {
        "self_link": 1,
        "start_time": "Mon, 02 Mar 2026 18:00:00 GMT",
        "minutes": 3,
        "cores": 0.2,
        "instance_cost": 0.0045,
        "license_cost": 0.0,
    }
    found = usage(farm, "2026-03-01T23:00:00Z", "2026-03-02T06:00:00+01:00")
    assert [row["minutes"] for row in found] == [1]


def test_a_period_in_which_nothing_ran_is_one_row_of_zeros(farm: Farm) -> None:
    rows = usage(farm, "2026-03-02", "2026-03-09")
    assert [(row["start_time"], row["minutes"], row["cores"]) for row in rows] == [
        ("Mon, 02 Mar 2026 00:00:00 GMT", 0, 0)
    ]
    assert len(usage(farm, "2026-03-09", "2026-03-02")) == 1
    unsaid = ask(farm, "get_usage").json
    assert unsaid is not None and len(unsaid["data"]) == 1


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"filter": "yesterday"}, "filter"),
        ({"filter": "{}"}, "filter"),
        ({"filter": "[1]"}, "filter.0"),
        ({"filter": '[{"field": "project", "op": "==", "value": "a"}]'}, "filter.0.field"),
        ({"filter": '[{"field": "start_time", "op": "~", "value": "2026-01-01"}]'}, "filter.0.op"),
        ({"filter": '[{"field": "start_time", "op": [], "value": "2026-01-01"}]'}, "filter.0.op"),
        ({"filter": '[{"field": "start_time", "op": "<", "value": "soon"}]'}, "filter.0.value"),
        ({"filter": '[{"field": "start_time", "op": "<", "value": null}]'}, "filter.0.value"),
        (
            {"filter": '[{"field": "start_time", "op": "<", "value": "0001-01-01"}]'},
            "filter.0.value",
        ),
        ({"filter": '[{"field": "start_time", "op": ">=", "value": "2020-01-01"}]'}, "filter"),
        ({"group_by": '["owner"]'}, "group_by"),
        ({"order_by": "cost"}, "order_by"),
    ],
)
def test_usage_that_cannot_be_told_is_refused_by_name(
    farm: Farm, query: dict[str, str], name: str
) -> None:
    reply = ask(farm, "get_usage", query)
    assert reply.status_code == 422
    assert reply.json is not None
    assert list(reply.json["error"]["fields"]) == [name]


@pytest.mark.parametrize(
    ("first", "end", "name"),
    [
        ("", "2026-03-02", "start"),
        ("2026-03-02", "2026-02-30", "end"),
        ("2026-03-02", "2026-03-02", "end"),
        ("2026-03-02", "2027-09-02", "end"),
    ],
)
def test_storage_of_days_that_are_none_is_refused_by_name(
    farm: Farm, first: str, end: str, name: str
) -> None:
    reply = ask(farm, "get_storage_usage", {"start": first, "end": end})
    assert reply.status_code == 422
    assert reply.json is not None
    assert list(reply.json["error"]["fields"]) == [name]


def test_only_owners_and_administrators_read_the_bills(farm: Farm) -> None:
    period = {"start": today(), "end": tomorrow()}
    for path in ("get_usage", "get_storage_usage", "get_budgets"):
        assert ask(farm, path, period, Role.USER).status_code == 403
        assert ask(farm, path, period, Role.ADMINISTRATOR).status_code == 200
        assert farm.apps["billing"].test_client().get(f"/billing/{path}").status_code == 401


def test_an_account_reads_its_own_bills_only(new_farm: Callable[[], Farm]) -> None:
    mine, theirs = new_farm(), new_farm()
    store_day(theirs, "2026-03-02", hours={"05": hour(2)})
    assert [row["minutes"] for row in usage(mine, "2026-03-02", "2026-03-03")] == [0]
    set_budget(
        theirs.account_id,
        project="",
        dollars="5",
        period=Period.TOTAL,
        accounts=mine.ports.accounts,
    )
    assert ask(mine, "get_budgets").json == {"data": []}


# Storage


def test_what_an_account_stores_is_measured_and_told_by_the_day(
    new_farm: Callable[[], Farm],
) -> None:
    farm, other = new_farm(), new_farm()
    for name, size in (("blobs/a", 3000), ("outputs/00001/000/1/files/b", 500)):
        farm.ports.blobs.write(f"accounts/{farm.account_id}/{name}", b"x" * size, "text/plain")
    farm.ports.blobs.write(f"accounts/{farm.account_id}-2/blobs/a", b"x" * 70, "text/plain")
    assert call(farm, "/measure").json == {"account_count": 2}
    farm.deliver("measure")
    other.deliver("measure")
    found = storage(farm, yesterday(), tomorrow())
    assert (found["start_date"], found["end_date"]) == (yesterday(), tomorrow())
    assert found["gibs_per_day"] == [0, round(3500 / 1024**3, 6)]
    assert (found["currency"], found["storage_unit"]) == ("USD", "GiB")
    assert storage(other, today(), tomorrow())["gibs_per_day"] == [0]
    measured = day(farm, today())["storage"]
    assert [each["size_bytes"] for each in measured.values()] == [3500]


def test_a_days_storage_is_the_average_of_its_measurements_at_their_prices(farm: Farm) -> None:
    gib = 1024**3
    both = {
        "am": {"size_bytes": 100 * gib, "micros_per_gib_month": 31_000},
        "pm": {"size_bytes": 300 * gib, "micros_per_gib_month": 62_000},
    }
    store_day(farm, "2026-03-02", storage=both)
    found = storage(farm, "2026-03-01", "2026-03-04")
    assert found["gibs_per_day"] == [0, 200, 0]
    assert found["cost_per_day"] == [0, (100 * 31_000 + 300 * 62_000) / 2 / 31 / 1e6, 0]
    assert float(found["cost"]) == pytest.approx(sum(found["cost_per_day"]))
    assert float(found["monthly_price"]) == pytest.approx(
        31 * float(found["daily_price"]), abs=1e-4
    )


def test_a_day_keeps_its_storage_when_it_is_summed_and_its_sums_when_it_is_measured(
    farm: Farm,
) -> None:
    farm.push("measure")
    farm.run(farm.submit())
    farm.push("meter", date=today())
    farm.push("measure")
    found = day(farm, today())
    assert (found["cost_micros"], len(found["storage"])) == (1500, 1)


def test_a_measurement_of_nobody_is_acknowledged_and_stores_nothing(farm: Farm) -> None:
    before = farm.state()
    for data in (b'{"account_id": "a-nobody"}', b'{"account_id": 7}', b"{}"):
        assert farm.push_data("measure", data) == 204
    assert farm.state() == before


# The audit


def broken(farm: Farm) -> list[str]:
    answer = call(farm, "/audit")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    found: list[str] = answer.json["broken"]
    return found


def test_the_audit_is_silent_on_good_books(new_farm: Callable[[], Farm]) -> None:
    for farm in (new_farm(), new_farm()):
        farm.limit(1)
        ref = farm.submit(3)
        farm.run(ref)
        farm.deliver()
    assert broken(farm) == []


def test_the_audit_tells_and_logs_what_is_broken(
    new_farm: Callable[[], Farm], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = new_farm(), new_farm()
    for farm in (good, bad):
        ref = farm.submit(2)
        farm.run(ref)
        farm.deliver()
    bad.document(ref, "pages", "0").update({"counts.pending": 9})
    found = broken(good)
    assert found
    assert all(each.startswith(f"account {bad.account_id}: job {ref.job_id}: ") for each in found)
    logged = [json.loads(each.message) for each in caplog.records if each.levelname == "ERROR"]
    assert [each["finding"] for each in logged] == found


def test_the_audit_of_a_farm_in_the_middle_of_a_submission_answers(farm: Farm) -> None:
    farm.create(3)
    farm.ports.admission.activate(JobRef(farm.account_id, "00099"))
    assert call(farm, "/audit").status_code == 200


def test_an_account_that_is_gone_keeps_no_other_from_its_sums_and_audit(farm: Farm) -> None:
    farm.run(farm.submit())
    farm.deliver()
    farm.push_data("admit", b'{"account_id": "a-nobody"}')
    farm.push_data("meter", b'{"account_id": "a-nobody", "date": "2026-03-02"}')
    assert call(farm, "/rollup").status_code == 200
    assert broken(farm) == []
    assert day(farm, today())["cost_micros"] == 1500
