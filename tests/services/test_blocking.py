"""An instance on which a job's frames fail, and succeed elsewhere, gets no more of them."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition

from shared import wiring
from shared.core.blocking import REFUSALS
from shared.models.farm import Stage
from shared.models.job import AttemptRef, Command, JobRef
from shared.models.task import Outcome, TaskStatus
from shared.services.control import order
from shared.services.settle import settle
from shared.tally import tally
from tests.services.calls import code_of
from tests.services.farm import Farm

BAD, GOOD = "instance-bad", "instance-good"
MINUTES = count(1)


def failing_there(farm: Farm, task_count: int = 8) -> JobRef:
    """Return a job of which one frame has succeeded on one instance and three have failed on another."""
    ref = farm.submit(task_count)
    farm.run(ref, "000", instance=GOOD)
    for task_id in ("001", "002", "003"):
        farm.run(ref, task_id, outcome="failed", instance=BAD)
    deliver(farm, ref)
    return ref


def deliver(farm: Farm, ref: JobRef) -> None:
    """Deliver everything, and have the job summed when the look that may be put off is made."""
    farm.deliver()
    settle(ref, farm.ports_in(minutes=next(MINUTES)))


def blocked(farm: Farm, ref: JobRef) -> tuple[str, ...]:
    return farm.job(ref).blocked_instances


def run_all(farm: Farm, ref: JobRef, runs: list[tuple[str, str]]) -> None:
    """Run the tasks of a job in turn: where, and how each ends."""
    for index, (instance, outcome) in enumerate(runs):
        farm.run(ref, f"{index:03}", outcome=outcome, instance=instance)
        deliver(farm, ref)


def test_three_failures_where_another_instance_succeeds_block_the_instance(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="baton"):
        ref = failing_there(farm)
    assert blocked(farm, ref) == (BAD,)
    assert caplog.text.count('"event":"instance blocked"') == 1
    assert farm.findings(ref) == []


@pytest.mark.parametrize(
    "runs",
    [
        [(BAD, "failed")] * 4,
        [(BAD, "failed"), (GOOD, "failed")] * 3,
        [(BAD, "failed")] * 2 + [(GOOD, "success")],
        [(BAD, "success")] + [(BAD, "failed")] * 4,
        [(GOOD, "success")] + [(BAD, "failed"), (BAD, "failed"), (BAD, "success")] * 2,
        [(GOOD, "success")] + [(BAD, "killed")] * 3,
    ],
    ids=["on one", "everywhere", "twice", "nowhere else", "not in a row", "for other reasons"],
)
def test_nothing_is_blocked_when_a_job_fails(farm: Farm, runs: list[tuple[str, str]]) -> None:
    farm.limit(20)
    ref = farm.submit(len(runs) + 1)
    run_all(farm, ref, runs)
    assert blocked(farm, ref) == ()


def test_an_instance_that_breaks_half_way_is_blocked(farm: Farm) -> None:
    farm.limit(20)
    ref = farm.submit(10)
    succeeded, failed = "success", "failed"
    run_all(farm, ref, [(BAD, succeeded)] * 2 + [(GOOD, succeeded)] * 2 + [(BAD, failed)] * 2)
    assert blocked(farm, ref) == ()
    farm.run(ref, "006", outcome="failed", instance=BAD)
    deliver(farm, ref)
    assert blocked(farm, ref) == (BAD,)


def test_an_instance_that_failed_before_anything_succeeded_is_blocked_by_the_first_success(
    farm: Farm,
) -> None:
    ref = farm.submit(6)
    run_all(farm, ref, [(BAD, "failed")] * 3)
    assert blocked(farm, ref) == ()
    farm.run(ref, "003", instance=GOOD)
    deliver(farm, ref)
    assert blocked(farm, ref) == (BAD,)


def test_what_failed_there_of_another_job_does_not_count(farm: Farm) -> None:
    farm.limit(20)
    ref, other = farm.submit(5), farm.submit(5)
    run_all(farm, other, [(BAD, "failed")] * 2)
    run_all(farm, ref, [(GOOD, "success")] + [(BAD, "failed")] * 2)
    assert (blocked(farm, ref), blocked(farm, other)) == ((), ())
    farm.run(other, "002", instance=BAD)
    farm.run(ref, "003", outcome="failed", instance=BAD)
    deliver(farm, ref)
    assert (blocked(farm, ref), blocked(farm, other)) == ((BAD,), ())


@pytest.mark.parametrize(("days", "found"), [(1, (BAD,)), (2, ())])
def test_what_failed_before_yesterday_says_nothing(
    farm: Farm, days: int, found: tuple[str, ...]
) -> None:
    ref = farm.submit(5)
    farm.run(ref, "000", instance=GOOD)
    for task_id in ("001", "002", "003"):
        farm.run(ref, task_id, outcome="failed", instance=BAD)
    settle(ref, farm.ports_in(days=days))
    assert blocked(farm, ref) == found


def test_no_more_than_a_quarter_of_the_instances_are_blocked(farm: Farm) -> None:
    farm.limit(50)
    ref = farm.submit(40)
    run_all(farm, ref, [(f"bad-{i % 4}", "failed") for i in range(16)] + [(GOOD, "success")])
    for task in range(17, 20):
        farm.run(ref, f"{task:03}", instance=f"good-{task}")
    farm.run(ref, "020", outcome="failed", instance="bad-3")
    deliver(farm, ref)
    assert blocked(farm, ref) == ("bad-0", "bad-3")  # of eight


def test_what_waits_for_a_blocked_instance_is_refused_and_placed_elsewhere(farm: Farm) -> None:
    ref = failing_there(farm)
    refused = farm.agent(ref, "004").claim(BAD)
    assert code_of(refused) == (410, "AttemptWithdrawn")
    assert BAD in refused.text
    farm.deliver()
    task = farm.task(ref, "004")
    assert (task.status, task.attempt, task.attempts) == (TaskStatus.PENDING, 2, ())
    assert "004-2" in farm.placed(ref)
    farm.run(ref, "004", number=2, instance=GOOD)
    farm.deliver()
    assert farm.task(ref, "004").status is TaskStatus.SUCCESS
    assert farm.findings(ref) == []


def test_what_is_placed_from_then_on_waits_rather_than_start_there(farm: Farm) -> None:
    farm.limit(4)
    ref = failing_there(farm)
    farm.agent(ref, "004").claim(BAD)
    farm.deliver()
    for each in farm.placements():
        if each.attempt_id != AttemptRef(*ref, "004", 2).attempt_id:
            farm.scheduler.cancel(each.attempt_id)
    farm.join(BAD)
    assert stage(farm, ref) is Stage.WAITING
    farm.join(GOOD)
    assert stage(farm, ref) is Stage.STARTED


def stage(farm: Farm, ref: JobRef) -> Stage:
    name = AttemptRef(*ref, "004", 2).attempt_id
    (found,) = [each for each in farm.placements() if each.attempt_id == name]
    return found.stage


def test_other_jobs_run_there_as_before(farm: Farm) -> None:
    failing_there(farm)
    other = farm.submit(1)
    farm.deliver()
    assert farm.agent(other).claim(BAD).status_code == 200


def test_what_runs_there_already_goes_on(farm: Farm) -> None:
    ref = farm.submit(6)
    agent = farm.agent(ref, "005")
    assert agent.claim(BAD).status_code == 200
    run_all(farm, ref, [(GOOD, "success")] + [(BAD, "failed")] * 3)
    assert blocked(farm, ref) == (BAD,)
    assert agent.claim(BAD).status_code == 200
    assert agent.finish().status_code == 200


def test_a_task_that_is_refused_again_and_again_runs_there_at_last(farm: Farm) -> None:
    """A scheduler that cannot be told what to avoid, and has nothing else, must not keep a task from ever running."""
    ref = failing_there(farm)
    for number in range(1, REFUSALS + 1):
        assert code_of(farm.agent(ref, "004", number).claim(BAD)) == (410, "AttemptWithdrawn")
        farm.deliver()
    assert farm.task(ref, "004").status is TaskStatus.PENDING
    assert farm.agent(ref, "004", REFUSALS + 1).claim(BAD).status_code == 200


def test_a_repeated_look_changes_and_reads_nothing(farm: Farm) -> None:
    ref = failing_there(farm)
    before = farm.state()
    tally.start()
    settle(ref, farm.ports)
    once = tally.read_count
    assert farm.state() == before
    assert once == 2  # the job and its page


def test_an_instance_stays_blocked_when_a_person_retries(farm: Farm) -> None:
    ref = failing_there(farm)
    order(ref, Command.RETRY_FAILED, farm.ports)
    farm.deliver()
    assert blocked(farm, ref) == (BAD,)
    assert code_of(farm.agent(ref, "001", 2).claim(BAD)) == (410, "AttemptWithdrawn")


def failing_unseen(farm: Farm) -> JobRef:
    """Return a job with three failures on an instance, of which nobody has summed it since."""
    ref = farm.submit(5)
    farm.run(ref, "000", instance=GOOD)
    deliver(farm, ref)
    for task_id in ("001", "002", "003"):
        farm.run(ref, task_id, outcome="failed", instance=BAD)
    farm.published()
    return ref


class NoIndex:
    """A ledger whose index is still being built."""

    def endings(self, *_: Any) -> Any:
        raise FailedPrecondition("The query requires an index")


def test_a_job_is_summed_and_ends_though_nobody_can_look(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    ref = failing_unseen(farm)
    farm.run(ref, "004", instance=GOOD)
    farm.published()
    ahead = next(MINUTES)
    ledger: Any = NoIndex()
    with caplog.at_level(logging.WARNING, logger="baton"):
        job = settle(ref, replace(farm.ports_in(minutes=ahead), ledger=ledger))
    assert job.is_ended
    assert caplog.text.count('"event":"not looked for instances to block"') == 1
    assert blocked(farm, ref) == ()
    settle(ref, farm.ports_in(minutes=ahead))
    assert blocked(farm, ref) == (), "it was tried a moment ago"
    settle(ref, farm.ports_in(minutes=ahead + 1))
    assert blocked(farm, ref) == (BAD,), "what could not be looked at is made up for"


def test_a_look_that_found_suspects_is_put_off_for_a_while_when_more_fails(farm: Farm) -> None:
    ref = failing_there(farm, 9)
    ahead = next(MINUTES)

    def reads_when_summed(minutes: int) -> int:
        farm.published()
        tally.start()
        settle(ref, farm.ports_in(minutes=minutes))
        return tally.read_count

    for task_id in ("004", "005", "006"):
        farm.run(ref, task_id, outcome="failed", instance="bad-2")
    assert reads_when_summed(ahead) > 2
    farm.run(ref, "007", outcome="failed", instance="bad-2")
    assert reads_when_summed(ahead) == 2  # the job and its page
    assert reads_when_summed(ahead + 1) > 2


def test_the_newest_failures_are_read_first(farm: Farm) -> None:
    ref = farm.submit(3)
    for task_id in ("002", "001", "000"):
        farm.run(ref, task_id, outcome="failed", instance=f"on-{task_id}")
    found = farm.ports.ledger.endings(ref, Outcome.FAILED, 2)
    assert [each.instance for each in found] == ["on-000", "on-001"]


def test_a_success_is_seen_behind_many_of_other_jobs(farm: Farm) -> None:
    ref = farm.submit(1)
    since = wiring.now()
    farm.run(ref, instance=BAD)
    entries = wiring.firestore_client().collection(f"accounts/{farm.account_id}/ledger")
    (mine,) = [each.to_dict() or {} for each in entries.stream()]
    batch = wiring.firestore_client().batch()
    for number in range(101):
        other = mine | {"job_id": "99999", "ended_at": since + timedelta(microseconds=number)}
        batch.set(entries.document(f"99999-{number}-1"), other)
    batch.commit()
    ledger = farm.ports.ledger
    assert ledger.has_ended_on(ref, BAD, Outcome.SUCCESS, since)
    assert not ledger.has_ended_on(ref, BAD, Outcome.SUCCESS, wiring.now())
    assert not ledger.has_ended_on(ref, GOOD, Outcome.SUCCESS, since)


def test_where_the_scheduler_starts_the_machines_no_attempt_names_one(farm: Farm) -> None:
    farm.limit(4)
    ref = failing_there(farm)
    farm.save_orchestrator(fleet="managed")
    assert farm.agent(ref, "004").claim(BAD).status_code == 410
    farm.deliver()
    for each in farm.placements():
        if each.attempt_id != AttemptRef(*ref, "004", 2).attempt_id:
            farm.scheduler.cancel(each.attempt_id)
    farm.join(BAD)
    assert stage(farm, ref) is Stage.STARTED
    assert code_of(farm.agent(ref, "004", 2).claim(BAD)) == (410, "AttemptWithdrawn")
