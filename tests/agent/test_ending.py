"""Every way in which an attempt ends before its time."""

import os
import signal

import pytest

from tests.agent.conftest import AgentRun, Machine, processes_with
from tests.agent.metadata import GceMetadata
from tests.agent.server import Attempt, Farm
from tests.waiting import until

#: Renders until it is ended, and says when it is asked to.
LONG = (
    "trap 'echo asked to end; exit 7' TERM; echo started; while :; do sleep 0.05; done; : {marker}"
)


def start_rendering(
    machine: Machine, farm: Farm, command: str = LONG, **environment: str
) -> tuple[Attempt, AgentRun, str]:
    """Start a long render; return when it renders, with a marker that its processes have."""
    marker = f"render-{os.getpid()}-{len(farm.attempts)}"
    attempt = farm.add_attempt(command.replace("{marker}", marker), is_watched=True)
    run = machine.start(attempt, environment)
    farm.wait_for("the render", lambda: "started" in attempt.shown.values())
    assert processes_with(marker)
    return attempt, run, marker


def assert_gone(marker: str) -> None:
    """Wait until no process of the render is left."""
    until(lambda: not processes_with(marker))


def test_the_servers_stop_gives_the_render_time_to_end(machine: Machine, farm: Farm) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    attempt.action = "stop"
    assert run.wait() == 0
    assert attempt.finish is not None
    assert (attempt.finish["outcome"], attempt.finish["reason"]) == ("killed", "somebody said so")
    assert "asked to end" in farm.log(attempt)
    assert_gone(marker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_schedulers_stop_ends_the_attempt_as_killed(
    machine: Machine, farm: Farm, number: int
) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    run.process.send_signal(number)
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "killed"
    assert "asked to end" in farm.log(attempt)
    assert_gone(marker)


def test_a_render_that_will_not_end_is_killed(machine: Machine, farm: Farm) -> None:
    command = "trap '' TERM; echo started; setsid sh -c 'sleep 600; : {marker}' & while :; do sleep 1; done; : {marker}"
    attempt, run, marker = start_rendering(machine, farm, command)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "killed"
    assert_gone(marker)


def test_a_preemption_notice_ends_the_attempt_as_preempted(
    machine: Machine, farm: Farm, metadata: GceMetadata
) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    metadata.preempt()
    assert run.wait() == 0
    assert attempt.finish is not None
    assert (attempt.finish["outcome"], attempt.finish["outputs"]) == ("preempted", [])
    assert_gone(marker)


def test_a_notice_cuts_the_grace_of_a_stop_short(
    machine: Machine, farm: Farm, metadata: GceMetadata
) -> None:
    command = "trap '' TERM; echo started; while :; do sleep 0.05; done; : {marker}"
    attempt, run, marker = start_rendering(machine, farm, command)
    attempt.action = "stop"
    beats = len(attempt.phases)
    farm.wait_for("the stop to arrive", lambda: len(attempt.phases) > beats + 1)
    metadata.preempt()
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "preempted"
    assert_gone(marker)


def test_a_stop_by_signal_is_a_preemption_when_the_notice_is_on(
    machine: Machine, farm: Farm, metadata: GceMetadata
) -> None:
    """The notice and the machine's shutdown come together, in any order."""
    attempt, run, _ = start_rendering(machine, farm)
    os.kill(run.process.pid, signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGTERM)
    metadata.preempt()
    os.kill(run.process.pid, signal.SIGCONT)
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "preempted"


def test_a_killed_agent_takes_its_render_along(machine: Machine, farm: Farm) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    run.process.kill()
    run.process.wait()
    assert_gone(marker)
    assert attempt.finish is None


def test_a_withdrawn_attempt_ends_without_a_word(machine: Machine, farm: Farm) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    attempt.is_withdrawn = True
    assert run.wait() == 0, run.diary
    assert attempt.finish is None
    assert f"logs/{attempt.attempt_id}" not in farm.blobs
    assert_gone(marker)


def test_a_second_process_with_the_same_token_changes_nothing(machine: Machine, farm: Farm) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    second = machine.start(attempt)
    assert second.wait() == 0
    assert "StaleAttempt" in second.diary
    assert attempt.finish is None
    assert processes_with(marker)
    run.process.terminate()
    run.wait()


@pytest.mark.parametrize("status", [401, 409, 410])
@pytest.mark.parametrize("call", ["claim", "inputs", "outputs", "finish"])
def test_an_attempt_that_is_not_ours_any_more_is_dropped_at_any_time(
    machine: Machine, farm: Farm, call: str, status: int
) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    farm.fail(call, *[status] * 3)
    run = machine.start(attempt)
    assert run.wait() == 0, run.diary
    assert attempt.finish is None
    assert "withdrawn" in run.diary


def test_an_unknown_token_is_dropped(machine: Machine, farm: Farm) -> None:
    run = machine.start(Attempt("eyJhbGciOiJub25lIn0.e30.x", "a-1-000-1", "true", "/out"))
    assert run.wait() == 0, run.diary


def test_a_server_that_is_busy_or_silent_for_a_while_is_asked_again(
    machine: Machine, farm: Farm
) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    for call in ("claim", "inputs", "heartbeat", "outputs", "finish", "GET", "PUT"):
        farm.fail(call, 503, 0, 429)
    assert machine.finish(attempt)["outcome"] == "success"
    assert farm.outputs(attempt) == {"x.txt": b"x\n"}


def test_a_silent_server_ends_the_render_when_patience_is_over(
    machine: Machine, farm: Farm
) -> None:
    attempt, run, marker = start_rendering(machine, farm, BATON_PATIENCE_S="1")
    farm.fail("heartbeat", *[503] * 500)
    farm.fail("logs", *[503] * 500)
    assert run.wait() == 1
    assert "heartbeat" in run.diary
    assert attempt.finish is None
    assert_gone(marker)


@pytest.mark.parametrize("call", ["claim", "inputs", "outputs", "finish"])
def test_what_the_server_refuses_is_reported_as_a_failure(
    machine: Machine, farm: Farm, call: str
) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    if call == "claim":
        attempt.claim = None
        farm.fail("claim", 422)
        run = machine.start(attempt)
        assert run.wait() == 0  # its report is for an attempt that nobody holds
        return
    farm.fail(call, 422)
    report = machine.finish(attempt)
    assert report["outcome"] == "failed"
    assert f"refused {call}" in report["reason"]


def test_a_heartbeat_that_the_server_refuses_fails_the_attempt(
    machine: Machine, farm: Farm
) -> None:
    attempt, run, marker = start_rendering(machine, farm)
    farm.fail("heartbeat", 400)
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "failed"
    assert_gone(marker)


def test_an_agent_can_be_stopped_while_nobody_answers_its_claim(
    machine: Machine, farm: Farm
) -> None:
    farm.fail("claim", *[503] * 500)
    farm.fail("finish", *[503] * 500)
    run = machine.start(farm.add_attempt("true"))
    farm.wait_for("a claim", lambda: farm.calls["claim"] > 1)
    run.process.terminate()
    assert run.wait() == 1


def test_an_attempt_can_be_ended_while_its_inputs_arrive(
    machine: Machine, farm: Farm, metadata: GceMetadata
) -> None:
    attempt = farm.add_attempt("true")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    farm.fail("GET", *[503] * 500)
    run = machine.start(attempt)
    farm.wait_for("a download", lambda: farm.calls["GET"] > 1)
    metadata.preempt()
    assert run.wait() == 0
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "preempted"


def test_an_attempt_can_be_ended_while_its_outputs_are_stored(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    farm.fail("PUT", *[503] * 500)
    run = machine.start(attempt)
    farm.wait_for("an upload", lambda: farm.calls["PUT"] > 1)
    run.process.terminate()
    assert run.wait() == 0
    assert attempt.finish is not None
    assert (attempt.finish["outcome"], attempt.finish["outputs"]) == ("killed", [])
