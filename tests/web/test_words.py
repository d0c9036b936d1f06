"""The dashboard's words and marks keep up with the server's statuses and reasons."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.models.job import JobStatus
from shared.models.task import Outcome, TaskStatus, WaitingFor

SOURCES = Path(__file__).parents[2] / "web/src"
SCRIPT = """
import { JOB_GROUPS, TASK_STATUSES, reasonWords } from "./statuses.js";
const reasons = JSON.parse(process.argv[1]).map((code) => [code, reasonWords(code)]);
console.log(JSON.stringify({ JOB_GROUPS, TASK_STATUSES, reasons: Object.fromEntries(reasons) }));
"""


@pytest.fixture(scope="module")
def words() -> dict[str, Any]:
    """What src/statuses.js says."""
    codes = json.dumps(list(WaitingFor))
    command = ["node", "--input-type=module", "--eval", SCRIPT, codes]
    done = subprocess.run(command, cwd=SOURCES, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_job_status_is_in_one_group_of_the_list(words: dict[str, Any]) -> None:
    grouped = [status for group in words["JOB_GROUPS"] for status in group["statuses"]]
    assert sorted(grouped) == sorted(JobStatus)


def test_every_task_status_has_its_place_in_the_bar(words: dict[str, Any]) -> None:
    assert sorted(words["TASK_STATUSES"]) == sorted(TaskStatus)


def test_every_reason_to_wait_has_words_of_its_own(words: dict[str, Any]) -> None:
    bare = {code for code, said in words["reasons"].items() if said == code.replace("_", " ")}
    assert bare == set()


def test_every_status_and_outcome_has_a_mark() -> None:
    marked = set(re.findall(r'data-status="(\w+)"', (SOURCES / "styles/status.css").read_text()))
    assert marked >= {*JobStatus, *TaskStatus, *Outcome}
