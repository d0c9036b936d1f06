"""`baton account`: studios, their limits, and what their clients add to each job."""

from typing import Any

import click

from shared import wiring
from shared.models.account import REQUESTS_PER_S, Account, Provider
from shared.services import administration
from tools.baton.answers import Answer, answers
from tools.baton.pairs import pairs

PROVIDERS = click.Choice([each.value for each in Provider])
variable_option = click.option(
    "--variable",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="For every job; repeatable.",
)


@click.group()
def account() -> None:
    """Studios: who pays."""


@account.command("create")
@click.argument("account_id")
@click.option("--name", required=True, help="What people call it.")
@click.option("--max-instances", default=100, show_default=True, help="Attempts in flight at most.")
@click.option(
    "--requests-per-s",
    default=REQUESTS_PER_S,
    show_default=True,
    help="Calls a second that each of its people and keys may make.",
)
@click.option(
    "--provider",
    type=PROVIDERS,
    default=Provider.GCP.value,
    show_default=True,
    help="Whose instance types it is offered.",
)
@variable_option
@answers
def create_account(
    account_id: str,
    name: str,
    max_instances: int,
    requests_per_s: int,
    provider: str,
    variables: tuple[str, ...],
) -> Answer:
    """Create an account."""
    created = administration.create_account(
        account_id,
        name=name,
        max_instances=max_instances,
        requests_per_s=requests_per_s,
        provider=Provider(provider),
        environment=pairs("variable", variables),
        accounts=wiring.account_store(),
    )
    return {"account_id": created.account_id, "name": created.name}


@account.command("show")
@click.argument("account_id")
@answers
def show_account(account_id: str) -> Answer:
    """Show an account with its limits and defaults."""
    return _shown(administration.known_account(account_id, wiring.account_store()))


@account.command("list")
@answers
def list_accounts() -> Answer:
    """List all accounts."""
    found = wiring.account_store().accounts()
    return {
        "accounts": [
            {"account_id": each.account_id, "name": each.name} | _limits(each) for each in found
        ]
    }


@account.command("edit")
@click.argument("account_id")
@click.option("--name", required=True, help="What people call it.")
@answers
def edit_account(account_id: str, name: str) -> Answer:
    """Change what people call an account."""
    accounts = wiring.account_store()
    return _shown(administration.change_account(account_id, name=name, accounts=accounts))


@account.group("limits")
def limits() -> None:
    """How much an account may use at once."""


@limits.command("show")
@click.argument("account_id")
@answers
def show_limits(account_id: str) -> Answer:
    """Show the limits of an account."""
    found = administration.known_account(account_id, wiring.account_store())
    return {"account_id": found.account_id} | _limits(found)


@limits.command("set")
@click.argument("account_id")
@click.option("--max-instances", type=int, help="Attempts in flight at most; 0 lets none start.")
@click.option("--requests-per-s", type=int, help="Calls a second of each of its people and keys.")
@answers
def set_limits(account_id: str, max_instances: int | None, requests_per_s: int | None) -> Answer:
    """Set limits of an account; what is not named stays, what runs goes on."""
    if max_instances is None and requests_per_s is None:
        raise click.UsageError("name a limit: --max-instances or --requests-per-s")
    changed = administration.change_account(
        account_id,
        max_instances=max_instances,
        requests_per_s=requests_per_s,
        accounts=wiring.account_store(),
    )
    if max_instances is not None:
        wiring.bus().publish("admit", [{"account_id": account_id}])  # more may start at once
    return {"account_id": changed.account_id} | _limits(changed)


@account.group("defaults")
def defaults() -> None:
    """What the clients of an account are offered, and add to each job."""


@defaults.command("show")
@click.argument("account_id")
@answers
def show_defaults(account_id: str) -> Answer:
    """Show the defaults of an account."""
    found = administration.known_account(account_id, wiring.account_store())
    return {"account_id": found.account_id} | _defaults(found)


@defaults.command("set")
@click.argument("account_id")
@variable_option
@click.option("--unset", multiple=True, metavar="NAME", help="Take a variable away; repeatable.")
@click.option("--provider", type=PROVIDERS, help="Whose instance types it is offered.")
@answers
def set_defaults(
    account_id: str, variables: tuple[str, ...], unset: tuple[str, ...], provider: str | None
) -> Answer:
    """Set or take away variables of an account; the others stay."""
    if not variables and not unset and provider is None:
        raise click.UsageError("name a default: --variable, --unset or --provider")
    changed = administration.change_account(
        account_id,
        variables=pairs("variable", variables),
        without=unset,
        provider=Provider(provider) if provider else None,
        accounts=wiring.account_store(),
    )
    return {"account_id": changed.account_id} | _defaults(changed)


def _shown(found: Account) -> dict[str, Any]:
    return {"account_id": found.account_id, "name": found.name} | _limits(found) | _defaults(found)


def _limits(found: Account) -> dict[str, Any]:
    return {"max_instances": found.max_instances, "requests_per_s": found.requests_per_s}


def _defaults(found: Account) -> dict[str, Any]:
    return {
        "provider": found.provider.value,
        "variables": [
            {"name": each.name, "value": each.value, "merge_policy": each.merge_policy}
            for each in found.environment
        ],
    }
