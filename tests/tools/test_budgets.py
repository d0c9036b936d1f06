"""What accounts and projects may spend, and the seats they have."""

from pathlib import Path

import pytest

from shared import wiring
from tests.services.farm import Farm
from tests.tools.commands import refused, run, told

ROOT = Path(__file__).parents[2]


@pytest.fixture
def account(farm: Farm) -> str:
    """An account with the project `relay`, and the shipped catalogue."""
    told("project", "create", farm.account_id, "relay")
    told("catalog", "load", ROOT / "catalog")
    farm.published()
    return farm.account_id


def test_a_budget_is_listed_as_it_was_set(farm: Farm, account: str) -> None:
    told("budget", "set", account, "--project", "relay", "--dollars", "520.5", "--monthly")
    assert told("budget", "set", account, "--dollars", "9000") == {
        "account_id": account,
        "project": None,
        "period": "total",
        "limit_micros": 9_000_000_000,
    }
    ref = farm.submit(2, project="relay")
    farm.run(ref)
    own, relay = told("budget", "list", account)["budgets"]
    assert own | {"project": "relay", "limit_micros": 0, "period": "month"} == relay | {
        "limit_micros": 0
    }
    assert relay == {
        "project": "relay",
        "period": "month",
        "limit_micros": 520_500_000,
        "spent_micros": 1500,
        "under_way_micros": 1500,
    }
    shown = run("budget", "list", account).stdout
    assert "$520.5000" in shown
    assert told("budget", "list", account)["budgets"] == [own, relay]


def test_a_budget_that_is_set_again_replaces_the_one_there_was(account: str) -> None:
    told("budget", "set", account, "--dollars", "1", "--monthly")
    told("budget", "set", account, "--dollars", "2")
    (only,) = told("budget", "list", account)["budgets"]
    assert (only["limit_micros"], only["period"]) == (2_000_000, "total")


def test_a_budget_that_is_removed_is_gone_and_no_other_is(account: str) -> None:
    told("budget", "set", account, "--dollars", "1")
    told("budget", "set", account, "--project", "relay", "--dollars", "1")
    assert run("budget", "remove", account, says="n\n").exit_code == 1
    assert len(told("budget", "list", account)["budgets"]) == 2
    told("budget", "remove", account, "--yes")
    assert [each["project"] for each in told("budget", "list", account)["budgets"]] == ["relay"]
    assert "has no budget" in refused("budget", "remove", account, "--yes")


@pytest.mark.parametrize(
    "words",
    [
        ("budget", "set", "{}", "--dollars", "5"),
        ("licence", "set", "{}", "arnold", "5"),
        ("licence", "remove", "{}", "yeti", "--yes"),
        ("budget", "remove", "{}", "--project", "relay", "--yes"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_what_waits_may_start_at_once(farm: Farm, account: str, words: tuple[str, ...]) -> None:
    told("licence", "set", account, "yeti", 1)
    told("budget", "set", account, "--project", "relay", "--dollars", "1")
    farm.published()
    told(*(each.format(account) for each in words))
    assert farm.published("admit") == [("admit", {"account_id": account})]


@pytest.mark.parametrize(
    "amount", ["0", "-5", "nan", "inf", "1e30", "1000000001", "0.0000001", "a lot", ""]
)
def test_an_amount_that_makes_no_sense_is_refused_by_its_name(account: str, amount: str) -> None:
    assert "dollars: " in refused("budget", "set", account, "--dollars", amount)
    assert told("budget", "list", account)["budgets"] == []
    assert wiring.account_store().account(account).has_budgets is False


def test_a_budget_for_a_project_that_does_not_exist_is_refused(account: str) -> None:
    said = refused("budget", "set", account, "--project", "krill", "--dollars", "5")
    assert said == f"Error: account {account} has no project krill\n"
    assert told("budget", "list", account)["budgets"] == []


def test_seats_are_listed_as_they_were_set_with_those_taken(farm: Farm, account: str) -> None:
    told("licence", "set", account, "redshift", 5)
    answer = told("licence", "set", account, "arnold", 2)
    assert answer == {"account_id": account, "product": "arnold", "seats": 2}
    farm.submit(3, licences=("arnold",))
    assert told("licence", "list", account)["licences"] == [
        {"product": "arnold", "seats": 2, "taken": 2},
        {"product": "redshift", "seats": 5, "taken": 0},
    ]
    told("licence", "remove", account, "arnold", "--yes")
    assert [each["product"] for each in told("licence", "list", account)["licences"]] == [
        "redshift"
    ]
    assert "has no seats of arnold" in refused("licence", "remove", account, "arnold", "--yes")


@pytest.mark.parametrize("seats", ["0", "1000001"])
def test_a_number_of_seats_that_makes_no_sense_is_refused_by_its_name(
    account: str, seats: str
) -> None:
    assert "seats: must be 1 to" in refused("licence", "set", account, "arnold", seats)
    assert told("licence", "list", account)["licences"] == []


def test_fewer_than_no_seats_are_refused(account: str) -> None:
    assert "seats: " in refused("licence", "set", account, "arnold", "--", "-3")
    assert told("licence", "list", account)["licences"] == []


def test_a_product_that_no_package_names_is_refused_with_those_that_there_are(account: str) -> None:
    said = refused("licence", "set", account, "arnoold", 5)
    assert "product: no package takes a licence of arnoold: the catalogue names arnold, " in said
    assert told("licence", "list", account)["licences"] == []


def test_a_limit_of_instances_that_is_set_leaves_seats_and_budgets_alone(account: str) -> None:
    told("licence", "set", account, "arnold", 5)
    told("budget", "set", account, "--dollars", "5")
    told("account", "limits", "set", account, "--max-instances", 3)
    assert len(told("licence", "list", account)["licences"]) == 1
    assert len(told("budget", "list", account)["budgets"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("budget", "list", "nobody"),
        ("budget", "set", "nobody", "--dollars", "5"),
        ("budget", "set", "nobody", "--project", "relay", "--dollars", "5"),
        ("budget", "remove", "nobody", "--yes"),
        ("licence", "list", "nobody"),
        ("licence", "set", "nobody", "arnold", "5"),
        ("licence", "remove", "nobody", "arnold", "--yes"),
    ],
    ids=lambda words: "-".join(words[:4]),
)
def test_an_account_that_does_not_exist_is_told_in_a_sentence(
    farm: Farm, words: tuple[str, ...]
) -> None:
    assert refused(*words) == "Error: there is no account nobody\n"
