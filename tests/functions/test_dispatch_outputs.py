"""Logs, files and the end of an attempt at the function `dispatch` (docs/protocol.md)."""

import json
import logging

import pytest
import requests

from shared.models.job import AttemptRef, Command, JobRef
from shared.models.task import Outcome, TaskStatus
from shared.services.attempts import log_name, manifest_name, output_name
from shared.services.control import order
from tests.builders import lines_of
from tests.md5 import md5_of
from tests.services.agent import INSTANCE, Agent
from tests.services.calls import (
    FRAME,
    MD5,
    OUTPUT,
    agent_fixture,
    code_of,
    ok,
    ref_fixture,
)
from tests.services.farm import Farm, farm_fixture, new_farm_fixture
from tests.services.rig import rig_fixture

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture", "ref_fixture", "agent_fixture"]

T = TaskStatus


# Logs


def test_lines_of_a_log_are_kept_and_replaced(farm: Farm, ref: JobRef, agent: Agent) -> None:
    attempt = AttemptRef(*ref, "000", 1)
    ok(agent.call("logs", first_line=2, lines=["three"]))
    ok(agent.call("logs", first_line=0, lines=["one", "zwö"]))
    assert lines_of(farm.ports.jobs, attempt) == ["one", "zwö", "three"]
    ok(agent.call("logs", first_line=0, lines=["one", "two"]))
    assert lines_of(farm.ports.jobs, attempt) == ["one", "two", "three"]


