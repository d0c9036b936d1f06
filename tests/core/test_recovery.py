"""The recovery ladder: what a task's next attempt runs on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.orders import on_machine
from shared.core.recovery import MOST_MEMORY, at_home, larger_types, next_step, why_no_larger
from shared.core.task_waiting import why_task_waits
from shared.models.account import InstanceType, Provider
from shared.models.farm import Orchestrator, Shape
from shared.models.job import Command, Job, Order
from shared.models.task import Attempt, Outcome, WaitingFor
from shared.stores.documents import job_fields, job_from, task_fields, task_from
from tests.builders import NOON, a_job, a_task, an_attempt
from tests.core.farm import an_orchestrator
from tests.core.test_orders import a_machine

OWN = a_machine(name="cpu-4-16", cores=4, memory_gib=16)
LARGER = a_machine(name="cpu-8-32", cores=8, memory_gib=32, price_micros_per_minute=7000)
LARGEST = a_machine(name="cpu-16-64", cores=16, memory_gib=64, price_micros_per_minute=9000)
BEYOND = a_machine(name="cpu-32-128", cores=32, memory_gib=128)
OFFERED = (BEYOND, LARGEST, OWN, LARGER)


def the_job(machine: InstanceType = OWN, **named: Any) -> Job:
    """Return a preemptible job on a machine, beside which the others are offered."""
    return on_machine(a_job(**named), machine, named.get("is_preemptible", True), OFFERED)


def tried(job: Job, *ends: Outcome, zone: str = "zone-a") -> list[Attempt]:
    """Return the attempts of a task that ended so, each on what the ladder said."""
    attempts: list[Attempt] = []
    for number, outcome in enumerate(ends, start=1):
        step = next_step(job, attempts)
        attempts.append(
            an_attempt(
                number=number,
                zone=zone,
                instance_type=step.shape.instance_type,
                is_preemptible=step.shape.is_preemptible,
                memory_mib=step.memory_mib,
                outcome=outcome,
            )
        )
    return attempts


def test_a_first_attempt_runs_on_what_the_job_asks_for() -> None:
    step = next_step(the_job())
    assert step.shape == Shape("cpu-4-16", is_preemptible=True)
    assert (step.cores, step.memory_mib, step.price_micros_per_minute) == (4, 15_360, 2000)
    assert (step.avoided_zones, step.note) == ((), "")


@pytest.mark.parametrize("loss", [Outcome.PREEMPTED, Outcome.LOST])
def test_what_lost_its_machine_avoids_the_zone_where_that_was_last(loss: Outcome) -> None:
    job = the_job()
    attempts = [*tried(job, loss, zone="zone-a"), *tried(job, loss, zone="zone-b")]
    step = next_step(job, [*attempts, an_attempt(number=3, outcome=Outcome.FAILED)])
    assert step.avoided_zones == ("zone-b",)
    assert step.note == f"avoids zone-b: attempt 1 was {loss} there"


def test_one_that_runs_in_that_zone_after_all_says_so() -> None:
    job = the_job(standard_after=1)
    attempts = tried(job, Outcome.PREEMPTED, zone="zone-a")
    assert next_step(job, attempts, "zone-b").note == next_step(job, attempts).note
    assert next_step(job, attempts, "zone-a").note == (
        "standard: 1 preemptible attempts were lost; "
        "again in zone-a: attempt 1 was preempted there, but nothing elsewhere took it"
    )


@pytest.mark.parametrize("loss", [Outcome.PREEMPTED, Outcome.LOST])
def test_after_so_many_losses_a_task_is_done_with_preemptible_machines(loss: Outcome) -> None:
    job = the_job(standard_after=2)
    assert next_step(job, tried(job, loss)).shape.is_preemptible
    step = next_step(job, tried(job, loss, Outcome.PREEMPTED))
    assert step.shape == Shape("cpu-4-16", is_preemptible=False)
    assert step.price_micros_per_minute == OWN.price_micros_per_minute
    assert step.note.startswith("standard: 2 preemptible attempts were lost; avoids zone-a")


def test_without_such_a_policy_a_task_stays_on_preemptible_machines() -> None:
    job = the_job()
    assert next_step(job, tried(job, *[Outcome.PREEMPTED] * 50)).shape.is_preemptible


def test_a_job_from_before_the_ladder_stays_on_its_own_machine() -> None:
    job = a_job(standard_after=1, memory_mib=15_360)
    attempts = tried(job, Outcome.PREEMPTED, Outcome.OUT_OF_MEMORY)
    step = next_step(job, attempts)
    assert (step.shape, step.price_micros_per_minute) == (Shape("cpu-4-16", True), 1500)
    assert why_no_larger(job, attempts).startswith("no instance type larger than cpu-4-16")


def test_an_attempt_from_before_its_memory_was_noted_had_what_the_job_asks_for() -> None:
    job = the_job(out_of_memory_retries=1)
    attempts = [an_attempt(outcome=Outcome.OUT_OF_MEMORY, memory_mib=0)]
    assert next_step(job, attempts).shape.instance_type == "cpu-8-32"
    assert why_no_larger(the_job(BEYOND), attempts).startswith("no instance type larger")


def test_each_want_of_memory_is_a_step_to_the_next_larger_type_until_none_is_left() -> None:
    job = the_job(out_of_memory_retries=5)
    ran_out: list[Outcome] = []
    for larger in ("cpu-8-32", "cpu-16-64"):
        ran_out.append(Outcome.OUT_OF_MEMORY)
        attempts = tried(job, *ran_out)
        assert why_no_larger(job, attempts) == ""
        assert next_step(job, attempts).shape.instance_type == larger
    assert next_step(job, attempts).note == "cpu-16-64: out of memory on cpu-8-32"
    assert "larger than cpu-16-64" in why_no_larger(job, tried(job, *ran_out, ran_out[0]))


def test_a_job_says_how_many_steps_there_are() -> None:
    job = the_job(out_of_memory_retries=1)
    twice = tried(job, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY)
    assert why_no_larger(job, twice[:1]) == ""
    assert why_no_larger(job, twice) == "no retry is left (out_of_memory_retries: 1)"
    assert next_step(job, twice).shape.instance_type == "cpu-8-32"
    never = the_job(out_of_memory_retries=0)
    assert next_step(never, tried(never, Outcome.OUT_OF_MEMORY)).shape.instance_type == "cpu-4-16"


def test_after_a_retry_by_a_person_the_steps_are_counted_from_where_it_was() -> None:
    """What was too little is not tried again, the allowance is new, and the cap is what it was."""
    job = the_job(out_of_memory_retries=1)
    spent = tried(job, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY)
    assert why_no_larger(job, spent) == "no retry is left (out_of_memory_retries: 1)"
    assert next_step(job, spent, counted_from=3).shape.instance_type == "cpu-16-64"
    largest = an_attempt(number=3, outcome=Outcome.OUT_OF_MEMORY, memory_mib=61_440)
    assert "no instance type larger" in why_no_larger(job, [*spent, largest], 3)
    assert next_step(job, [*spent, largest], counted_from=4).shape.instance_type == "cpu-16-64"
    assert why_no_larger(job, spent[:1], 2) == ""
    assert why_no_larger(job, spent, 2) == ""
    never = the_job(out_of_memory_retries=0)
    ran_out = tried(never, Outcome.OUT_OF_MEMORY)
    assert next_step(never, ran_out, counted_from=2).shape.instance_type == "cpu-4-16"


def test_after_a_retry_by_a_person_a_task_stays_on_standard_machines() -> None:
    job = the_job(standard_after=1)
    lost = tried(job, Outcome.PREEMPTED)
    assert next_step(job, lost, counted_from=2) == next_step(job, lost)
    assert not next_step(job, lost, counted_from=2).shape.is_preemptible


def test_a_larger_machine_is_paid_in_the_class_that_it_runs_in() -> None:
    job = the_job(standard_after=1)
    step = next_step(job, tried(job, Outcome.OUT_OF_MEMORY))
    assert (step.price_micros_per_minute, step.cores, step.memory_mib) == (2000, 8, 30_720)
    step = next_step(job, tried(job, Outcome.OUT_OF_MEMORY, Outcome.PREEMPTED))
    assert (step.shape, step.price_micros_per_minute) == (Shape("cpu-8-32", False), 7000)


def test_after_an_edit_a_task_runs_on_the_smallest_machine_that_may_be_large_enough() -> None:
    attempts = tried(the_job(), Outcome.OUT_OF_MEMORY)
    assert next_step(the_job(LARGER), attempts).shape.instance_type == "cpu-8-32"
    assert (
        next_step(the_job(LARGER), tried(the_job(LARGER), Outcome.OUT_OF_MEMORY)).memory_mib
        == 61_440
    )
    smaller = a_machine(name="cpu-2-8", cores=2, memory_gib=8)
    assert next_step(the_job(smaller), attempts).shape.instance_type == "cpu-8-32"


@pytest.mark.parametrize(
    "other",
    [
        {"memory_gib": 16},
        {"memory_gib": 65},
        {"cores": 2},
        {"provider": Provider.AWS},
        {"operating_system": "windows"},
        {"gpu": {"gpu_model": "NVIDIA L4", "gpu_count": 1}},
    ],
)
def test_no_other_kind_of_machine_is_a_larger_one(other: dict[str, Any]) -> None:
    assert larger_types(OWN, [replace(LARGER, **other)], is_preemptible=True) == ()
    assert larger_types(OWN, [LARGER], is_preemptible=True)


def test_a_larger_machine_with_gpus_has_the_same_kind_and_no_fewer() -> None:
    two = {"gpu_model": "NVIDIA L4", "gpu_count": 2}
    own = replace(OWN, gpu=two)
    offered = [
        replace(LARGER, name="fewer", gpu=two | {"gpu_count": 1}),
        replace(LARGER, name="other", gpu=two | {"gpu_model": "NVIDIA T4"}),
        replace(LARGER, name="same", gpu=two),
        replace(LARGER, name="none"),
    ]
    assert [each.instance_type for each in larger_types(own, offered, is_preemptible=True)] == [
        "same"
    ]


def test_at_home_the_cheapest_of_each_size_is_left_of_what_is_there() -> None:
    cheaper = replace(LARGER, name="cheaper", preemptible_micros_per_minute=1000)
    offered = (LARGER, cheaper, LARGEST)
    job = on_machine(a_job(), OWN, True, offered)
    assert names(at_home(job, a_home())) == ["cheaper", "cpu-16-64"]
    assert names(at_home(job, a_home("cpu-4-16", "cpu-8-32"))) == ["cpu-8-32"]
    assert names(at_home(job, a_home("cpu-4-16"))) == []
    standard = on_machine(
        a_job(), OWN, False, (replace(cheaper, price_micros_per_minute=8000), LARGER)
    )
    assert names(at_home(standard, a_home())) == ["cpu-8-32"]


def test_of_equals_a_task_gets_the_cheapest_in_the_class_that_it_runs_in() -> None:
    spot = replace(LARGER, name="spot", preemptible_micros_per_minute=1000)
    fixed = replace(LARGER, name="fixed", price_micros_per_minute=6500)
    job = on_machine(a_job(standard_after=1), OWN, True, (spot, LARGER, fixed, LARGEST))
    job = at_home(job, a_home())
    ran_out = tried(job, Outcome.OUT_OF_MEMORY)
    assert next_step(job, ran_out).shape == Shape("spot", is_preemptible=True)
    lost = tried(job, Outcome.OUT_OF_MEMORY, Outcome.PREEMPTED)
    assert next_step(job, lost).shape == Shape("fixed", is_preemptible=False)
    thrice = tried(job, *[Outcome.OUT_OF_MEMORY] * 2)
    assert next_step(job, thrice).shape.instance_type == "cpu-16-64"


def names(job: Job) -> list[str]:
    return [each.instance_type for each in job.larger]


def a_home(*instance_types: str) -> Orchestrator:
    return an_orchestrator(instance_types=instance_types)


# --- what is stored --------------------------------------------------------------------------


def test_what_older_and_newer_code_stored_of_a_task_is_read() -> None:
    task = a_task(attempt=4, attempts=(an_attempt(outcome=Outcome.LOST),), unclaimed=2)
    task = replace(task, counted_from=2)
    stored = task_fields(task, "otter")
    assert task_from(stored) == task
    stored["attempts"][0]["said_later"] = True
    assert task_from(stored) == task
    del stored["unclaimed"], stored["counted_from"]
    assert task_from(stored) == replace(task, unclaimed=0, counted_from=1)


def test_why_each_shape_waits_is_stored_with_the_job() -> None:
    orders = (Order(seq=3, command=Command.EDIT, is_for_ladder=True),)
    job = a_job(
        waiting_shapes={"cpu-4-16:p": WaitingFor.BOOT},
        unserved_since={"cpu-4-16:p": NOON},
        orders=orders,
    )
    stored = job_fields(job)
    assert job_from(stored) == job
    del stored["waiting_shapes"], stored["unserved_since"], stored["orders"]
    assert job_from(stored) == a_job()


def test_what_older_code_had_ordered_is_still_on_its_way() -> None:
    stored = job_fields(a_job(command=Command.RETRY_FAILED, command_seq=4))
    del stored["orders"]
    stored |= {"ordered_seq": 3, "edited_seq": 1, "ladder_seq": 4}
    assert job_from(stored).orders == (
        Order(seq=1, command=Command.EDIT),
        Order(seq=3, command=Command.RETRY_FAILED),
        Order(seq=4, command=Command.EDIT, is_for_ladder=True),
    )


# --- why it waits --------------------------------------------------------------------------


def test_a_task_on_the_ladder_waits_for_its_own_machine_not_for_that_of_most() -> None:
    job = the_job(
        waiting_for=WaitingFor.BOOT,
        waiting_shapes={"cpu-4-16:p": WaitingFor.BOOT, "cpu-8-32:p": WaitingFor.STOCK_OUT},
    )
    first = a_task()
    second = a_task(attempt=2, attempts=tuple(tried(job, Outcome.OUT_OF_MEMORY)))
    third = a_task(attempt=3, attempts=tuple(tried(job, *[Outcome.OUT_OF_MEMORY] * 2)))
    assert [why_task_waits(job, each, is_placed=True) for each in (first, second, third)] == [
        WaitingFor.BOOT,
        WaitingFor.STOCK_OUT,
        WaitingFor.SCHEDULER,
    ]
    before = replace(job, waiting_shapes={})
    assert why_task_waits(before, first, is_placed=True) is WaitingFor.BOOT


# --- whatever becomes of a task ------------------------------------------------------------

TYPES = st.builds(
    a_machine,
    name=st.uuids().map(str),
    cores=st.integers(1, 8),
    memory_gib=st.integers(1, 24),
    price_micros_per_minute=st.integers(100, 200),
    preemptible_micros_per_minute=st.integers(1, 99),
    gpu=st.sampled_from([None, None, {"gpu_model": "L4", "gpu_count": 1}]),
)


@dataclass(frozen=True)
class Story:
    """A job on the first of some types, and how its task's attempts end, each in some zone."""

    types: Sequence[InstanceType]
    standard_after: int
    out_of_memory_retries: int
    ends: Sequence[tuple[Outcome, str]]

    @property
    def job(self) -> Job:
        job = a_job(
            standard_after=self.standard_after, out_of_memory_retries=self.out_of_memory_retries
        )
        return at_home(on_machine(job, self.types[0], True, self.types), a_home())


