"""Budgets: no attempt starts that would go over one, and what waits for one starts when there is money again."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import wiring
from shared.models.account import Account, Budget, Period, Project
from shared.models.farm import Shape
from shared.models.job import JobRef
from shared.models.task import WaitingFor
from shared.ports import LedgerSpan
from shared.services.administration import change_account
from shared.services.admit import admit
from shared.services.budgets import budgets_in_use, remove_budget, set_budget
from shared.services.explain import explain
from shared.services.spending import spent
from shared.tally import tally
from tests.services.farm import Farm

# What an attempt of the farm's jobs is taken to cost before any has ended: an hour, at 1,500 micro-dollars a minute.
HOUR = 90_000


def give(farm: Farm, attempts: float, project: str = "", period: Period = Period.TOTAL) -> Budget:
    """Give the account, or a project, a budget for so many attempts of which nothing is known."""
    accounts = farm.ports.accounts
    if project:
        accounts.save_project(farm.account_id, Project(name=project))
    dollars = f"{attempts * HOUR / 1_000_000:.6f}"
    return set_budget(
        farm.account_id, project=project, dollars=dollars, period=period, accounts=accounts
    )


def spend(farm: Farm, micros: int, day: str, project: str = "otter", number: int = 1) -> None:
    """Write an entry of the ledger as an attempt's end does, as far as sums read it."""
    path = f"accounts/{farm.account_id}/ledger/{day}-{project}-{number}"
    fields = {"project": project, "date": day, "cost_micros": micros}
    wiring.firestore_client().document(path).set(fields)


def today() -> str:
    return wiring.now().date().isoformat()


def in_flight(farm: Farm, *refs: JobRef) -> int:
    pages = (page for ref in refs for page in farm.ports.jobs.page_summaries(farm.job(ref)))
    return sum(page.in_flight_count for page in pages)


def test_no_more_starts_than_there_is_money_for(farm: Farm) -> None:
    give(farm, 2)
    ref = farm.submit(5)
    assert farm.placed(ref) == ["000-1", "001-1"]
    job = farm.job(ref)
    assert (job.waiting_for, job.waiting_note) == (
        WaitingFor.BUDGET,
        "the account's budget has no room for another attempt",
    )
    farm.push("settle", ref)
    assert farm.job(ref).waiting_for is WaitingFor.BUDGET
    assert farm.findings(ref) == []


def test_a_machine_that_boots_for_others_of_a_job_is_not_told_in_the_budgets_place(
    farm: Farm,
) -> None:
    give(farm, 1)
    ref = farm.submit(3)
    shape = Shape(farm.instance_type, True)
    reasons = {shape: (WaitingFor.BOOT, "one is booting")}
    explain(farm.placements(), reasons, farm.ports.jobs, farm.ports.now())
    assert farm.job(ref).waiting_for is WaitingFor.BUDGET


def test_the_budget_of_a_project_holds_back_nobody_elses_jobs(farm: Farm) -> None:
    give(farm, 1, "relay")
    relay, otter = farm.submit(3, project="relay"), farm.submit(3, project="otter")
    assert (len(farm.placed(relay)), len(farm.placed(otter))) == (1, 3)
    assert farm.job(relay).waiting_note == (
        "the budget of project relay, $0.09, has no room for another attempt"
    )


def test_an_attempt_that_cost_less_than_it_was_taken_to_lets_others_start(farm: Farm) -> None:
    give(farm, 1)
    ref = farm.submit(4)
    assert farm.placed(ref) == ["000-1"]
    farm.published()
    farm.run(ref)
    assert len(farm.published("admit")) == 1
    farm.push("admit")
    assert farm.placed(ref) == ["001-1", "002-1", "003-1"]
    assert farm.job(ref).waiting_for is WaitingFor.SCHEDULER


def test_what_runs_goes_on_when_the_money_is_spent_and_a_higher_budget_lets_the_rest_start(
    farm: Farm,
) -> None:
    give(farm, 1)
    ref = farm.submit(3)
    agent = farm.agent(ref)
    assert agent.claim().status_code == 200
    spend(farm, HOUR, today())
    farm.push("admit")
    assert (agent.heartbeat().json or {})["action"] == "continue"
    assert farm.placed(ref) == ["000-1"]
    assert farm.job(ref).waiting_for is WaitingFor.BUDGET
    give(farm, 3)
    farm.push("admit")
    assert farm.placed(ref) == ["000-1", "001-1"]
    remove_budget(farm.account_id, "", farm.ports.accounts)
    farm.push("admit")
    assert farm.placed(ref) == ["000-1", "001-1", "002-1"]
    assert farm.job(ref).waiting_for is WaitingFor.SCHEDULER


