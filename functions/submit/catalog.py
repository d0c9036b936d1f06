"""What a client reads when it connects. Who may: every token of the account."""

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.http import Reply
from shared.services import catalog


def account(request: Request, account_id: str) -> Reply:
    """Tell the name of the caller's account."""
    name = catalog.account_name(caller(request), account_id, wiring.account_store())
    return {"data": {"name": name}}


def projects(request: Request) -> Reply:
    """List the projects."""
    return {"data": catalog.list_projects(caller(request), wiring.account_store())}


def instance_types(request: Request) -> Reply:
    """List the instance types."""
    caller(request)
    found = catalog.list_instance_types(request.args.get("filter", ""), wiring.catalog_store())
    return {"data": found}


def packages(request: Request) -> Reply:
    """List the software."""
    caller(request)
    return {"data": catalog.list_packages(wiring.catalog_store())}


def environments(request: Request) -> Reply:
    """List the variables that the account's clients add to each job."""
    return {"data": catalog.list_environments(caller(request), wiring.account_store())}