STORIES = st.builds(
    Story,
    types=st.lists(TYPES, min_size=1, max_size=8),
    standard_after=st.integers(0, 3),
    out_of_memory_retries=st.integers(0, 4),
    ends=st.lists(
        st.tuples(st.sampled_from(list(Outcome)), st.sampled_from(["a", "b"])), max_size=12
    ),
)


@given(STORIES)
def test_no_attempt_is_above_the_cap_nor_below_the_one_before(story: Story) -> None:
    job, known = story.job, {each.name: each for each in story.types}
    own = story.types[0]
    attempts: list[Attempt] = []
    seen: set[int] = set()
    for outcome, zone in [*story.ends, (Outcome.FAILED, "a")]:
        step = next_step(job, attempts)
        machine = known[step.shape.instance_type]
        assert machine.memory_gib <= MOST_MEMORY * own.memory_gib
        assert step.memory_mib >= max((each.memory_mib for each in attempts), default=0)
        seen.add(step.memory_mib)
        losses = [e for e in attempts if e.outcome in (Outcome.PREEMPTED, Outcome.LOST)]
        is_done = bool(story.standard_after) and len(losses) >= story.standard_after
        assert step.shape.is_preemptible is not is_done
        assert step.price_micros_per_minute == (
            machine.price_micros_per_minute if is_done else machine.preemptible_micros_per_minute
        )
        assert step.avoided_zones == ((losses[-1].zone,) if losses else ())
        attempts.append(
            an_attempt(
                number=len(attempts) + 1,
                zone=zone,
                instance_type=machine.name,
                is_preemptible=step.shape.is_preemptible,
                memory_mib=step.memory_mib,
                outcome=outcome,
            )
        )
    assert len(seen) <= 1 + story.out_of_memory_retries


