"""`baton licence`: how many seats accounts have of what they render with."""

import click

from shared import wiring
from shared.services import licences
from tools.baton.answers import Answer, answers, destructive


@click.group()
def licence() -> None:
    """Seats of licences: an attempt that finds none free waits."""


@licence.command("set")
@click.argument("account_id")
@click.argument("product")
@click.argument("seats", type=int)
@answers
def set_seats(account_id: str, product: str, seats: int) -> Answer:
    """Let at most SEATS attempts of an account have a licence of PRODUCT at once; what runs goes on."""
    licences.set_seats(
        account_id,
        product,
        seats,
        now=wiring.now(),
        accounts=wiring.account_store(),
        catalog=wiring.catalog_store(),
    )
    _admit(account_id)
    return {"account_id": account_id, "product": product, "seats": seats}


@licence.command("list")
@click.argument("account_id")
@answers
def list_seats(account_id: str) -> Answer:
    """List the products of which an account has a number of seats, and how many are taken."""
    found = licences.seats_in_use(account_id, wiring.ports())
    return {
        "licences": [
            {"product": each.product, "seats": each.seats, "taken": each.taken} for each in found
        ]
    }


@licence.command("remove")
@click.argument("account_id")
@click.argument("product")
@destructive("Let any number of attempts of {account_id} have a licence of {product} at once?")
@answers
def remove_seats(account_id: str, product: str) -> Answer:
    """Let any number of attempts of an account have a licence of PRODUCT at once."""
    accounts = wiring.account_store()
    licences.remove_seats(account_id, product, now=wiring.now(), accounts=accounts)
    _admit(account_id)
    return {"account_id": account_id, "product": product}


def _admit(account_id: str) -> None:
    """More may start at once."""
    wiring.bus().publish("admit", [{"account_id": account_id}])
