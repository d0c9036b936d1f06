"""`baton user`: people who sign in, and what they may do."""

from typing import Any, TextIO

import click

from shared import wiring
from shared.models.account import Role, User
from shared.services import administration, members
from tools.baton.answers import Answer, answers, destructive

ROLES = click.Choice([role.value for role in Role])


@click.group()
def user() -> None:
    """People. USER is a user's id or email."""


@user.command("create")
@click.argument("account_id")
@click.argument("email")
@click.option(
    "--role", type=ROLES, default=Role.USER.value, show_default=True, help="What they may do."
)
@click.option("--project", "projects", multiple=True, help="Only these projects; none means all.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Read the password from this file, - for stdin; else it is asked for.",
)
@answers
def create_user(
    account_id: str, email: str, role: str, projects: tuple[str, ...], password_file: TextIO | None
) -> Answer:
    """Let somebody sign in, or change what they may do."""
    password = (
        password_file.read().rstrip("\r\n")
        if password_file
        else click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    )
    created = administration.create_user(
        account_id,
        email=email,
        role=Role(role),
        projects=projects,
        password=password,
        accounts=wiring.account_store(),
        identity=wiring.identity(),
    )
    return {"user_id": created.user_id, "email": created.email, "role": created.role.value}


@user.command("list")
@click.argument("account_id")
@answers
def list_users(account_id: str) -> Answer:
    """List the users of an account, disabled ones too."""
    accounts = wiring.account_store()
    administration.known_account(account_id, accounts)
    return {"users": [listed_user(each) for each in accounts.users(account_id)]}


@user.command("show")
@click.argument("account_id")
@click.argument("user")
@answers
def show_user(account_id: str, user: str) -> Answer:
    """Show a user."""
    return listed_user(members.find_user(account_id, user, wiring.account_store()))


@user.group("role")
def user_role() -> None:
    """What a user may do."""


@user_role.command("set")
@click.argument("account_id")
@click.argument("user")
@click.argument("role", type=ROLES)
@answers
def set_role(account_id: str, user: str, role: str) -> Answer:
    """Give a user, and the user's keys, another role; it counts from their next sign-in on."""
    accounts, identity = wiring.account_store(), wiring.identity()
    return listed_user(members.set_role(account_id, user, Role(role), accounts, identity))


@user.group("projects")
def user_projects() -> None:
    """Which projects a plain user may use."""


@user_projects.command("set")
@click.argument("account_id")
@click.argument("user")
@click.argument("projects", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every project, later ones too.")
@answers
def set_projects(account_id: str, user: str, projects: tuple[str, ...], is_all: bool) -> Answer:
    """Limit a user to these PROJECTS, and no others."""
    if is_all == bool(projects):
        raise click.UsageError("name projects, or --all")
    accounts, identity = wiring.account_store(), wiring.identity()
    return listed_user(members.set_projects(account_id, user, projects, accounts, identity))


@user.command("disable")
@click.argument("account_id")
@click.argument("user")
@destructive("Disable {user} of {account_id}? Their sign-in, keys and tokens end.")
@answers
def disable_user(account_id: str, user: str) -> Answer:
    """Let a user and their keys sign in no more; their tokens end within seconds."""
    return _set_active(account_id, user, False)


@user.command("enable")
@click.argument("account_id")
@click.argument("user")
@answers
def enable_user(account_id: str, user: str) -> Answer:
    """Let a disabled user and their keys sign in again."""
    return _set_active(account_id, user, True)


@user.command("remove")
@click.argument("account_id")
@click.argument("user")
@destructive("Remove {user} from {account_id} for good and revoke all their keys?")
@answers
def remove_user(account_id: str, user: str) -> Answer:
    """Forget a user and revoke their keys; what they submitted stays."""
    removed = members.remove_user(
        account_id,
        user,
        now=wiring.now(),
        accounts=wiring.account_store(),
        identity=wiring.identity(),
    )
    return {"removed": removed.user_id, "email": removed.email}


def _set_active(account_id: str, who: str, is_active: bool) -> Answer:
    changed = members.set_user_active(
        account_id,
        who,
        is_active,
        accounts=wiring.account_store(),
        identity=wiring.identity(),
    )
    return listed_user(changed)


def listed_user(found: User) -> dict[str, Any]:
    """Return a user as every command tells it."""
    return {
        "user_id": found.user_id,
        "email": found.email,
        "role": found.role.value,
        "is_limited": bool(found.projects) and found.role is Role.USER,
        "projects": list(found.projects),
        "is_active": found.is_active,
    }