def test_the_sweep_lets_start_what_the_last_month_had_no_money_for(farm: Farm) -> None:
    give(farm, 2, period=Period.MONTH)
    spend(farm, 2 * HOUR, today())
    ref = farm.submit(2)
    assert (farm.placed(ref), farm.job(ref).waiting_for) == ([], WaitingFor.BUDGET)
    renewed_on = (wiring.now().replace(day=1) + timedelta(days=31)).replace(day=1).date()
    assert farm.job(ref).waiting_note == (
        f"the account's budget has no room for another attempt; it renews on {renewed_on} (UTC)"
    )
    farm.sweep()
    assert farm.placed(ref) == []
    farm.sweep(days=32)
    assert farm.placed(ref) == ["000-1", "001-1"]


def test_a_budget_for_good_knows_no_month(farm: Farm) -> None:
    give(farm, 2)
    spend(farm, 2 * HOUR, today())
    ref = farm.submit(2)
    farm.sweep(days=32)
    assert farm.placed(ref) == []


def test_of_several_budgets_each_holds_for_what_it_pays_and_the_tightest_is_told(
    farm: Farm,
) -> None:
    give(farm, 4)
    give(farm, 1, "relay")
    give(farm, 9, "otter")
    relay = farm.submit(3, project="relay")
    assert "project relay" in farm.job(relay).waiting_note
    otter = farm.submit(5, project="otter")
    assert (in_flight(farm, relay), in_flight(farm, otter)) == (1, 3)
    assert "the account's" in farm.job(otter).waiting_note
    remove_budget(farm.account_id, "", farm.ports.accounts)
    farm.push("admit")
    assert (in_flight(farm, relay), in_flight(farm, otter)) == (1, 5)


def test_the_budget_of_a_project_that_is_archived_or_gone_holds_until_it_is_removed(
    farm: Farm,
) -> None:
    give(farm, 1, "relay")
    ref = farm.submit(3, project="relay")
    farm.ports.accounts.save_project(farm.account_id, Project(name="relay", is_active=False))
    farm.push("admit")
    assert in_flight(farm, ref) == 1
    wiring.firestore_client().document(f"accounts/{farm.account_id}/projects/relay").delete()
    farm.push("admit")
    assert in_flight(farm, ref) == 1
    (use,) = budgets_in_use(farm.account_id, farm.ports)
    assert use.under_way_micros == HOUR
    remove_budget(farm.account_id, "relay", farm.ports.accounts)
    farm.push("admit")
    assert in_flight(farm, ref) == 3


def test_a_burst_of_thousands_cannot_go_over_it(farm: Farm) -> None:
    farm.limit(5000)
    give(farm, 120)
    refs = [farm.create(1000), farm.create(1000)]
    for ref in refs:
        assert farm.expand(ref) == 204
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: farm.push("admit"), range(12))) == {204}
    assert in_flight(farm, *refs) == 120
    assert {farm.job(ref).waiting_for for ref in refs} == {WaitingFor.BUDGET}


@dataclass
class Racing:
    """A ledger in which an attempt ends just before it is summed."""

    farm: Farm
    ref: JobRef
    task_ids: list[str]

    def spent(self, account_id: str, spans: Sequence[LedgerSpan]) -> list[int]:
        if self.task_ids:
            self.farm.run(self.ref, self.task_ids.pop())
        return self.farm.ports.ledger.spent(account_id, spans)


def test_an_attempt_that_ends_while_the_sums_are_drawn_is_not_missed(farm: Farm) -> None:
    give(farm, 3)
    ref = farm.submit(8)
    assert len(farm.placed(ref)) == 3
    racing: Any = Racing(farm, ref, ["000"])
    farm.published()
    ports = replace(farm.ports, ledger=racing)
    admit(farm.account_id, ports)
    # By what was known when the round began it is still under way, and has cost a minute besides.
    assert len(farm.placed(ref)) == 2
    farm.push("admit")
    assert len(farm.placed(ref)) == 7


@dataclass
class Unread:
    """A ledger that nobody may ask."""

    def spent(self, account_id: str, spans: Sequence[LedgerSpan]) -> list[int]:
        raise AssertionError(f"{account_id} was asked about: {spans}")


