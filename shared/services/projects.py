"""Projects: which of them somebody may use."""

from shared.errors import NotFound
from shared.models.account import Principal, Project, Role
from shared.ports import AccountStore, Ports


def usable_projects(principal: Principal, accounts: AccountStore) -> list[Project]:
    """Return the active projects that somebody may use, by name."""
    limit = _limit(principal, accounts)
    return [
        project
        for project in accounts.projects(principal.account_id)
        if project.is_active and (not limit or project.name in limit)
    ]


def check_project(principal: Principal, name: str, ports: Ports, wrong: dict[str, str]) -> None:
    """Add to `wrong` why somebody may not use a project, if so."""
    try:
        project = ports.accounts.project(principal.account_id, name)
    except NotFound:
        wrong["project"] = f"unknown: {name}"
        return
    limit = _limit(principal, ports.accounts)
    if not project.is_active:
        wrong["project"] = f"not active: {name}"
    elif limit and name not in limit:
        wrong["project"] = f"not one of yours: {name}"


def _limit(principal: Principal, accounts: AccountStore) -> tuple[str, ...]:
    """Return the projects to which a plain user is limited; empty means all."""
    if principal.role is not Role.USER:
        return ()
    return accounts.user(principal.account_id, principal.user_id).projects
