"""The calls of an agent: good bodies, what answers say, and agents to make them."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared import wiring
from shared.models.job import AttemptRef, JobRef
from tests.md5 import md5_of
from tests.services.agent import INSTANCE, ZONE, Agent
from tests.services.farm import Farm
from tests.services.rig import Rig

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


@pytest.fixture(name="ref")
def ref_fixture(farm: Farm) -> JobRef:
    """A job of two tasks, whose first attempts are at the scheduler."""
    return farm.submit(2)


@pytest.fixture(name="agent")
def agent_fixture(farm: Farm, ref: JobRef) -> Agent:
    """The agent that claimed the first task."""
    made = farm.agent(ref)
    assert made.claim().status_code == 200
    return made


@pytest.fixture(name="stranger")
def stranger_fixture(rig: Rig) -> Agent:
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
    assert answer.json is not None
    found: dict[str, Any] = answer.json
    return found
