"""A farm that loses parts of itself: every job still ends with all its frames, and the books stay right."""

import os
import random
import signal
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import requests

from shared import wiring
from shared.models.farm import PoolKey
from shared.models.job import JobRef
from shared.models.task import Outcome, TaskStatus
from tests.e2e.farm import PATIENCE_S, Farm
from tests.md5 import md5_of

T = TaskStatus
OUT = "/vol/relay/renders"

# The functions, the gateway, and the stand-ins that keep their state on disk. Firestore's and Pub/Sub's emulators keep
# theirs in memory: in production those two are somebody else's business.
COMPONENTS = (
    "submit",
    "dispatch",
    "autoscale",
    "billing",
    "gateway",
    "storage",
    "nomad",
    "compute",
)


def frame(number: int, seconds: float = 0.0) -> str:
    """Return a command that takes a while and writes one frame."""
    return f"sleep {seconds}; mkdir -p {OUT}/beauty; echo frame {number} > {OUT}/beauty/f.{number:04d}.exr"


def expected(count: int) -> dict[str, bytes]:
    """Return the frames of a job of so many tasks."""
    return {f"beauty/f.{n:04d}.exr": f"frame {n}\n".encode() for n in range(1, count + 1)}


def outcomes(farm: Farm, ref: JobRef) -> list[Outcome | None]:
    return [attempt.outcome for task in farm.tasks(ref) for attempt in task.attempts]


def has_come_to(farm: Farm, ref: JobRef, status: TaskStatus) -> bool:
    """Return whether some task has this status, or none ever will again."""
    return any(task.status is status for task in farm.tasks(ref)) or farm.job(ref).is_ended


def test_a_job_with_inputs_and_scouts_ends_with_all_its_frames(farm: Farm) -> None:
    script = b"#!/bin/sh\nmkdir -p $2; cp $1/plate.txt $2/f.$3\n"
    files = {"/vol/relay/bin/render.sh": script, "C:/vol/relay/in/plate.txt": b"plate"}
    commands = [f"/vol/relay/bin/render.sh /vol/relay/in {OUT} {n:04d}" for n in range(1, 7)]
    ref = farm.submit(commands, files=files, scout_frames="1,6")
    farm.wait("scouts run", lambda: farm.job(ref).counts.get(T.RUNNING) or farm.job(ref).is_ended)
    farm.wait_for_end(ref, "success")
    assert farm.outputs(ref) == {f"f.{n:04d}": b"plate" for n in range(1, 7)}
    scouts = [farm.tasks(ref)[index].attempts[0] for index in (0, 5)]
    others = [farm.tasks(ref)[index].attempts[0] for index in (1, 2, 3, 4)]
    scouts_ended = max(each.ended_at for each in scouts if each.ended_at)
    assert min(each.started_at for each in others) >= scouts_ended


def test_the_frames_come_down_with_their_md5s(farm: Farm) -> None:
    ref = farm.submit([frame(1), frame(2)])
    farm.wait_for_end(ref, "success")
    answer = farm.call("POST", f"/jobs/{ref.job_id}/downloads?limit=50", {"tids": None})
    assert answer.status_code == 201
    got = {}
    for download in answer.json()["downloads"]:
        for file in download["files"]:
            content = requests.get(file["url"], timeout=10).content
            assert md5_of(content) == file["md5"]
            got[file["relative_path"]] = content
    assert got == expected(2)


def test_a_failing_command_fails_its_task_with_its_exit_code(farm: Farm) -> None:
    ref = farm.submit([frame(1), "echo no licence >&2; exit 7"])
    farm.wait_for_end(ref, "failed")
    failed = farm.tasks(ref)[1].attempts[-1]
    assert (failed.outcome, failed.exit_code) == (Outcome.FAILED, 7)
    assert farm.tasks(ref)[0].status is T.SUCCESS


