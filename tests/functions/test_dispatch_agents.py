"""What agents call at the function `dispatch`: docs/protocol.md, call by call."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from werkzeug.test import TestResponse

from shared import wiring
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef, Command, JobRef, TaskRef
from shared.models.task import Outcome, TaskStatus
from shared.services.attempts import log_name, manifest_name, output_name
from shared.services.control import order
from tests.services.farm import (
    INSTANCE,
    ZONE,
    Agent,
    Farm,
    Rig,
    ago,
    farm_fixture,
    md5_of,
    new_farm_fixture,
    rig_fixture,
)

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture"]

T = TaskStatus
FRAME = b"a frame"
MD5 = md5_of(FRAME)
OUTPUT = {"relative_path": "beauty/f.0001.exr", "md5": MD5, "size": len(FRAME)}

# A good body of each call, besides `claim`.
BODIES: dict[str, dict[str, Any]] = {
    "claim": {"instance": INSTANCE, "zone": ZONE},
    "inputs": {"md5s": [MD5]},
    "heartbeat": {"phase": "rendering", "memory_peak_mib": 100},
    "logs": {"first_line": 0, "lines": ["one"]},
    "outputs": {"files": [OUTPUT]},
    "finish": {
        "outcome": "success",
        "exit_code": 0,
        "reason": "",
        "memory_peak_mib": 100,
        "outputs": [OUTPUT],
    },
}


@pytest.fixture
def ref(farm: Farm) -> JobRef:
    """A job of two tasks, whose first attempts are at the scheduler."""
    return farm.submit(2)


@pytest.fixture
def agent(farm: Farm, ref: JobRef) -> Agent:
    """The agent that claimed the first task."""
    made = farm.agent(ref)
    assert made.claim().status_code == 200
    return made


@pytest.fixture
def stranger(rig: Rig) -> Agent:
    """An agent with a good token of a job that is not there: what is wrong with a body is told first."""
    attempt = AttemptRef("nobody", "00001", "000", 1)
    token = wiring.tokens().issue_attempt(attempt, wiring.now())
    return Agent(web=rig.apps["dispatch"].test_client(), token=token)


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Return an error's status and name."""
    assert answer.json is not None
    return answer.status_code, answer.json["error"]["code"]


def ok(answer: TestResponse) -> dict[str, Any]:
    """Return what a good answer says."""
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


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


# What a body may hold

WRONG: list[tuple[str, str, Any]] = [
    *[(call, "claim", wrong) for call in BODIES for wrong in (None, 7, "x" * 15, "x" * 65)],
    *[("claim", name, wrong) for name in ("instance", "zone") for wrong in (None, 7, ["i"])],
    *[("inputs", "md5s", wrong) for wrong in (None, "x", {MD5: 1}, [1], [None])],
    *[("heartbeat", "memory_peak_mib", wrong) for wrong in (-1, 1.5, "100", True)],
    *[("logs", "first_line", wrong) for wrong in (-1, 1.5, "0", False)],
    *[("logs", "lines", wrong) for wrong in (None, "one", [1], [["one"]])],
    *[("outputs", "files", wrong) for wrong in (None, "f", [1], {"f": 1})],
    *[("finish", "outputs", wrong) for wrong in (None, "f", [1], {"f": 1})],
    *[("finish", "outcome", wrong) for wrong in (None, "", "lost", "done", 7, ["success"], {})],
    *[("finish", "exit_code", wrong) for wrong in ("0", 1.5, True)],
    *[("finish", "reason", wrong) for wrong in (None, 7)],
    *[("finish", "memory_peak_mib", wrong) for wrong in (-1, "1", 1e30)],
]


@pytest.mark.parametrize(("call", "name", "wrong"), WRONG, ids=str)
def test_a_field_that_is_wrong_is_refused_by_its_name(
    stranger: Agent, call: str, name: str, wrong: object
) -> None:
    answer = stranger.send(call, {"claim": stranger.claim_id} | BODIES[call] | {name: wrong})
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    assert list(answer.json["error"]["fields"]) == [name]


@pytest.mark.xfail(
    strict=True,
    reason="no upper bound: what Firestore cannot hold is a crash, 500, and the agent tries again",
)
@pytest.mark.parametrize(
    ("call", "name"),
    [("heartbeat", "memory_peak_mib"), ("logs", "first_line"), ("finish", "exit_code")],
)
def test_a_number_that_no_document_can_hold_is_refused(
    farm: Farm, ref: JobRef, agent: Agent, call: str, name: str
) -> None:
    farm.backdate(ref, started=90, alive=90)  # so that the heartbeat is noted
    answer = agent.call(call, **BODIES[call] | {name: 2**63})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("call", ["outputs", "finish"])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("relative_path", None),
        ("relative_path", 7),
        ("md5", None),
        ("md5", "0" * 32),
        ("md5", "not base64!"),
        ("size", -1),
        ("size", "7"),
    ],
)
def test_a_file_that_is_described_wrongly_is_refused_by_the_name_of_its_field(
    stranger: Agent, call: str, name: str, wrong: object
) -> None:
    listed = "files" if call == "outputs" else "outputs"
    answer = stranger.call(call, **BODIES[call] | {listed: [OUTPUT | {name: wrong}]})
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    assert list(answer.json["error"]["fields"]) == [name]