def test_as_many_of_the_longest_lines_as_an_agent_sends_are_kept(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    lines = ["x" * 4000] * 500
    ok(agent.call("logs", first_line=0, lines=lines))
    assert lines_of(farm.ports.jobs, AttemptRef(*ref, "000", 1)) == lines


# Outputs


def test_a_signed_url_takes_the_announced_bytes_and_no_others(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    url = ok(agent.call("outputs", files=[OUTPUT]))["urls"][OUTPUT["relative_path"]]
    name = output_name(AttemptRef(*ref, "000", 1), "beauty/f.0001.exr")
    for content, headers in (
        (b"other bytes", {"Content-MD5": MD5}),
        (b"other bytes", {"Content-MD5": md5_of(b"other bytes")}),
        (FRAME, {}),
    ):
        refused = requests.put(url, data=content, headers=headers, timeout=10)
        assert 400 <= refused.status_code < 500
        assert farm.ports.blobs.stat([name]) == {}
    assert requests.put(url, data=FRAME, headers={"Content-MD5": MD5}, timeout=10).ok
    assert farm.ports.blobs.read(name) == FRAME


def test_the_log_needs_no_md5_and_no_files(farm: Farm, ref: JobRef, agent: Agent) -> None:
    answer = ok(agent.call("outputs", files=[]))
    assert answer["urls"] == {}
    assert requests.put(answer["log_url"], data=b"lines", timeout=10).ok
    assert farm.ports.blobs.read(log_name(AttemptRef(*ref, "000", 1))) == b"lines"


def test_every_attempt_has_its_own_place_for_its_files(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    first = ok(agent.call("outputs", files=[OUTPUT]))["urls"][OUTPUT["relative_path"]]
    ok(agent.finish("preempted"))
    order(ref, Command.RETRY_PREEMPTED, farm.ports)
    farm.deliver()
    again = farm.agent(ref, number=2)
    ok(again.claim())
    second = ok(again.call("outputs", files=[OUTPUT]))["urls"][OUTPUT["relative_path"]]
    assert first.partition("?")[0] != second.partition("?")[0]
    assert code_of(agent.call("outputs", files=[OUTPUT])) == (409, "StaleAttempt")


@pytest.mark.parametrize("path", ["f.exr", "a/b/c/f 0001.exr", "..f", "a..b/ü#?%2e.exr"])
def test_any_other_path_is_taken_as_it_is(farm: Farm, ref: JobRef, agent: Agent, path: str) -> None:
    urls = ok(agent.call("outputs", files=[OUTPUT | {"relative_path": path}]))["urls"]
    assert requests.put(urls[path], data=FRAME, headers={"Content-MD5": MD5}, timeout=10).ok
    assert farm.ports.blobs.read(output_name(AttemptRef(*ref, "000", 1), path)) == FRAME


# Finish


def test_finish_stores_the_manifest_and_bills_the_attempt(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    farm.backdate(ref, started=130, alive=10)
    said = {"exit_code": 0, "memory_peak_mib": 777, "outputs": [OUTPUT]}
    assert ok(agent.finish("success", **said)) == {"status": "success"}
    manifest = farm.ports.blobs.read(manifest_name(AttemptRef(*ref, "000", 1)))
    assert json.loads(manifest) == [OUTPUT]
    (attempt,) = farm.task(ref).attempts
    assert (attempt.outcome, attempt.exit_code) == (Outcome.SUCCESS, 0)
    assert (attempt.output_count, attempt.output_bytes) == (1, len(FRAME))
    assert (attempt.memory_peak_mib, attempt.billed_minutes) == (777, 3)
    assert farm.ledger() == [("000-1", "success", 3)]
    farm.deliver()
    assert farm.findings(ref) == []


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("success", "success"),
        ("failed", "failed"),
        ("out_of_memory", "failed"),
        ("preempted", "preempted"),
    ],
)
def test_every_outcome_has_its_status_and_a_repeat_changes_nothing(
    farm: Farm, ref: JobRef, agent: Agent, outcome: str, status: str
) -> None:
    said = {"exit_code": None, "reason": "x" * 3000}
    assert ok(agent.finish(outcome, **said)) == {"status": status}
    its_words, _, ours = farm.task(ref).attempts[0].reason.partition("; ")
    assert its_words == "x" * 2000
    assert ours.startswith("no instance type larger") is (outcome == "out_of_memory")
    before = farm.state()
    for again in (outcome, "success", "failed"):
        assert ok(agent.finish(again, **said)) == {"status": status}
    assert farm.state() == before
    assert farm.ledger() == [("000-1", outcome, 1)]


def test_an_agent_that_somebody_else_stopped_is_lost_and_tried_again(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    """`killed` is the outcome of an order; a machine that is told to stop kills what no one here gave up."""
    assert ok(agent.finish("killed")) == {"status": "pending"}
    assert farm.ledger() == [("000-1", "lost", 1)]


def test_the_finish_of_a_stale_attempt_changes_nothing(farm: Farm) -> None:
    ref = farm.submit(preempted_retries=1)
    first = farm.run(ref, outcome="preempted")
    farm.deliver()
    second = farm.agent(ref, number=2)
    ok(second.claim())
    before = farm.state()
    assert code_of(first.heartbeat()) == (409, "StaleAttempt")
    assert ok(first.finish("success", outputs=[OUTPUT])) == {"status": "running"}
    assert farm.state() == before
    assert code_of(farm.agent(ref, number=2).finish("failed")) == (409, "StaleAttempt")
    assert code_of(farm.agent(ref, number=3).finish("failed")) == (409, "StaleAttempt")
    assert farm.state() == before
    assert farm.ledger() == [("000-1", "preempted", 1)]


def test_what_was_not_the_attempts_own_last_word_leaves_its_manifest_alone(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    name = manifest_name(AttemptRef(*ref, "000", 1))
    ok(agent.finish("success", outputs=[OUTPUT]))
    other = OUTPUT | {"relative_path": "other.exr"}
    assert agent.another_process().finish("success", outputs=[other]).status_code == 409
    assert json.loads(farm.ports.blobs.read(name)) == [OUTPUT]
    ok(agent.finish("success", outputs=[other]))
    assert json.loads(farm.ports.blobs.read(name)) == [OUTPUT]


def test_what_was_killed_stays_killed_whatever_its_agent_says_later(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    order(ref, Command.KILL, farm.ports)
    farm.deliver()
    before = farm.state()
    assert ok(agent.finish("success", outputs=[OUTPUT])) == {"status": "killed"}
    assert farm.state() == before
    assert farm.ledger() == [("000-1", "killed", 1)]


def test_a_success_that_was_told_before_the_kill_reached_the_task_counts(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    order(ref, Command.KILL, farm.ports)
    assert ok(agent.finish("success", outputs=[OUTPUT])) == {"status": "success"}
    farm.deliver()
    assert [task.status for task in farm.tasks(ref)] == [T.SUCCESS, T.KILLED]
    assert farm.findings(ref) == []


def test_a_failure_while_the_job_is_being_killed_is_a_kill(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    order(ref, Command.KILL, farm.ports)
    assert ok(agent.finish("preempted")) == {"status": "killed"}


def test_a_preempted_attempt_is_tried_again_as_often_as_the_job_says(farm: Farm) -> None:
    ref = farm.submit(preempted_retries=1)
    farm.run(ref, outcome="preempted")
    assert farm.task(ref).status is T.PENDING
    farm.push("admit")
    assert farm.placed(ref) == ["000-2"]
    farm.run(ref, number=2, outcome="preempted")
    assert farm.task(ref).status is T.PREEMPTED
    assert farm.ledger() == [("000-1", "preempted", 1), ("000-2", "preempted", 1)]


def test_a_machine_that_is_about_to_go_gets_no_more_work(farm: Farm, agent: Agent) -> None:
    farm.join(INSTANCE)
    ok(agent.finish("preempted"))
    (node,) = farm.scheduler.nodes()
    assert (node.name, node.is_eligible) == (INSTANCE, False)


@pytest.mark.parametrize(("joined", "is_told"), [(INSTANCE, False), ("another", True)])
def test_a_machine_that_is_about_to_go_and_that_the_scheduler_does_not_know_is_told_of(
    farm: Farm, agent: Agent, caplog: pytest.LogCaptureFixture, joined: str, is_told: bool
) -> None:
    farm.join(joined)
    with caplog.at_level(logging.WARNING, logger="baton"):
        ok(agent.finish("preempted"))
    assert ('"event":"preempted node not found"' in caplog.text) is is_told
    assert (INSTANCE in caplog.text) is is_told


def test_a_scheduler_that_does_not_answer_keeps_no_preempted_attempt_from_its_end(
    farm: Farm, agent: Agent
) -> None:
    farm.fail_scheduler(method="GET", path="^/v1/nodes")
    assert ok(agent.finish("preempted"))["status"] == "preempted"