@pytest.mark.parametrize("component", COMPONENTS)
def test_any_component_may_be_killed_in_the_middle_of_a_job(farm: Farm, component: str) -> None:
    ref = farm.submit([frame(n, 0.4) for n in range(1, 13)], max_instances=4)
    for moment in (T.PENDING, T.RUNNING, T.SUCCESS):
        farm.wait(f"a task is {moment}", partial(has_come_to, farm, ref, moment))
        farm.stack.restart(component)
    farm.wait_for_end(ref, "success", patience_s=150)
    assert farm.outputs(ref) == expected(12)


def test_an_agent_that_is_killed_is_an_attempt_that_is_tried_again(farm: Farm) -> None:
    ref = farm.submit([frame(1, 3)])
    farm.wait("the task runs", lambda: farm.running_instances(ref) and farm.agent_pids())
    for pid in farm.agent_pids():
        os.kill(pid, signal.SIGKILL)
    farm.wait_for_end(ref, "success")
    assert outcomes(farm, ref) == [Outcome.LOST, Outcome.SUCCESS]
    assert farm.outputs(ref) == expected(1)


def test_a_preempted_instance_costs_an_attempt_and_no_frame(farm: Farm) -> None:
    ref = farm.submit([frame(n, 3) for n in range(1, 4)])
    farm.wait("all run", lambda: len(farm.running_instances(ref)) == 3)
    farm.order_fault(kind="preempt", instance=farm.running_instances(ref)[0], notice_s=20)
    farm.wait_for_end(ref, "success")
    found = sorted(each or "" for each in outcomes(farm, ref))
    assert found == ["preempted", *["success"] * 3], farm.story(ref)
    assert farm.outputs(ref) == expected(3)


def test_preempted_more_often_than_the_job_retries_is_preempted(farm: Farm) -> None:
    ref = farm.submit([frame(1, 5)], autoretry_policy={})
    farm.wait("it runs", lambda: farm.running_instances(ref))
    farm.order_fault(kind="preempt", instance=farm.running_instances(ref)[0], notice_s=20)
    farm.wait_for_end(ref, "preempted")


def test_a_lost_instance_costs_an_attempt_and_no_frame(farm: Farm) -> None:
    ref = farm.submit([frame(n, 3) for n in range(1, 4)])
    farm.wait("all run", lambda: len(farm.running_instances(ref)) == 3)
    farm.order_fault(kind="lose", instance=farm.running_instances(ref)[0])
    farm.wait_for_end(ref, "success")
    assert sorted(each or "" for each in outcomes(farm, ref)) == ["lost", *["success"] * 3]
    assert farm.outputs(ref) == expected(3)


def test_a_storm_that_takes_half_the_fleet_costs_attempts_and_no_frame(farm: Farm) -> None:
    ref = farm.submit([frame(n, 4) for n in range(1, 13)], max_instances=8)
    farm.wait("eight run", lambda: len(farm.running_instances(ref)) == 8)
    taken = farm.running_instances(ref)[::2]
    for instance in taken:
        farm.order_fault(kind="preempt", instance=instance, notice_s=20)
    farm.wait_for_end(ref, "success", patience_s=150)
    found = sorted(each or "" for each in outcomes(farm, ref))
    assert found == ["preempted"] * len(taken) + ["success"] * 12, farm.story(ref)
    assert farm.outputs(ref) == expected(12)


@pytest.mark.parametrize("status", [500, 429])
def test_a_provider_that_fails_for_ten_ticks_costs_time_and_no_frame(
    farm: Farm, status: int
) -> None:
    ref = farm.submit([frame(n, 3) for n in range(1, 5)], max_instances=2)
    farm.wait("two run", lambda: len(farm.running_instances(ref)) == 2)
    failed = farm.stack.log("autoscale").count("not scaled")
    farm.order_fault(kind="calls", calls=1_000_000, status=status)

    def ten_have_failed() -> bool:
        wiring.bus().publish("scale", [{"orchestrator_id": farm.job(ref).orchestrator_id}])
        return farm.stack.log("autoscale").count("not scaled") >= failed + 10

    farm.wait("ten ticks failed", ten_have_failed)
    farm.clear_faults()
    farm.wait_for_end(ref, "success")
    assert outcomes(farm, ref) == [Outcome.SUCCESS] * 4, farm.story(ref)
    assert farm.outputs(ref) == expected(4)


