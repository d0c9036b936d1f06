"""Jobs as an operator lists, shows and commands them."""

import pytest

from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import TaskStatus
from shared.services.attempts import log_name
from tests.services.farm import Farm
from tests.tools.commands import refused, run, told


def statuses(farm: Farm, ref: JobRef) -> dict[str, str]:
    """Return the status of each task, once every message has been delivered."""
    farm.deliver()
    tasks = told("job", "show", farm.account_id, ref.job_id)["tasks"]
    return {each["task_id"]: each["status"] for each in tasks}


def ids_of(*words: object) -> list[str]:
    return [each["job_id"] for each in told("job", "list", *words)["jobs"]]


def test_jobs_are_listed_newest_first_as_they_are_asked_for(farm: Farm) -> None:
    first = farm.create(project="otter", owner="ines")
    second = farm.create(project="reef", owner="kai")
    third = farm.create(project="otter", owner="kai")
    all_of_them = [third.job_id, second.job_id, first.job_id]
    assert ids_of(farm.account_id) == all_of_them
    assert ids_of(farm.account_id, "--active") == all_of_them
    assert ids_of(farm.account_id, "--project", "otter", "--owner", "ines") == [first.job_id]
    assert ids_of(farm.account_id, "--owner", "kai", "--limit", 1) == [third.job_id]
    assert ids_of(farm.account_id, "--status", "pending", "--status", "running") == all_of_them
    assert ids_of(farm.account_id, "--status", "failed") == []
    assert run("job", "list", farm.account_id, "--status", "lost").exit_code == 2


def test_an_ended_job_is_no_active_one(farm: Farm) -> None:
    ended, open_ = farm.submit(1), farm.submit(1)
    farm.run(ended)
    farm.deliver()
    assert ids_of(farm.account_id, "--active") == [open_.job_id]
    assert ids_of(farm.account_id, "--status", "success") == [ended.job_id]


def test_each_task_says_why_it_waits(farm: Farm) -> None:
    farm.limit(2)
    ref = farm.submit(4)
    assert farm.agent(ref).claim().status_code == 200
    farm.deliver()
    shown = told("job", "show", farm.account_id, ref.job_id)
    assert {each["task_id"]: each["waiting_for"] for each in shown["tasks"]} == {
        "000": None,
        "001": "scheduler",
        "002": "limit",
        "003": "limit",
    }
    assert (shown["job_id"], shown["task_count"]) == (ref.job_id, 4)
    limited = told("job", "show", farm.account_id, ref.job_id, "--limit", 1)
    assert len(limited["tasks"]) == 1


def test_a_job_is_shown_with_the_instances_that_are_blocked_for_it(farm: Farm) -> None:
    ref = farm.submit(6)
    farm.run(ref, "000")
    words = ("job", "show", farm.account_id, ref.job_id)
    assert told(*words)["blocked_instances"] == []
    for task_id in ("001", "002", "003", "004"):
        farm.run(ref, task_id, outcome="failed", instance="instance-bad")
    farm.push("settle", ref)
    blocked = [{"instance": "instance-bad", "failed_count": 4}]
    assert told(*words)["blocked_instances"] == blocked
    assert "instance-bad" in run(*words).stdout


def test_a_task_is_shown_with_every_attempt(farm: Farm) -> None:
    ref = farm.submit(1)
    farm.run(ref, outcome="failed")
    told("job", "retry", farm.account_id, ref.job_id)
    farm.deliver()
    farm.run(ref, number=2)
    shown = told("job", "show", farm.account_id, ref.job_id.lstrip("0"), "--task", "0")
    outcomes = [(each["number"], each["outcome"]) for each in shown["attempts"]]
    assert outcomes == [(1, "failed"), (2, "success")]


def test_the_log_of_each_attempt_is_there_while_it_runs_and_after(farm: Farm) -> None:
    ref = farm.submit(1)
    agent = farm.agent(ref)
    agent.claim()
    agent.call("logs", first_line=0, lines=["Fra:1", "\x1b]0;owned\x07Saved"])
    words = ("job", "log", farm.account_id, ref.job_id, "0")
    assert told(*words)["lines"] == ["Fra:1", "\x1b]0;owned\x07Saved"]
    shown = run(*words).stdout
    assert ("\x1b" in shown, "owned" in shown) == (False, True)
    assert farm.task(ref).watched_until is not None
    assert told(*words, "--attempt", "7")["lines"] == []
    agent.finish()
    whole = log_name(AttemptRef(*ref, "000", 1))
    farm.ports.blobs.write(whole, b"Fra:1\r 50%\r 99%\nFra:2\x0c\x85\nSaved\n", "text/plain")
    assert told(*words)["lines"] == ["Fra:1\r 50%\r 99%", "Fra:2\x0c\ufffd", "Saved"]


def test_a_job_is_held_let_go_and_killed_by_the_same_tables_as_the_api(farm: Farm) -> None:
    ref = farm.submit(2)
    words = (farm.account_id, ref.job_id)
    told("job", "hold", *words)
    assert set(statuses(farm, ref).values()) == {"holding"}
    told("job", "unhold", *words)
    assert set(statuses(farm, ref).values()) == {"pending"}
    told("job", "kill", *words, "--yes")
    assert set(statuses(farm, ref).values()) == {"killed"}
    assert "does not apply" in refused("job", "hold", *words)
    told("job", "retry", *words)
    assert set(statuses(farm, ref).values()) == {"pending"}
    assert farm.findings(ref) == []