def test_only_who_has_a_budget_that_something_waits_for_pays_for_the_sums(farm: Farm) -> None:
    unread: Any = Unread()
    ports = replace(farm.ports, ledger=unread)
    farm.limit(0)
    ref = farm.submit(2)
    farm.limit(1)
    admit(farm.account_id, ports)
    assert farm.placed(ref) == ["000-1"]
    give(farm, 5, "relay")
    farm.limit(2)
    admit(farm.account_id, ports)
    assert len(farm.placed(ref)) == 2
    give(farm, 5)
    admit(farm.account_id, ports)


def at_noon(farm: Farm, day: str) -> Any:
    moment = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    return replace(farm.ports, now=lambda: moment)


def sums(farm: Farm, day: str, budgets: Mapping[str, Budget]) -> dict[str, int]:
    ports = at_noon(farm, day)
    found = spent(farm.account_id, list(budgets.values()), ports, ports.now())
    return {name: found[budget] for name, budget in budgets.items()}


def test_each_budget_has_spent_what_its_period_and_its_project_have(farm: Farm) -> None:
    monthly = Period.MONTH
    budgets = {
        "all": Budget(limit_micros=1),
        "month": Budget(limit_micros=1, period=monthly),
        "relay": Budget(limit_micros=1, project="relay"),
        "relay month": Budget(limit_micros=1, project="relay", period=monthly),
    }
    nothing = dict.fromkeys(budgets, 0)
    assert sums(farm, "2026-03-05", budgets) == nothing
    spend(farm, 1, "2025-12-31")
    spend(farm, 10, "2026-02-28", "relay")
    spend(farm, 100, "2026-03-01", "relay")
    spend(farm, 1_000, "2026-03-01")
    spend(farm, 10_000, "2026-03-05", "relay")
    assert sums(farm, "2026-03-01", budgets) == {
        "all": 11_111,
        "month": 11_100,
        "relay": 10_110,
        "relay month": 10_100,
    }
    assert sums(farm, "2026-03-06", budgets)["relay month"] == 10_100
    assert sums(farm, "2026-04-01", budgets) == {
        "all": 11_111,
        "month": 0,
        "relay": 10_110,
        "relay month": 0,
    }
    spend(farm, 100_000, "2026-03-31")
    assert sums(farm, "2026-04-01", budgets)["all"] == 111_111


def test_what_ended_before_yesterday_is_not_summed_each_time(farm: Farm) -> None:
    budgets = {"all": Budget(limit_micros=1)}
    for number in range(1500):
        spend(farm, 1, "2026-03-01", number=number)
    counts = []
    for _ in range(2):
        before = tally.read_count
        assert sums(farm, "2026-03-20", budgets) == {"all": 1500}
        counts.append(tally.read_count - before)
    assert counts == [3, 1]


def test_the_use_of_a_budget_is_what_admission_goes_by(farm: Farm) -> None:
    give(farm, 10)
    give(farm, 4, "relay", Period.MONTH)
    ref = farm.submit(3, project="relay")
    farm.submit(1, project="otter")
    spend(farm, 7, today(), "relay")
    assert farm.placed(ref)
    own, relay = budgets_in_use(farm.account_id, farm.ports)
    assert (own.budget.project, own.spent_micros, own.under_way_micros) == ("", 7, 4 * HOUR)
    assert (relay.budget.project, relay.spent_micros, relay.under_way_micros) == (
        "relay",
        7,
        3 * HOUR,
    )


def test_whoever_changes_an_account_by_what_it_was_before_lifts_no_budget(farm: Farm) -> None:
    accounts = farm.ports.accounts
    old: Account = accounts.account(farm.account_id)
    give(farm, 1)
    accounts.save_account(replace(old, max_instances=30))
    change_account(farm.account_id, name="Reef", accounts=accounts)
    assert accounts.account(farm.account_id).has_budgets is True
    assert len(farm.placed(farm.submit(5))) == 1
    remove_budget(farm.account_id, "", accounts)
    assert accounts.account(farm.account_id).has_budgets is False


def test_budgets_that_are_set_at_once_are_all_kept(farm: Farm) -> None:
    names = [f"show-{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: give(farm, 1, name), names))
    assert [each.project for each in farm.ports.accounts.budgets(farm.account_id)] == names


@pytest.mark.parametrize("period", list(Period))
def test_a_budget_is_read_as_it_was_set(farm: Farm, period: Period) -> None:
    budget = give(farm, 1.5, "relay", period)
    assert farm.ports.accounts.budgets(farm.account_id) == [budget]
    assert budget == Budget(project="relay", limit_micros=135_000, period=period)
