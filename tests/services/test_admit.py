"""Admission: who may start next within every limit, and that nobody waits without a reason."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared import wiring
from shared.core.placement import GIB, WEIGHTS
from shared.errors import Unreachable
from shared.models.farm import Node, Orchestrator, Placement
from shared.models.job import JobRef, Sync, SyncState
from shared.models.task import Page, WaitingFor
from shared.ports import Scheduler, SubmittedAttempt
from shared.services.admit import PLACED_TOGETHER, admit
from shared.stores.jobs import FirestoreJobStore
from tests.services.agent import ZONE
from tests.services.farm import Farm


def test_no_more_attempts_start_than_the_account_may_run(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(5)
    assert farm.placed(ref) == ["000-1", "001-1"]
    job = farm.job(ref)
    assert (job.waiting_for, job.waiting_note) == (
        WaitingFor.LIMIT,
        "the account runs 2 instances at most",
    )
    farm.push("settle", ref)
    assert farm.findings(ref) == []


def test_no_more_attempts_start_than_the_job_may_run(farm: Farm) -> None:
    narrow, wide = farm.submit(3, max_instances=1), farm.submit(3)
    assert farm.placed(narrow) == ["000-1"]
    assert len(farm.placed(wide)) == 3
    assert farm.job(narrow).waiting_note == "the job runs 1 instances at most"


def test_an_account_that_may_run_nothing_starts_nothing(farm: Farm) -> None:
    farm.limit(0)
    ref = farm.submit()
    assert farm.placed(ref) == []
    assert farm.job(ref).waiting_for is WaitingFor.LIMIT


def test_the_higher_priority_starts_first_and_then_the_older_job(farm: Farm) -> None:
    farm.limit(0)
    old, new, urgent = farm.submit(2), farm.submit(2), farm.submit(2, priority=9)
    farm.limit(5)
    farm.push("admit")
    assert [len(farm.placed(ref)) for ref in (urgent, old, new)] == [2, 2, 1]


def test_the_end_of_an_attempt_calls_for_a_round_only_if_somebody_waits(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    farm.published()
    farm.run(ref, "000")
    assert len(farm.published("admit")) == 1
    farm.push("admit")
    assert farm.placed(ref) == ["001-1", "002-1"]
    farm.run(ref, "001")
    farm.push("admit")
    assert farm.placed(ref) == ["002-1", "003-1"]
    farm.published()
    farm.run(ref, "002")
    farm.run(ref, "003")
    assert farm.published("admit") == []


def test_an_attempt_that_is_tried_again_calls_for_a_round(farm: Farm) -> None:
    ref = farm.submit(preempted_retries=1)
    farm.published()
    farm.run(ref, outcome="preempted")
    assert len(farm.published("admit")) == 1


def test_rounds_at_once_start_as_many_as_one(farm: Farm) -> None:
    farm.limit(0)
    first, second = farm.submit(30), farm.submit(30)
    farm.limit(37)
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: farm.push("admit"), range(12))) == {204}
    farm.deliver()
    assert (len(farm.placed(first)), len(farm.placed(second))) == (30, 7)
    for ref in (first, second):
        farm.push("settle", ref)
    assert farm.findings(first, second) == []


def test_a_round_that_is_held_up_starts_nothing_beside_the_one_that_comes_after(farm: Farm) -> None:
    farm.limit(0)
    refs = [farm.submit(2), farm.submit(2)]
    farm.limit(3)
    late = timedelta()

    def held_up(orchestrator: Orchestrator) -> Scheduler:
        """Answer the first call a minute later, when the next round has come and gone."""
        nonlocal late
        if not late:
            late = timedelta(seconds=61)
            admit(farm.account_id, farm.ports_in(seconds=61))
        return farm.ports.schedulers(orchestrator)

    ports = replace(farm.ports, now=lambda: wiring.now() + late, schedulers=held_up)
    farm.published()
    admit(farm.account_id, ports)
    assert [len(farm.placed(ref)) for ref in refs] == [2, 1]
    assert farm.published("admit") != []


def test_many_attempts_are_handed_over_in_parts(farm: Farm) -> None:
    farm.limit(0)
    count = 2 * PLACED_TOGETHER + 20
    ref = farm.submit(count)
    farm.limit(1000)
    farm.push("admit")
    assert len(farm.placed(ref)) == PLACED_TOGETHER  # the first part of a round goes at once
    parts = [message for topic, message in farm.published() if topic == "place"]
    assert [len(each["attempts"]) for each in parts] == [PLACED_TOGETHER, 20]
    assert [each["is_last"] for each in parts] == [False, True]
    for each in parts:
        farm.push("place", **each)
    assert len(farm.placed(ref)) == count


def test_only_jobs_whose_inputs_are_ready_start(farm: Farm) -> None:
    ref = farm.submit(sync=Sync(state=SyncState.SYNCING, total_count=1))
    assert farm.placed(ref) == []


def test_a_job_waits_until_a_zone_for_it_is_switched_on(farm: Farm) -> None:
    farm.save_orchestrator(zones={"z-a": False})
    ref = farm.submit()
    job = farm.job(ref)
    assert (job.waiting_for, job.orchestrator_id) == (WaitingFor.ZONE_OFF, "")
    assert farm.placed(ref) == []
    farm.save_orchestrator()
    farm.push("admit")
    assert farm.placed(ref) == ["000-1"]
    assert farm.job(ref).orchestrator_id == farm.account_id


def test_a_job_says_why_it_runs_where_it_runs(farm: Farm) -> None:
    farm.save_orchestrator(region="us-east4", price_percents={ZONE: 150})
    farm.limit(0)
    ref = farm.submit(input_bytes=2 * GIB, price_micros_per_minute=1000)
    farm.limit(1)
    admit(farm.account_id, replace(farm.ports, store_region="us-central1"))
    found = farm.job(ref).placement
    assert found["scores"][farm.account_id] == {
        "price": 1500 * WEIGHTS.expected_minutes,
        "data": 2 * WEIGHTS.transfer_micros_per_gib,
        "stock": 0,
    }
    assert found["weights"]["expected_minutes"] == WEIGHTS.expected_minutes


@dataclass
class EditedMeanwhile:
    """Orchestrators of which a job asks for another machine whenever they are listed."""

    farm: Farm
    ref: JobRef

    def orchestrators(self) -> list[Orchestrator]:
        self.farm.ports.jobs.change_job(self.ref, lambda job: replace(job, instance_type="abacus"))
        return self.farm.ports.orchestrators.orchestrators()


def test_a_job_that_is_edited_while_its_home_is_chosen_is_not_sent_where_it_cannot_run(
    farm: Farm,
) -> None:
    farm.limit(0)
    ref = farm.submit()
    farm.limit(1)
    edited: Any = EditedMeanwhile(farm, ref)
    admit(farm.account_id, replace(farm.ports, orchestrators=edited))
    assert (farm.job(ref).orchestrator_id, farm.placed(ref)) == ("", [])
    farm.ports.jobs.change_job(ref, lambda job: replace(job, instance_type=farm.instance_type))
    farm.push("admit")
    assert farm.job(ref).orchestrator_id == farm.account_id


def test_a_job_that_can_be_placed_nowhere_takes_nothing_from_those_that_can(farm: Farm) -> None:
    farm.limit(2)
    nowhere = farm.submit(4, instance_type="nobody-has-it", priority=9)
    ref = farm.submit(3)
    assert farm.placed(ref) == ["000-1", "001-1"]
    assert farm.job(nowhere).waiting_for is WaitingFor.ZONE_OFF
    farm.push("admit")
    assert farm.job(nowhere).waiting_for is WaitingFor.ZONE_OFF
    assert farm.job(ref).waiting_for is WaitingFor.LIMIT


def test_a_machine_type_that_nobody_offers_is_told(farm: Farm) -> None:
    ref = farm.submit(instance_type="abacus")
    job = farm.job(ref)
    assert (job.waiting_for, job.waiting_note) == (
        WaitingFor.ZONE_OFF,
        "no orchestrator offers abacus",
    )


def test_a_job_that_has_ended_leaves_the_list(farm: Farm) -> None:
    ref = farm.submit()
    farm.run(ref)
    farm.push("settle", ref)
    farm.ports.admission.activate(ref)
    farm.push("admit")
    assert farm.ports.admission.active_job_ids(farm.account_id) == []


@dataclass
class Unplugged:
    """A scheduler that goes away when it has been asked for something, and something else has happened."""

    meanwhile: Callable[[], None]

    def submit(self, attempt: SubmittedAttempt) -> None:
        self.meanwhile()
        raise Unreachable(attempt.ref.attempt_id)

    def cancel(self, attempt_id: str) -> None:
        raise Unreachable(attempt_id)

    def placements(self) -> list[Placement]:
        raise Unreachable("placements")

    def nodes(self) -> list[Node]:
        raise Unreachable("nodes")

    def joined_at(self, node_ids: Sequence[str]) -> Mapping[str, datetime]:
        raise Unreachable(str(node_ids))

    def set_eligible(self, node_id: str, is_eligible: bool) -> None:
        raise Unreachable(node_id)

    def forget(self, attempt_ids: Sequence[str]) -> None:
        raise Unreachable(str(attempt_ids))


def test_a_round_that_fails_leaves_the_next_one_free_even_if_somebody_asked_for_it(
    farm: Farm,
) -> None:
    farm.limit(0)
    ref = farm.submit(2)
    farm.limit(1)
    # Somebody else asks for a round; this one goes on, so they leave it to us.
    unplugged = Unplugged(lambda: admit(farm.account_id, farm.ports))
    admit(farm.account_id, replace(farm.ports, schedulers=lambda _: unplugged))
    farm.limit(2)
    assert farm.push("admit") == 204
    assert farm.placed(ref) == ["001-1"]
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "001-1"]


def test_a_round_that_takes_longer_than_its_lease_starts_nothing_beside_the_next(
    farm: Farm,
) -> None:
    farm.limit(0)
    first, second = farm.submit(1), farm.submit(3)
    farm.limit(3)
    farm.published()
    ahead = timedelta()
    late = replace(farm.ports, now=lambda: wiring.now() + ahead)

    def hang() -> None:
        nonlocal ahead
        ahead = timedelta(minutes=2)
        admit(farm.account_id, late)

    admit(farm.account_id, replace(late, schedulers=lambda _: Unplugged(hang)))
    assert [farm.page(ref).in_flight_count for ref in (first, second)] == [1, 2]
    farm.deliver()
    assert [len(farm.placed(ref)) for ref in (first, second)] == [1, 2]


def test_a_job_that_cannot_be_handed_over_does_not_hold_back_the_others(farm: Farm) -> None:
    farm.limit(0)
    stuck = farm.submit(orchestrator_id="gone", priority=9)
    other = farm.submit()
    farm.limit(2)
    farm.push("admit")
    assert farm.placed(other) == ["000-1"]
    assert farm.placed(stuck) == []


def test_a_job_is_written_whole_though_another_cannot_be_handed_over(farm: Farm) -> None:
    farm.limit(0)
    farm.submit(orchestrator_id="gone", priority=9)
    farm.limit(2)
    ref = farm.submit(150)
    assert [page.number for page in farm.ports.jobs.page_summaries(farm.job(ref))] == [0, 1]
    assert farm.placed(ref) == ["000-1"]


class Fading(FirestoreJobStore):
    """A store that does not answer any more when it is asked for a second page."""

    def page(self, ref: JobRef, number: int) -> Page:
        if number:
            raise Unreachable("the database does not answer in time")
        return super().page(ref, number)


def test_what_was_taken_before_the_database_fell_silent_is_handed_over(farm: Farm) -> None:
    farm.limit(0)
    ref = farm.submit(150)
    farm.limit(150)
    farm.published()
    fading = replace(farm.ports, jobs=Fading(wiring.firestore_client()))
    with pytest.raises(Unreachable):
        admit(farm.account_id, fading)
    farm.deliver("place")
    assert len(farm.placed(ref)) == farm.page(ref).in_flight_count == 100