def test_a_zone_without_machines_sends_the_job_to_another(farm: Farm) -> None:
    farm.order_fault(kind="stockout", zone="us-central1-a")
    ref = farm.submit([frame(n, 0.5) for n in range(1, 5)], instance_type="cpu-8-32")
    farm.wait_for_end(ref, "success")
    zones = {attempt.zone for task in farm.tasks(ref) for attempt in task.attempts}
    assert zones and "us-central1-a" not in zones


def test_a_zone_that_is_switched_off_takes_no_new_work(farm: Farm) -> None:
    orchestrators = wiring.orchestrator_store()
    (before,) = orchestrators.orchestrators()
    orchestrators.save_orchestrator(
        replace(before, zones=dict.fromkeys(before.zones, False) | {"us-central1-c": True})
    )
    try:
        ref = farm.submit([frame(n, 0.5) for n in range(1, 5)], instance_type="cpu-4-16")
        farm.wait_for_end(ref, "success")
        zones = {attempt.zone for task in farm.tasks(ref) for attempt in task.attempts}
        assert zones == {"us-central1-c"}
    finally:
        orchestrators.save_orchestrator(before)


def test_with_every_zone_off_the_job_says_why_it_waits_and_goes_on_later(farm: Farm) -> None:
    orchestrators = wiring.orchestrator_store()
    (before,) = orchestrators.orchestrators()
    orchestrators.save_orchestrator(replace(before, zones=dict.fromkeys(before.zones, False)))
    try:
        ref = farm.submit([frame(1)])
        farm.wait("it says why", lambda: farm.job(ref).waiting_for == "zone_off")
    finally:
        orchestrators.save_orchestrator(before)
    farm.wait_for_end(ref, "success")


def test_messages_that_come_twice_and_in_any_order_change_nothing(farm: Farm) -> None:
    ref = farm.submit([frame(n, 0.3) for n in range(1, 9)], scout_frames="1", max_instances=3)
    ids: dict[str, Any] = {"account_id": ref.account_id, "job_id": ref.job_id}
    messages: list[tuple[str, dict[str, Any]]] = [
        ("expand", ids | {"first_page": 0, "page_count": 10}),
        ("sync", ids),
        ("admit", {"account_id": ref.account_id}),
        ("settle", ids),
        ("command", ids | {"first_page": 0, "page_count": 10}),
        *(
            ("place", ids | {"page": 0, "attempts": {f"{n:03d}": attempt}})
            for n in range(8)
            for attempt in (1, 2)
        ),
    ] * 3
    random.Random(7).shuffle(messages)
    for topic, message in messages:
        farm.ports.bus.publish(topic, [message])
    farm.wait_for_end(ref, "success")
    assert farm.outputs(ref) == expected(8)
    assert outcomes(farm, ref) == [Outcome.SUCCESS] * 8


def test_a_job_never_runs_more_than_its_limit_and_the_account_more_than_its_own(farm: Farm) -> None:
    ref = farm.submit([frame(n, 0.3) for n in range(1, 11)], max_instances=2)
    most = 0

    def has_ended() -> bool:
        nonlocal most
        pages = farm.ports.jobs.page_summaries(farm.job(ref))
        most = max(most, sum(page.in_flight_count for page in pages))
        return farm.job(ref).is_ended

    farm.wait("the job ends", has_ended)
    assert most == 2
    farm.wait_for_end(ref, "success")