def test_an_md5_that_is_none_is_refused(stranger: Agent) -> None:
    for wrong in ("", "0" * 32, "?", "..", f"../{MD5}"):
        answer = stranger.call("inputs", md5s=[MD5, wrong])
        assert answer.status_code == 422
        assert answer.json is not None
        assert list(answer.json["error"]["fields"]) == ["md5"]


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'"text"', b"null"])
def test_a_body_that_is_no_json_object_is_refused(stranger: Agent, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {stranger.token}"}
    for call in BODIES:
        answer = stranger.web.post(f"/agent/v1/{call}", headers=headers, data=body)
        assert code_of(answer) == (422, "InvalidRequest")


@pytest.mark.parametrize(
    ("call", "name", "item", "most"),
    [
        ("inputs", "md5s", MD5, 500),
        ("logs", "lines", "line", 500),
        ("outputs", "files", OUTPUT, 500),
        ("finish", "outputs", OUTPUT, 100_000),
    ],
)
def test_a_list_that_is_too_long_is_refused(
    stranger: Agent, call: str, name: str, item: object, most: int
) -> None:
    answer = stranger.call(call, **BODIES[call] | {name: [item] * (most + 1)})
    assert code_of(answer) == (413, "TooLarge")


def test_a_list_may_have_500_entries(agent: Agent) -> None:
    files = [OUTPUT | {"relative_path": f"f.{i:04}.exr"} for i in range(500)]
    ok(agent.call("inputs", md5s=[md5_of(b"%d" % i) for i in range(500)]))
    ok(agent.call("logs", first_line=0, lines=["line"] * 500))
    assert len(ok(agent.call("outputs", files=files))["urls"]) == 500
    ok(agent.finish(outputs=files))


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
        pytest.param(
            "inputs",
            marks=pytest.mark.xfail(
                strict=True, reason="`inputs` looks neither at the claim nor at the attempt"
            ),
        ),
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


# Logs


def test_lines_of_a_log_are_kept_and_replaced(farm: Farm, ref: JobRef, agent: Agent) -> None:
    attempt = AttemptRef(*ref, "000", 1)
    ok(agent.call("logs", first_line=2, lines=["three"]))
    ok(agent.call("logs", first_line=0, lines=["one", "zwö"]))
    assert farm.ports.jobs.log_lines(attempt) == ["one", "zwö", "three"]
    ok(agent.call("logs", first_line=0, lines=["one", "two"]))
    assert farm.ports.jobs.log_lines(attempt) == ["one", "two", "three"]


@pytest.mark.xfail(
    strict=True,
    reason="one document takes all lines of a call; over 1 MiB Firestore refuses, 500, and the agent tries again",
)
def test_as_many_of_the_longest_lines_as_an_agent_sends_are_kept(
    farm: Farm, ref: JobRef, agent: Agent
) -> None:
    lines = ["x" * 4000] * 500
    ok(agent.call("logs", first_line=0, lines=lines))
    assert farm.ports.jobs.log_lines(AttemptRef(*ref, "000", 1)) == lines


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


@pytest.mark.parametrize("call", ["outputs", "finish"])
@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../f.exr", "a/../../f.exr", "a/./f.exr", "/f.exr", "a//f.exr", "a/", "a\0b"],
)
def test_a_path_that_leaves_the_output_folder_is_refused(
    stranger: Agent, call: str, path: str
) -> None:
    listed = "files" if call == "outputs" else "outputs"
    answer = stranger.call(call, **BODIES[call] | {listed: [OUTPUT | {"relative_path": path}]})
    assert answer.status_code == 422, answer.text
    assert answer.json is not None
    assert list(answer.json["error"]["fields"]) == ["relative_path"]


@pytest.mark.parametrize(
    "path",
    ["..\\..\\f.exr", "a\\..\\..\\f.exr", "C:\\f.exr", "C:/f.exr", "\\f.exr", "a\nb.exr", "a\x7f"],
)
def test_a_path_that_leaves_the_folder_on_the_artists_windows_is_refused(
    stranger: Agent, path: str
) -> None:
    answer = stranger.call("outputs", files=[OUTPUT | {"relative_path": path}])
    assert answer.status_code == 422, answer.text


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
    assert len(farm.task(ref).attempts[0].reason) == 2000
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
    assert ok_status(farm, ref, 1, "preempted") == "pending"
    farm.deliver()
    assert farm.placed(ref) == ["000-1", "000-2"]
    assert ok_status(farm, ref, 2, "preempted") == "preempted"
    assert farm.ledger() == [("000-1", "preempted", 1), ("000-2", "preempted", 1)]


def ok_status(farm: Farm, ref: JobRef, number: int, outcome: str) -> object:
    agent = farm.agent(ref, number=number)
    ok(agent.claim())
    return ok(agent.finish(outcome))["status"]


def test_a_machine_that_is_about_to_go_gets_no_more_work(farm: Farm, agent: Agent) -> None:
    farm.join(INSTANCE)
    ok(agent.finish("preempted"))
    (node,) = farm.scheduler.nodes()
    assert (node.name, node.is_eligible) == (INSTANCE, False)


def test_a_scheduler_that_does_not_answer_keeps_no_preempted_attempt_from_its_end(
    farm: Farm, agent: Agent
) -> None:
    farm.fail_scheduler(method="GET", path="^/v1/nodes")
    assert ok(agent.finish("preempted"))["status"] == "preempted"


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
