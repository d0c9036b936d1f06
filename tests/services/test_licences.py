"""Licences: an attempt that finds no seat free waits, and holds back nobody who needs none."""

from dataclasses import replace
from datetime import datetime

from google.cloud.firestore import DELETE_FIELD

from shared import wiring
from shared.models.job import JobRef
from shared.models.task import WaitingFor
from shared.services.licences import seats_in_use
from tests.services.farm import Farm, ago


def give(farm: Farm, *, since: datetime | None = None, **seats: int) -> None:
    """Let the account have so many seats of each product, and no number of any other."""
    accounts = farm.ports.accounts
    account = accounts.account(farm.account_id)
    accounts.save_account(replace(account, licences=seats, licences_set_at=since or wiring.now()))


def counts(farm: Farm, *refs: JobRef) -> list[int]:
    return [len(farm.placed(ref)) for ref in refs]


def test_no_more_attempts_start_than_there_are_seats(farm: Farm) -> None:
    give(farm, arnold=3)
    first, second = farm.submit(2, licences=("arnold",)), farm.submit(4, licences=("arnold",))
    assert counts(farm, first, second) == [2, 1]
    job = farm.job(second)
    assert (job.waiting_for, job.waiting_note) == (
        WaitingFor.LICENCE,
        "arnold: all 3 seats are taken",
    )
    for ref in (first, second):
        farm.push("settle", ref)
    assert farm.findings(first, second) == []


def test_a_job_that_waits_for_a_seat_holds_back_nobody_who_needs_none(farm: Farm) -> None:
    farm.limit(0)
    urgent = farm.submit(5, priority=9, licences=("arnold", "yeti"))
    modest = farm.submit(4, priority=2)
    farm.limit(6)
    give(farm, yeti=1)
    farm.push("admit")
    assert counts(farm, urgent, modest) == [1, 4]
    assert farm.job(urgent).waiting_note == "yeti: the only seat is taken"


def test_a_seat_that_is_free_again_is_taken_at_once(farm: Farm) -> None:
    give(farm, arnold=1)
    ref = farm.submit(2, licences=("arnold",))
    assert farm.placed(ref) == ["000-1"]
    farm.published()
    farm.run(ref)
    assert len(farm.published("admit")) == 1
    farm.push("admit")
    assert farm.placed(ref) == ["001-1"]
    assert farm.job(ref).waiting_for is WaitingFor.SCHEDULER


def test_more_seats_let_more_start_and_none_stops_for_fewer(farm: Farm) -> None:
    give(farm, arnold=2)
    ref = farm.submit(6, licences=("arnold",))
    give(farm, arnold=3)
    farm.push("admit")
    assert counts(farm, ref) == [3]
    give(farm, arnold=1)
    farm.push("admit")
    assert counts(farm, ref) == [3]
    give(farm)
    farm.push("admit")
    assert counts(farm, ref) == [6]


def test_the_audit_tells_seats_that_were_given_twice_from_seats_that_were_taken_away(
    farm: Farm,
) -> None:
    give(farm, arnold=3)
    ref = farm.submit(3, licences=("arnold",))
    farm.push("settle", ref)
    give(farm, arnold=2)
    assert farm.findings(ref) == []
    give(farm, since=ago(3600), arnold=2)
    assert farm.findings(ref) == ["4: 3 attempts in flight take arnold, there are 2 seats"]


def test_the_seats_that_are_taken_are_those_of_all_jobs(farm: Farm) -> None:
    give(farm, arnold=9, redshift=4)
    farm.submit(2, licences=("arnold",))
    farm.submit(3, licences=("arnold", "yeti"))
    found = {each.product: each.taken for each in seats_in_use(farm.account_id, farm.ports)}
    assert found == {"arnold": 5, "redshift": 0}


def test_a_job_from_before_there_were_licences_takes_none(farm: Farm) -> None:
    give(farm, arnold=1)
    ref = farm.create(2)
    farm.document(ref).update({"licences": DELETE_FIELD})
    farm.expand(ref)
    assert farm.job(ref).licences == ()
    assert counts(farm, ref) == [2]
