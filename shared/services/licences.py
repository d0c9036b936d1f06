"""Licences: how many seats an account has of each product; attempts that find none free wait."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.core.admission import in_flight_counts
from shared.core.limits import seats_taken
from shared.errors import InvalidRequest, NotFound
from shared.models.account import Account
from shared.ports import AccountStore, CatalogStore, Ports
from shared.services.administration import known_account
from shared.services.inspection import active_jobs

# More than any vendor sells; a typing error most likely.
MOST_SEATS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SeatsInUse:
    """The seats of a product, and how many of them attempts in flight have: more where seats were taken away."""

    product: str
    seats: int
    taken: int


def set_seats(
    account_id: str,
    product: str,
    seats: int,
    *,
    now: datetime,
    accounts: AccountStore,
    catalog: CatalogStore,
) -> Account:
    """Let so many attempts of an account have a licence at once; what runs goes on.

    Raises: NotFound; InvalidRequest.
    """
    account = known_account(account_id, accounts)
    known = sorted({each.licence for each in catalog.packages() if each.licence})
    if product not in known:
        said = f"the catalogue names {', '.join(known)}" if known else "the catalogue names none"
        raise InvalidRequest({"product": f"no package takes a licence of {product}: {said}"})
    if not 1 <= seats <= MOST_SEATS:
        raise InvalidRequest({"seats": f"must be 1 to {MOST_SEATS:,}"})
    return _saved(account, {**account.licences, product: seats}, now, accounts)


def remove_seats(
    account_id: str, product: str, *, now: datetime, accounts: AccountStore
) -> Account:
    """Let any number of attempts of an account have a licence at once. Raises: NotFound where they are not limited."""
    account = known_account(account_id, accounts)
    if product not in account.licences:
        raise NotFound(f"account {account_id} has no seats of {product}")
    kept = {name: seats for name, seats in account.licences.items() if name != product}
    return _saved(account, kept, now, accounts)


def seats_in_use(account_id: str, ports: Ports) -> Sequence[SeatsInUse]:
    """Return the products of which an account has seats, by name, and how many are taken. Raises: NotFound."""
    account = known_account(account_id, ports.accounts)
    jobs = active_jobs(account_id, ports) if account.licences else []
    pages = ports.jobs.pages_of(jobs)
    taken = seats_taken(jobs, in_flight_counts(pages))
    return [
        SeatsInUse(product=product, seats=seats, taken=taken[product])
        for product, seats in sorted(account.licences.items())
    ]


def _saved(
    account: Account, licences: dict[str, int], now: datetime, accounts: AccountStore
) -> Account:
    account = replace(account, licences=licences, licences_set_at=now)
    accounts.save_account(account)
    return account