@given(STORIES)
def test_a_task_that_may_go_on_without_memory_gets_more_of_it(story: Story) -> None:
    attempts = tried(story.job, *(outcome for outcome, _ in story.ends), Outcome.OUT_OF_MEMORY)
    if why_no_larger(story.job, attempts) == "":
        assert next_step(story.job, attempts).memory_mib > attempts[-1].memory_mib


@given(STORIES, st.integers(0, 12))
def test_a_retry_by_a_person_brings_a_new_allowance_and_forgets_nothing(
    story: Story, retried_after: int
) -> None:
    """However the first attempts ended, those that follow the retry are as many steps as the policy says."""
    job, ends = story.job, [outcome for outcome, _ in story.ends]
    attempts = tried(job, *ends[:retried_after])
    counted_from = len(attempts) + 1
    sizes: list[int] = []
    for outcome in [*ends[retried_after:], *[Outcome.OUT_OF_MEMORY] * 6]:
        step = next_step(job, attempts, counted_from=counted_from)
        too_little = [e.memory_mib for e in attempts if e.outcome is Outcome.OUT_OF_MEMORY]
        assert step.memory_mib >= max((each.memory_mib for each in attempts), default=0)
        sizes.append(step.memory_mib)
        attempts.append(
            an_attempt(
                number=len(attempts) + 1,
                instance_type=step.shape.instance_type,
                is_preemptible=step.shape.is_preemptible,
                memory_mib=step.memory_mib,
                outcome=outcome,
            )
        )
        largest = max([job.memory_mib, *(each.memory_mib for each in job.larger)])
        if story.out_of_memory_retries and max(too_little, default=0) < largest:
            assert step.memory_mib > max(too_little, default=0)
        if outcome is not Outcome.OUT_OF_MEMORY:
            continue
        why = why_no_larger(job, attempts, counted_from)
        if why:
            assert why.startswith("no retry is left") or step.memory_mib == largest
            break
    assert len(set(sizes)) <= 1 + story.out_of_memory_retries
