"""What was used, whether the books are right, and messages that failed."""

import json

import pytest
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.types import PubsubMessage

from shared import wiring
from shared.services.meter import meter
from tests.services.farm import Farm
from tests.services.rig import PROJECT
from tests.tools.commands import refused, run, told


def die(topic: str, *bodies: bytes) -> list[str]:
    """Put messages where those end up that failed too often; returns their ids."""
    name = f"projects/{PROJECT}/topics/{topic}-dead"
    sent = PublisherClient().publish(
        topic=name, messages=[PubsubMessage(data=body) for body in bodies]
    )
    return list(sent.message_ids)


def order(farm: Farm, number: int) -> bytes:
    return json.dumps({"account_id": farm.account_id, "n": number}).encode()


def dead() -> list[dict[str, object]]:
    return list(told("dead-letter", "list")["dead_letters"])


def test_each_day_is_told_with_what_it_cost(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref, "000")
    farm.run(ref, "001", outcome="failed")
    today = wiring.now().date()
    meter(farm.account_id, today, farm.ports)
    found = told("usage", "days", farm.account_id)
    assert len(found["days"]) == 7
    last = found["days"][-1]
    assert (last["date"], last["attempt_count"], last["billed_minutes"]) == (str(today), 2, 2)
    assert last["wasted_micros"] == 1500
    assert last["by_project_micros"] == {"otter": 3000}
    assert (found["total_cost_micros"], found["total_attempt_count"]) == (3000, 2)
    alone = told("usage", "days", farm.account_id, "--from", today, "--to", today)
    assert alone["days"] == [last]
    assert "$0.0030" in run("usage", "days", farm.account_id).stdout


def test_days_that_make_no_sense_are_refused_by_their_name(farm: Farm) -> None:
    words = ("usage", "days", farm.account_id)
    assert "from" in refused(*words, "--from", "2026-03-02", "--to", "2026-03-01")
    assert "from" in refused(*words, "--from", "2020-01-01", "--to", "2026-03-01")
    assert "--from" in refused(*words, "--from", "yesterday", code=2)


def test_an_audit_of_right_books_finds_nothing(farm: Farm) -> None:
    ref = farm.submit(2)
    farm.run(ref)
    farm.deliver()
    assert told("audit", "run", farm.account_id)["broken"] == []
    assert told("audit", "run", farm.account_id, "--job", ref.job_id)["job_count"] == 1


def test_an_audit_of_wrong_books_says_so_and_ends_with_1(farm: Farm) -> None:
    ref = farm.submit(1)
    farm.document(ref).update({"cost_micros": 7})
    result = run("audit", "run", farm.account_id, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["job_count"] == 1
    assert f"job {ref.job_id}: 5: the job cost 7, its pages 0" in found["broken"]


@pytest.mark.usefixtures("dead_topics")
def test_dead_letters_stay_until_they_are_sent_again(farm: Farm) -> None:
    ids = die("admit", order(farm, 1), order(farm, 2)) + die("settle", order(farm, 3))
    assert {each["message_id"] for each in dead()} == set(ids)
    assert {each["message_id"] for each in dead()} == set(ids)
    (only,) = told("dead-letter", "list", "--topic", "settle")["dead_letters"]
    assert only["body"] == {"account_id": farm.account_id, "n": 3}
    assert len(told("dead-letter", "replay", "--id", ids[0])["replayed"]) == 1
    assert farm.published() == [("admit", {"account_id": farm.account_id, "n": 1})]
    told("dead-letter", "replay")
    assert sorted(body["n"] for _, body in farm.published()) == [2, 3]
    assert dead() == []


@pytest.mark.usefixtures("dead_topics")
def test_dead_letters_are_forgotten_on_demand_only(farm: Farm) -> None:
    ids = die("admit", order(farm, 1), order(farm, 2))
    words = ("dead-letter", "discard", "--topic", "admit", "--id", ids[0])
    assert run(*words, says="n\n").exit_code == 1
    assert len(dead()) == 2
    assert [each["message_id"] for each in told(*words, "--yes")["discarded"]] == [ids[0]]
    assert [each["message_id"] for each in dead()] == [ids[1]]
    assert farm.published() == []


@pytest.mark.usefixtures("dead_topics")
def test_a_letter_that_no_handler_could_read_is_never_sent_again(farm: Farm) -> None:
    (message_id,) = die("admit", b"\xff[1]")
    assert told("dead-letter", "replay")["replayed"] == []
    assert [each["message_id"] for each in dead()] == [message_id]


@pytest.mark.usefixtures("dead_topics")
def test_a_dead_letter_that_does_not_exist_stops_the_whole_command(farm: Farm) -> None:
    ids = die("admit", order(farm, 1))
    for words in (("replay",), ("discard", "--yes")):
        said = refused("dead-letter", *words, "--id", ids[0], "--id", "777777")
        assert said == "Error: there is no dead letter 777777\n"
    assert [each["message_id"] for each in dead()] == ids
    assert farm.published() == []
