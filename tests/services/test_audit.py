"""The audit finds every kind of broken books, and is silent on good ones."""

from collections.abc import Callable
from typing import Any

from google.cloud.firestore import DELETE_FIELD

from shared import wiring
from shared.models.job import JobRef
from tests.services.farm import Farm, ago

Spoil = Callable[[Farm, JobRef], object]


def books(farm: Farm) -> JobRef:
    """Return a job with a task that ended, one that runs, one at the scheduler, and one that waits for the limit."""
    farm.limit(2)
    ref = farm.submit(4)
    farm.run(ref)
    assert farm.agent(ref, "001").claim().status_code == 200
    farm.push("admit")
    farm.push("settle", ref)
    return ref


def entry(farm: Farm, ref: JobRef, attempt: str) -> Any:
    """Return a reference to an attempt's entry in the ledger."""
    path = f"accounts/{farm.account_id}/ledger/{ref.job_id}-{attempt}"
    return wiring.firestore_client().document(path)


def on_job(fields: dict[str, object]) -> Spoil:
    return lambda farm, ref: farm.document(ref).update(fields)


def on_page(fields: dict[str, object]) -> Spoil:
    return lambda farm, ref: farm.document(ref, "pages", "0").update(fields)


def on_task(task_id: str, fields: dict[str, object]) -> Spoil:
    return lambda farm, ref: farm.document(ref, "tasks", task_id).update(fields)


def on_entry(fields: dict[str, object]) -> Spoil:
    return lambda farm, ref: entry(farm, ref, "000-1").update(fields)


def one_entry_more(attempt: str, path: str) -> Spoil:
    """Bill an attempt, by the first one's entry, in a document of this name."""

    def spoil(farm: Farm, ref: JobRef) -> None:
        fields = entry(farm, ref, "000-1").get().to_dict() or {}
        attempt_id = f"{farm.account_id}-{ref.job_id}-{attempt}"
        entry(farm, ref, path).set(fields | {"attempt": attempt_id})

    return spoil


def on_attempts(task_id: str, *changes: dict[str, object]) -> Spoil:
    """Replace a task's only attempt by one with each of these changes."""

    def spoil(farm: Farm, ref: JobRef) -> None:
        document = farm.document(ref, "tasks", task_id)
        (attempt,) = (document.get().to_dict() or {})["attempts"]
        document.update({"attempts": [attempt | each for each in changes]})

    return spoil


BROKEN: list[tuple[str, Spoil]] = [
    ("1: 3 tasks of 4 are there", lambda f, ref: f.document(ref, "tasks", "003").delete()),
    ("2: task 002 is running with 0 live", on_task("002", {"status": "running"})),
    ("2: task 001 is pending with 1 live", on_task("001", {"status": "pending"})),
    ("2: task 001 is running with 2 live", on_attempts("001", {}, {"number": 2})),
    ("2: task 000 at attempt 1 has attempts [1, 1]", on_attempts("000", {}, {})),
    ("2: task 000 at attempt 1 has attempts [2]", on_attempts("000", {"number": 2})),
    ("3: page 0 counts", on_page({"counts.pending": 7})),
    ("3: page 0 shows other statuses", on_page({"statuses.`003`": "failed"})),
    ("3: page 0 shows other attempts", on_page({"attempts.`003`": 2})),
    ("3: the job counts", on_job({"counts.pending": 1})),
    ("3: the job is running, ended: True", on_job({"ended_at": ago(0)})),
    ("4: page 0 has 2 in flight, says 3", on_page({"admitted_count": 4})),
    ("4: page 0 has 2 in flight, says 1", on_page({"ended_count": 2})),
    ("4: page 0 has 1 in flight, says 2", on_page({"placed.`002`": DELETE_FIELD})),
    ("5: the job cost 1, its pages 1500", on_job({"cost_micros": 1})),
    ("5: the job cost 1500, its pages 1", on_page({"cost_micros": 1})),
    ("000-1 is not in the ledger", lambda f, ref: entry(f, ref, "000-1").delete()),
    ("is billed 1, ran 1 minutes at 1500", on_entry({"cost_micros": 1})),
    ("is billed 1500, ran 1 minutes at 1500", on_entry({"billed_minutes": 2})),
    ("is billed 1500, ran 1 minutes at 2", on_attempts("000", {"price_micros_per_minute": 2})),
    ("5: the ledger says 1, the job 1500", on_entry({"cost_micros": 1})),
    ("5: the ledger says 3000, the job 1500", one_entry_more("000-7", "000-7")),
    ("000-7 is billed, and has never ended", one_entry_more("000-7", "000-7")),
    ("001-1 is billed, and has never ended", one_entry_more("001-1", "001-1")),
    ("009-1 is billed, and has never ended", one_entry_more("009-1", "009-1")),
    ("000-1 is billed 2 times", one_entry_more("000-1", "once-more")),
    ("000-1 is not in the ledger", on_entry({"job_id": "00077"})),
    ("2 attempts in flight, the account's limit is 1", lambda f, _: f.limit(1)),
]


def test_every_kind_of_broken_books_is_found(farm: Farm) -> None:
    ref = books(farm)
    good = farm.documents()
    found = {}
    for finding, spoil in BROKEN:
        assert farm.findings(ref) == [], f"before {finding}"
        spoil(farm, ref)
        found[finding] = farm.findings(ref)
        farm.restore(good)
    missed = {
        finding: told
        for finding, told in found.items()
        if not any(finding in each for each in told)
    }
    assert missed == {}


def test_a_page_that_is_missing_is_found(farm: Farm) -> None:
    ref = books(farm)
    farm.document(ref, "pages", "0").delete()
    assert f"job {ref.job_id}: 1: 0 tasks of 4 are there" in farm.findings(ref)


def test_tasks_that_wait_for_nothing_that_is_known_are_found(farm: Farm) -> None:
    farm.limit(0)
    ref = farm.submit(2)
    farm.push("settle", ref)
    assert farm.findings(ref) == []
    farm.document(ref).update({"waiting_for": None})
    assert farm.findings(ref) == [f"job {ref.job_id}: 1: 2 tasks wait, and nothing says for what"]


def test_every_job_is_named_with_what_is_wrong_with_it(farm: Farm) -> None:
    good, bad = farm.submit(), farm.submit()
    for ref in (good, bad):
        farm.push("settle", ref)
    farm.document(bad).update({"cost_micros": 5})
    found = farm.findings(good, bad)
    assert found
    assert all(each.startswith(f"job {bad.job_id}: ") for each in found)


def test_the_books_of_a_job_that_has_ended_are_good(farm: Farm) -> None:
    ref = farm.submit(3, preempted_retries=1)
    farm.run(ref, outcome="preempted")
    farm.deliver()
    farm.run(ref, number=2)
    farm.run(ref, "001", outcome="failed")
    farm.run(ref, "002", outcome="out_of_memory")
    farm.deliver()
    assert farm.job(ref).is_ended
    assert farm.findings(ref) == []
