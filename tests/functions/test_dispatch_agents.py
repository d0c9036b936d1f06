"""What agents call at the function `dispatch`: whose call it is, claims and heartbeats (docs/protocol.md)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import requests

from shared import wiring
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef, Command, JobRef, TaskRef
from shared.models.task import TaskStatus
from shared.services.control import order
from tests.md5 import md5_of
from tests.services.agent import INSTANCE, ZONE, Agent
from tests.services.calls import (
    BODIES,
    agent_fixture,
    code_of,
    ok,
    ref_fixture,
    stranger_fixture,
)
from tests.services.farm import Farm, ago, farm_fixture, new_farm_fixture
from tests.services.rig import rig_fixture

__all__ = [
    "farm_fixture",
    "new_farm_fixture",
    "rig_fixture",
    "ref_fixture",
    "agent_fixture",
    "stranger_fixture",
]

T = TaskStatus


# Whose call it is


def test_without_the_token_of_an_attempt_nothing_is_done(farm: Farm, ref: JobRef) -> None:
    attempt = AttemptRef(*ref, "000", 1)
    owner = Principal(account_id=farm.account_id, user_id="ines", role=Role.OWNER)
    tokens, now = wiring.tokens(), wiring.now()
    agent = farm.agent(ref)
    head, _, signature = agent.token.rpartition(".")
    before = farm.state()
    for token in (
        "",
        "nonsense",
        f"{head}.{signature[::-1]}",
        tokens.issue_attempt(attempt, now - timedelta(days=15)),
        tokens.issue_client(owner, "127.0.0.1", now, timedelta(hours=1)),
    ):
        agent.token = token
        for call, body in BODIES.items():
            assert code_of(agent.call(call, **body)) == (401, "Unauthenticated")
    assert farm.state() == before


def test_a_token_reaches_its_own_account_only(new_farm: Callable[[], Farm]) -> None:
    mine, theirs = new_farm(), new_farm()
    my_ref, their_ref = mine.submit(), theirs.submit()
    assert my_ref.job_id == their_ref.job_id
    before = theirs.state()
    agent = mine.agent(my_ref)
    widened = {"account_id": theirs.account_id, "account": theirs.account_id}
    for call, body in BODIES.items():
        ok(agent.call(call, **body, **widened))
    assert theirs.state() == before
    assert mine.task(my_ref).status is T.SUCCESS


def test_a_token_reaches_its_own_task_and_attempt_only(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    other = farm.submit()
    before = farm.task(ref, "001"), farm.task(other)
    widened = {"job_id": other.job_id, "job": other.job_id, "task_id": "001", "attempt": 2}
    for call, body in BODIES.items():
        ok(agent.call(call, **body, **widened))
    assert (farm.task(ref, "001"), farm.task(other)) == before


def test_urls_lead_to_the_files_of_the_own_account_only(new_farm: Callable[[], Farm]) -> None:
    mine, theirs = new_farm(), new_farm()
    theirs.upload({"/secret.ma": b"their scene"})
    mine.upload({"/scene.ma": b"my scene"})
    agent = mine.agent(mine.submit())
    ok(agent.claim())
    urls = ok(agent.call("inputs", md5s=[md5_of(b"my scene"), md5_of(b"their scene")]))["urls"]
    assert requests.get(urls[md5_of(b"my scene")], timeout=10).content == b"my scene"
    assert requests.get(urls[md5_of(b"their scene")], timeout=10).status_code == 404


def test_a_token_of_a_job_that_does_not_exist_is_refused(stranger: Agent) -> None:
    for call in ("claim", "heartbeat", "logs", "outputs", "finish"):
        assert stranger.call(call, **BODIES[call]).status_code == 404


# Claim


def test_a_claim_says_what_to_run_and_starts_the_bill(farm: Farm, ref: JobRef) -> None:
    before = wiring.now()
    answer = ok(farm.agent(ref, "001").claim())
    spec = requests.get(answer.pop("spec_url"), timeout=10).json()
    assert spec == {"environment": {"A": "B"}, "inputs": []}
    assert answer == {
        "attempt": f"{farm.account_id}-{ref.job_id}-001-1",
        "command": "render 1",
        "frames": "1",
        "output_path": "/vol/otter/images",
        "memory_mib": 0,
        "heartbeat_s": 10,
    }
    task = farm.task(ref, "001")
    assert task.status is T.RUNNING
    assert task.live is not None
    assert before <= task.live.started_at == task.live.alive_at
    assert (task.live.instance, task.live.zone) == (INSTANCE, ZONE)
    assert (task.live.orchestrator_id, task.live.price_micros_per_minute) == (
        farm.account_id,
        1500,
    )


def test_a_claim_that_is_repeated_is_answered_the_same_and_changes_nothing(
    farm: Farm, ref: JobRef
) -> None:
    agent = farm.agent(ref)
    first = ok(agent.claim())
    before = farm.state()
    again = ok(agent.claim())
    assert requests.get(again.pop("spec_url"), timeout=10).ok
    del first["spec_url"]
    assert again == first
    assert farm.state() == before


@pytest.mark.parametrize(
    "call",
    [
        "claim",
        "inputs",
        "heartbeat",
        "logs",
        "outputs",
        "finish",
    ],
)
def test_a_second_process_with_the_same_token_is_refused(
    farm: Farm, agent: Agent, call: str
) -> None:
    before = farm.state()
    refused = agent.another_process().call(call, **BODIES[call])
    assert code_of(refused) == (409, "StaleAttempt")
    assert farm.state() == before


def test_nothing_but_a_claim_is_taken_before_the_claim(farm: Farm, ref: JobRef) -> None:
    before = farm.state()
    for call in ("heartbeat", "logs", "outputs", "finish"):
        assert code_of(farm.agent(ref).call(call, **BODIES[call])) == (409, "StaleAttempt")
    assert farm.state() == before


@pytest.mark.parametrize("command", [Command.KILL, Command.HOLD])
@pytest.mark.parametrize("is_carried_out", [False, True])
def test_an_attempt_of_a_job_that_was_killed_or_held_is_withdrawn(
    farm: Farm, ref: JobRef, command: Command, is_carried_out: bool
) -> None:
    order(ref, command, farm.ports)
    if is_carried_out:
        farm.deliver()
    refused = farm.agent(ref).claim()
    # A held task's next attempt has another number.
    withdrawn, stale = (410, "AttemptWithdrawn"), (409, "StaleAttempt")
    assert code_of(refused) == (stale if is_carried_out else withdrawn)
    assert farm.task(ref).attempts == ()
    assert farm.ledger() == []


# Heartbeat


def test_heartbeats_go_on_until_the_job_is_killed(farm: Farm, ref: JobRef, agent: Agent) -> None:
    assert ok(agent.heartbeat()) == {
        "action": "continue",
        "reason": "",
        "heartbeat_s": 10,
        "is_watched": False,
    }
    order(ref, Command.KILL, farm.ports)
    stopped = ok(agent.heartbeat())
    assert (stopped["action"], stopped["reason"]) == ("stop", "the job was killed")
    farm.deliver()
    for call in ("heartbeat", "logs", "outputs"):
        assert code_of(agent.call(call, **BODIES[call])) == (410, "AttemptWithdrawn")


def test_a_job_that_is_held_lets_running_attempts_go_on(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    order(ref, Command.HOLD, farm.ports)
    farm.deliver()
    assert ok(agent.heartbeat())["action"] == "continue"
    assert ok(agent.finish())["status"] == "success"


def test_a_heartbeat_is_noted_once_a_minute_at_most(farm: Farm, ref: JobRef, agent: Agent) -> None:
    claimed = farm.document(ref, "tasks", "000").get().update_time
    for _ in range(3):
        ok(agent.heartbeat(50))
    assert farm.document(ref, "tasks", "000").get().update_time == claimed
    farm.backdate(ref, started=61, alive=61)
    ok(agent.heartbeat(70))
    live = farm.task(ref).live
    assert live is not None
    assert live.alive_at > ago(10)
    assert live.memory_peak_mib == 70
    noted = farm.document(ref, "tasks", "000").get().update_time
    ok(agent.heartbeat(90))
    assert farm.document(ref, "tasks", "000").get().update_time == noted


def test_an_agent_hears_whether_somebody_watches(farm: Farm, ref: JobRef, agent: Agent) -> None:
    task = TaskRef(*ref, "000")
    farm.ports.jobs.watch(task, wiring.now() + timedelta(minutes=1))
    assert ok(agent.heartbeat())["is_watched"] is True
    farm.ports.jobs.watch(task, ago(1))
    assert ok(agent.heartbeat())["is_watched"] is False


# What the scheduler was told


def test_the_token_that_the_scheduler_hands_on_is_good_for_its_attempt(
    farm: Farm, ref: JobRef
) -> None:
    environment = farm.environment(f"{farm.account_id}-{ref.job_id}-001-1")
    assert environment["BATON_AGENT_URL"] == wiring.setting("BATON_AGENT_URL")
    agent = farm.agent(ref)
    agent.token = environment["BATON_ATTEMPT_TOKEN"]
    assert ok(agent.claim())["attempt"].endswith("-001-1")


def test_only_calls_of_the_protocol_are_answered(farm: Farm) -> None:
    web = farm.apps["dispatch"].test_client()
    assert web.get("/agent/v1/claim").status_code == 405
    assert web.post("/agent/v1/explode").status_code == 404
    assert web.get("/healthz").json == {"status": "ok"}
