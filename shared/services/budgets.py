"""Budgets: what an account and its projects may spend; what would go over it waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from shared.core.admission import in_flight_counts
from shared.core.budgets import attempt_micros, renewal, under_way
from shared.errors import InvalidRequest, NotFound
from shared.models.account import Budget, Period
from shared.models.money import MICROS_PER_DOLLAR
from shared.ports import AccountStore, Ports
from shared.services.administration import known_account, known_project
from shared.services.inspection import active_jobs
from shared.services.spending import spent

# More than any studio spends, and little enough to be added up.
MOST_DOLLARS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class BudgetUse:
    """A budget with what it has spent within its present period, and what attempts in flight are taken to cost.

    `renews_on` is the first UTC day of its next period, None where there is none.
    """

    budget: Budget
    renews_on: date | None
    spent_micros: int
    under_way_micros: int


def set_budget(
    account_id: str, *, project: str, dollars: str, period: Period, accounts: AccountStore
) -> Budget:
    """Give an account, or a project, a budget in place of the one it had. Raises: NotFound; InvalidRequest."""
    _check_owner(account_id, project, accounts)
    budget = Budget(project=project, limit_micros=_micros(dollars), period=period)
    accounts.change_budgets(account_id, lambda now: [*_without(now, project), budget])
    return budget


def remove_budget(account_id: str, project: str, accounts: AccountStore) -> None:
    """Let an account, or a project, spend without a limit. Raises: NotFound where there is no such budget."""
    known_account(account_id, accounts)

    def change(now: Sequence[Budget]) -> Sequence[Budget]:
        kept = _without(now, project)
        if len(kept) == len(now):
            whose = f"project {project}" if project else f"account {account_id}"
            raise NotFound(f"{whose} has no budget")
        return kept

    accounts.change_budgets(account_id, change)


def budgets_in_use(account_id: str, ports: Ports) -> list[BudgetUse]:
    """Return an account's budgets, its own first, and how far each is used up. Raises: NotFound."""
    known_account(account_id, ports.accounts)
    budgets = ports.accounts.budgets(account_id)
    if not budgets:
        return []
    now = ports.now()
    jobs = active_jobs(account_id, ports)
    pages = ports.jobs.pages_of(jobs)
    each_micros = attempt_micros(jobs, pages, now)
    in_flight = in_flight_counts(pages)
    return [
        BudgetUse(
            budget=budget,
            renews_on=renewal(budget, now),
            spent_micros=micros,
            under_way_micros=under_way(budget, jobs, in_flight, each_micros),
        )
        for budget, micros in spent(account_id, budgets, ports, now).items()
    ]


def _check_owner(account_id: str, project: str, accounts: AccountStore) -> None:
    if project:
        known_project(account_id, project, accounts)
    else:
        known_account(account_id, accounts)


def _without(budgets: Sequence[Budget], project: str) -> list[Budget]:
    return [each for each in budgets if each.project != project]


def _micros(dollars: str) -> int:
    """Read an amount, to the micro-dollar. Raises: InvalidRequest."""
    try:
        micros = Decimal(dollars) * MICROS_PER_DOLLAR
    except InvalidOperation as error:
        raise InvalidRequest({"dollars": f"{dollars!r} is no amount"}) from error
    if not micros.is_finite() or not 0 < micros <= MOST_DOLLARS * MICROS_PER_DOLLAR:
        raise InvalidRequest({"dollars": f"must be more than 0, at most {MOST_DOLLARS:,}"})
    if micros != int(micros):
        raise InvalidRequest({"dollars": "must have 6 decimals at most"})
    return int(micros)
