"""Accounts, their limits and their defaults."""

import pytest

from shared import wiring
from tests.services.farm import Farm
from tests.tools.commands import refused, run, told

NOT_THERE = "there is no account nobody"


def test_an_account_is_shown_as_it_was_created(farm: Farm) -> None:
    told(
        "account", "create", "reef", "--name", "Reef", "--max-instances", 7, "--provider", "aws",
        "--requests-per-s", 20, "--variable", "LIC=a=b",
    )  # fmt: skip
    assert told("account", "show", "reef") == {
        "account_id": "reef",
        "name": "Reef",
        "max_instances": 7,
        "requests_per_s": 20,
        "provider": "aws",
        "variables": [{"name": "LIC", "value": "a=b", "merge_policy": "exclusive"}],
    }
    listed = told("account", "list")["accounts"]
    assert [each["account_id"] for each in listed] == sorted(["reef", farm.account_id])


def test_a_limit_is_set_and_nothing_else_changes(farm: Farm) -> None:
    before = told("account", "show", farm.account_id)
    told("account", "limits", "set", farm.account_id, "--max-instances", 3)
    assert told("account", "limits", "show", farm.account_id)["max_instances"] == 3
    assert told("account", "show", farm.account_id) == before | {"max_instances": 3}


def test_a_higher_limit_lets_what_waits_start_at_once(farm: Farm) -> None:
    told("account", "limits", "set", farm.account_id, "--max-instances", 30)
    assert farm.published("admit") == [("admit", {"account_id": farm.account_id})]


@pytest.mark.parametrize(
    ("words", "field"),
    [(("--max-instances", "-1"), "max_instances"), (("--requests-per-s", "0"), "requests_per_s")],
)
def test_a_limit_that_makes_no_sense_is_refused_by_its_name(
    farm: Farm, words: tuple[str, str], field: str
) -> None:
    assert field in refused("account", "limits", "set", farm.account_id, *words)
    assert told("account", "limits", "show", farm.account_id)["max_instances"] == 10


def test_a_default_is_added_replaced_and_taken_away_by_itself(farm: Farm) -> None:
    words = ("account", "defaults", "set", farm.account_id)
    told(*words, "--variable", "A=1", "--variable", "B=2")
    told(*words, "--variable", "B=3", "--variable", "C=4")
    told(*words, "--unset", "A", "--provider", "aws")
    found = told("account", "defaults", "show", farm.account_id)
    assert {each["name"]: each["value"] for each in found["variables"]} == {"B": "3", "C": "4"}
    assert found["provider"] == "aws"
    assert "not set: A" in refused(*words, "--unset", "A")
    assert "variables" in refused(*words, "--variable", "no name=x")


def test_an_account_is_called_something_else(farm: Farm) -> None:
    assert told("account", "edit", farm.account_id, "--name", "Kelp")["name"] == "Kelp"
    assert wiring.account_store().account(farm.account_id).name == "Kelp"
    assert "name" in refused("account", "edit", farm.account_id, "--name", " ")


@pytest.mark.parametrize(
    "words",
    [
        ("account", "show", "nobody"),
        ("account", "edit", "nobody", "--name", "x"),
        ("account", "limits", "show", "nobody"),
        ("account", "limits", "set", "nobody", "--max-instances", "1"),
        ("account", "defaults", "show", "nobody"),
        ("account", "defaults", "set", "nobody", "--variable", "A=1"),
        ("project", "create", "nobody", "otter"),
        ("project", "list", "nobody"),
        ("project", "archive", "nobody", "otter", "--yes"),
        ("project", "members", "list", "nobody", "otter"),
        ("user", "list", "nobody"),
        ("user", "show", "nobody", "ines"),
        ("key", "list", "nobody"),
        ("key", "create", "nobody", "ines"),
        ("job", "list", "nobody"),
        ("job", "show", "nobody", "1"),
        ("job", "log", "nobody", "1", "0"),
        ("job", "hold", "nobody", "1"),
        ("job", "release", "nobody", "1"),
        ("job", "edit", "nobody", "1", "--priority", "8"),
        ("usage", "days", "nobody"),
        ("audit", "run", "nobody"),
    ],
    ids=lambda words: "-".join(words[:3]),
)
def test_an_account_that_does_not_exist_is_told_in_a_sentence(
    farm: Farm, words: tuple[str, ...]
) -> None:
    assert refused(*words) == f"Error: {NOT_THERE}\n"


def test_a_refusal_is_json_for_who_asks_for_json(farm: Farm) -> None:
    result = run("account", "limits", "set", farm.account_id, "--max-instances", "-1", "--json")
    assert result.exit_code == 1
    assert '"fields": {"max_instances": "must be 0 or more"}' in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("account", "limits", "set", "reef"),
        ("account", "defaults", "set", "reef"),
        ("account", "defaults", "set", "reef", "--variable", "A"),
        ("job", "edit", "reef", "1"),
        ("job", "kill", "reef", "1", "2", "--task", "0", "--yes"),
        ("dead-letter", "discard", "--yes"),
        ("orchestrator", "off", "x", "--zone", "a", "--region", "--yes"),
        ("user", "projects", "set", "reef", "ines"),
        ("catalog", "show", "--package", "a", "--instance-type", "b"),
    ],
    ids=lambda words: "-".join(words[:3]),
)
def test_words_that_make_no_sense_together_are_wrong_usage(
    farm: Farm, words: tuple[str, ...]
) -> None:
    told("account", "create", "reef", "--name", "Reef")
    assert "Usage:" in refused(*words, code=2)