def test_killing_asks_first(farm: Farm) -> None:
    ref = farm.submit(1)
    result = run("job", "kill", farm.account_id, ref.job_id, says="n\n")
    assert (result.exit_code, ref.job_id in result.stderr) == (1, True)
    assert statuses(farm, ref) == {"000": "pending"}


def test_single_tasks_are_commanded(farm: Farm) -> None:
    ref = farm.submit(3)
    told("job", "kill", farm.account_id, ref.job_id, "--task", "1", "--yes")
    assert statuses(farm, ref) == {"000": "pending", "001": "killed", "002": "pending"}
    told("job", "retry", farm.account_id, ref.job_id, "--task", "001", "--only", "all")
    assert statuses(farm, ref)["001"] == "pending"
    assert "009" in refused("job", "hold", farm.account_id, ref.job_id, "--task", "9")


def test_only_what_failed_is_tried_again(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000", outcome="failed")
    farm.run(ref, "001")
    told("job", "retry", farm.account_id, ref.job_id, "--only", "failed")
    assert statuses(farm, ref) == {"000": "pending", "001": "success"}


def test_what_waits_for_scouts_is_released(farm: Farm) -> None:
    ref = farm.submit(3, scouts=[0])
    shown = told("job", "show", farm.account_id, ref.job_id)
    assert {each["task_id"]: each["waiting_for"] for each in shown["tasks"]} == {
        "000": "scheduler",
        "001": "scout",
        "002": "scout",
    }
    told("job", "release", farm.account_id, ref.job_id)
    assert statuses(farm, ref) == dict.fromkeys(("000", "001", "002"), "pending")
    assert "waits for no scouts" in refused("job", "release", farm.account_id, ref.job_id)


def test_what_somebody_holds_is_not_released(farm: Farm) -> None:
    ref = farm.submit(2, scouts=[0])
    told("job", "hold", farm.account_id, ref.job_id)
    assert "is held" in refused("job", "release", farm.account_id, ref.job_id)
    assert set(statuses(farm, ref).values()) == {"holding"}


def test_a_job_is_edited_and_reviewed(farm: Farm) -> None:
    ref = farm.submit(1, standard_micros_per_minute=6000)
    words = (farm.account_id, ref.job_id)
    told("job", "edit", *words, "--priority", 8, "--max-instances", 3)
    job: Job = farm.job(ref)
    assert (job.priority, job.max_instances) == (8, 3)
    assert "priority" in refused("job", "edit", *words, "--priority", "-1")
    assert "instance_type" in refused("job", "edit", *words, "--instance-type", "mars")
    policy = ("--preempted-retries", 4, "--standard-after", 2, "--out-of-memory-retries", 0)
    told("job", "edit", *words, *policy)
    job = farm.job(ref)
    assert (job.preempted_retries, job.standard_after, job.out_of_memory_retries) == (4, 2, 0)
    assert "standard_after" in refused("job", "edit", *words, "--standard-after", 10)
    assert "does not apply" in refused("job", "reviewed", *words)
    farm.deliver()
    farm.run(ref, number=farm.task(ref).attempt)
    farm.deliver()
    told("job", "reviewed", *words)
    assert farm.job(ref).reviewed_by == "operator"


def test_of_several_jobs_those_that_can_follow(farm: Farm) -> None:
    ended, open_ = farm.submit(1), farm.submit(1)
    farm.run(ended)
    farm.deliver()
    said = refused("job", "hold", farm.account_id, ended.job_id, open_.job_id)
    assert ended.job_id in said
    assert statuses(farm, open_) == {"000": TaskStatus.HOLDING}


@pytest.mark.parametrize("name", ["hold", "unhold", "kill", "retry", "release", "reviewed", "edit"])
def test_of_a_job_that_does_not_exist_nothing_is_commanded(farm: Farm, name: str) -> None:
    ref = farm.submit(1)
    options = {"kill": ["--yes"], "edit": ["--priority", "8"]}.get(name, [])
    said = refused("job", name, farm.account_id, ref.job_id, "777", *options)
    assert said == f"Error: account {farm.account_id} has no job 00777\n"
    assert farm.job(ref).command is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "777"), "has no job 00777"),
        (("show", "otter"), "job: 'otter' is no job id"),
        (("log", "777", "0"), "has no job 00777"),
        (("log", "1", "otter"), "task: 'otter' is no task id"),
        (("log", "1", "777"), "has no task 777"),
        (("show", "1", "--task", "777"), "has no task 777"),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, tuple) else "",
)
def test_what_does_not_exist_is_told_in_a_sentence(
    farm: Farm, words: tuple[str, ...], sentence: str
) -> None:
    farm.submit(1)
    assert sentence in refused("job", words[0], farm.account_id, *words[1:])


def test_a_name_that_an_artist_chose_can_do_nothing_to_a_terminal(farm: Farm) -> None:
    farm.create(title="\x1b[2J\r\x9b31mbeauty")
    shown = run("job", "list", farm.account_id).stdout
    assert "beauty" in shown
    assert not {"\x1b", "\r", "\x9b"} & set(shown)
