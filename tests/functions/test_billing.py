"""The function `billing`: days summed from the ledger, and the audit of the books."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared import wiring
from shared.models.job import JobRef
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
    for path in ("/rollup", "/audit"):
        assert call(farm, path, "").status_code == 403
        assert call(farm, path, "wrong").status_code == 403
        assert call(farm, f"{path}?token={wiring.push_token()}", "").status_code == 403
    for query in ("", "?token=", "?token=wrong"):
        assert web.post(f"/projects/{PROJECT}/topics/meter{query}", json={}).status_code == 403
    assert web.get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(
    "wrong", [{"account_id": 7}, {"account_id": None}, {"date": 20260302}, {"date": None}]
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
    assert day(farm, today()) == {
        "date": today(),
        "attempt_count": 4,
        "billed_minutes": 6,
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


def test_a_day_on_which_nothing_ran_comes_to_nothing(farm: Farm) -> None:
    assert farm.push("meter", date="2026-03-02") == 204
    assert day(farm, "2026-03-02") == {
        "date": "2026-03-02",
        "attempt_count": 0,
        "billed_minutes": 0,
        "cost_micros": 0,
        "wasted_minutes": 0,
        "wasted_micros": 0,
        "micros_by_project": {},
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


def test_an_account_sees_its_own_entries_only(new_farm: Callable[[], Farm]) -> None:
    mine, theirs = new_farm(), new_farm()
    theirs.run(theirs.submit())
    mine.push("meter", date=today())
    assert day(mine, today())["attempt_count"] == 0


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