def test_a_kill_stops_what_runs_and_what_waits(farm: Farm) -> None:
    ref = farm.submit([frame(n, 60) for n in range(1, 13)], max_instances=2)
    farm.wait("two run", lambda: len(farm.running_instances(ref)) == 2)
    answer = farm.call("PUT", "/jobs_multi", {"action": "kill", "jobids": [ref.job_id]})
    assert answer.status_code == 200
    assert farm.job(ref).status == "killed"
    farm.wait_for_end(ref, "killed")
    farm.wait("the renders stop", lambda: not farm.agent_pids())


def test_a_held_job_starts_nothing_until_it_is_let_go(farm: Farm) -> None:
    ref = farm.submit([frame(n, 0.5) for n in range(1, 7)], max_instances=1)
    farm.wait("one runs", lambda: farm.running_instances(ref))
    farm.call("PUT", "/jobs_multi", {"action": "hold", "jobids": [ref.job_id]})
    farm.wait("it holds", lambda: farm.job(ref).status == "holding")
    assert not farm.running_instances(ref)
    farm.call("PUT", "/jobs_multi", {"action": "unhold", "jobids": [ref.job_id]})
    farm.wait_for_end(ref, "success")


def test_failed_tasks_are_retried_on_demand(farm: Farm) -> None:
    commands = [f"mkdir -p {OUT}; date > {OUT}/a; exit 3", frame(2)]
    ref = farm.submit(commands)
    farm.wait_for_end(ref, "failed")
    answer = farm.call("PUT", "/jobs_multi", {"action": "retry_failed", "jobids": [ref.job_id]})
    assert answer.status_code == 200
    farm.wait("it was tried again", lambda: len(farm.tasks(ref)[0].attempts) == 2)
    farm.wait_for_end(ref, "failed")
    assert len(farm.tasks(ref)[1].attempts) == 1


def test_a_machine_that_gets_work_while_it_is_being_deleted_costs_an_attempt_and_no_frame(
    farm: Farm,
) -> None:
    orchestrators = wiring.orchestrator_store()
    (before,) = orchestrators.orchestrators()
    pool = PoolKey("us-central1-a", "cpu-2-16", True)  # no other scenario's
    patient = replace(before, boot_s=600, zones={pool.zone: True})  # calls off for minutes
    orchestrators.save_orchestrator(patient)
    machines = partial(wiring.fleet(patient).instances, pool)
    deletion = f"{pool.zone}/.*{pool.instance_type}.*/deleteInstances"
    try:
        farm.order_fault(kind="calls", calls=1, delay_s=PATIENCE_S, path=deletion)
        with farm.nobody_joins():
            unwanted = farm.submit([frame(1)], instance_type=pool.instance_type)
            farm.wait("a machine boots", machines)
            (name,) = (each.name for each in machines())
            farm.call("PUT", "/jobs_multi", {"action": "kill", "jobids": [unwanted.job_id]})
            farm.wait("it is being deleted", lambda: not farm.held_back())
        ref = farm.submit([frame(1, 3)], instance_type=pool.instance_type, autoretry_policy={})
        farm.wait("it has work", lambda: farm.running_instances(ref) == [name])
        farm.clear_faults()
        farm.wait_for_end(ref, "success")
    finally:
        orchestrators.save_orchestrator(before)
    first, second = farm.tasks(ref)[0].attempts
    assert (first.instance, first.outcome, second.outcome) == (
        name,
        Outcome.LOST,
        Outcome.SUCCESS,
    )
    assert second.instance != name
    assert farm.outputs(ref) == expected(1)


def test_the_farm_goes_back_to_nothing(farm: Farm) -> None:
    ref = farm.submit([frame(1)])
    farm.wait_for_end(ref, "success")

    def nothing_is_left() -> bool:
        scheduler = wiring.scheduler(wiring.orchestrator_store().orchestrators()[0])
        return not any(node.is_up for node in scheduler.nodes())

    farm.wait("no instance is left", nothing_is_left)
