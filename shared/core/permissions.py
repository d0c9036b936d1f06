"""Who may do what. One table; the account is never part of the question, it always comes from the token."""

from collections.abc import Mapping
from enum import StrEnum

from shared.errors import Forbidden
from shared.models.account import Principal, Role, User


class Action(StrEnum):
    """What somebody asks for."""

    READ = "read"  # catalogue, projects, jobs, logs
    SUBMIT = "submit"  # upload files and submit jobs
    DOWNLOAD = "download"
    COMMAND = "command"  # hold, kill, retry jobs and tasks
    READ_BILLING = "read_billing"  # what was used, and what it cost
    MANAGE_PROJECTS = "manage_projects"
    MANAGE_FARM = "manage_farm"  # switch zones, limits, budgets
    MANAGE_USERS = "manage_users"  # users, roles, API keys


_EVERYDAY = frozenset({Action.READ, Action.SUBMIT, Action.DOWNLOAD, Action.COMMAND})

ALLOWED: Mapping[Role, frozenset[Action]] = {
    Role.USER: _EVERYDAY,
    Role.ADMINISTRATOR: _EVERYDAY
    | {Action.READ_BILLING, Action.MANAGE_PROJECTS, Action.MANAGE_FARM},
    Role.OWNER: frozenset(Action),
}


def check(principal: Principal, action: Action) -> None:
    """Let pass what the role allows. Raises: Forbidden."""
    if action not in ALLOWED[principal.role]:
        raise Forbidden(f"{principal.role.value}s may not {action.value.replace('_', ' ')}")


def may_use(who: Principal | User, project: str) -> bool:
    """Tell whether a project is there for somebody: only a plain user's list of projects limits them."""
    return who.role is not Role.USER or not who.projects or project in who.projects
