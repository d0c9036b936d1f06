"""What a client reads when it connects.

Who may: everybody with a token; it names the account. Size: no bodies; each answer is a whole list.
"""

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.http import Reply
from shared.services import catalog


def account(request: Request, account_id: str) -> Reply:
    """Tell the name of the caller's own account; any other does not exist."""
    name = catalog.account_name(caller(request), account_id, wiring.account_store())
    return {"data": {"name": name}}


def projects(request: Request) -> Reply:
    """List the account's active projects, by name; for a plain user only those that they may use."""
    return {"data": catalog.list_projects(caller(request), wiring.account_store())}


def instance_types(request: Request) -> Reply:
    """List the instance types of the account's provider; `filter` narrows them."""
    found = catalog.list_instance_types(
        caller(request),
        request.args.get("filter", ""),
        wiring.account_store(),
        wiring.catalog_store(),
    )
    return {"data": found}


def packages(request: Request) -> Reply:
    """List the software, the same for every account; the clients' own query changes nothing."""
    caller(request)
    return {"data": catalog.list_packages(wiring.catalog_store())}


def environments(request: Request) -> Reply:
    """List the variables that the account's clients add to each job."""
    found = catalog.list_environments(
        caller(request), wiring.account_store(), wiring.catalog_store()
    )
    return {"data": found}
