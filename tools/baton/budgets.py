"""`baton budget`: what accounts and projects may spend."""

from typing import Any

import click

from shared import wiring
from shared.models.account import Budget, Period
from shared.services import budgets
from tools.baton.answers import Answer, answers, destructive

project_option = click.option(
    "--project", default="", help="Of this project; else of the whole account."
)


@click.group()
def budget() -> None:
    """What an account and its projects may spend: what would go over it waits."""


@budget.command("set")
@click.argument("account_id")
@project_option
@click.option("--dollars", required=True, help="How much, in US dollars.")
@click.option(
    "--monthly", is_flag=True, help="For each month, in UTC, anew; else once and for all."
)
@answers
def set_budget(account_id: str, project: str, dollars: str, monthly: bool) -> Answer:
    """Set the budget of an account or a project; what runs goes on, what would go over it waits."""
    period = Period.MONTH if monthly else Period.TOTAL
    found = budgets.set_budget(
        account_id,
        project=project,
        dollars=dollars,
        period=period,
        accounts=wiring.account_store(),
    )
    _admit(account_id)
    return {"account_id": account_id} | _shown(found)


@budget.command("list")
@click.argument("account_id")
@answers
def list_budgets(account_id: str) -> Answer:
    """List the budgets of an account, with what is spent and what attempts in flight will cost."""
    found = budgets.budgets_in_use(account_id, wiring.ports())
    return {
        "budgets": [
            _shown(each.budget)
            | {"spent_micros": each.spent_micros, "under_way_micros": each.under_way_micros}
            for each in found
        ]
    }


@budget.command("remove")
@click.argument("account_id")
@project_option
@destructive("Remove a budget of {account_id}? All that it holds back may start then.")
@answers
def remove_budget(account_id: str, project: str) -> Answer:
    """Let an account or a project spend without a limit."""
    budgets.remove_budget(account_id, project, wiring.account_store())
    _admit(account_id)
    return {"account_id": account_id, "project": project or None}


def _shown(found: Budget) -> dict[str, Any]:
    return {
        "project": found.project or None,
        "period": found.period.value,
        "limit_micros": found.limit_micros,
    }


def _admit(account_id: str) -> None:
    """More may start at once."""
    wiring.bus().publish("admit", [{"account_id": account_id}])
