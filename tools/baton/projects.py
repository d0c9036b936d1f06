"""`baton project`: shows, and who works on them."""

from typing import Any

import click

from shared import wiring
from shared.models.account import Project
from shared.services import administration, members
from tools.baton.answers import Answer, answers, destructive
from tools.baton.users import listed_user


@click.group()
def project() -> None:
    """Shows inside an account: files, users and billing."""


@project.command("create")
@click.argument("account_id")
@click.argument("name")
@answers
def create_project(account_id: str, name: str) -> Answer:
    """Create a project."""
    created = administration.create_project(account_id, name, wiring.account_store())
    return {"account_id": account_id, "project": created.name}


@project.command("list")
@click.argument("account_id")
@answers
def list_projects(account_id: str) -> Answer:
    """List the projects of an account, archived ones too."""
    accounts = wiring.account_store()
    administration.known_account(account_id, accounts)
    return {"projects": [_shown(each) for each in accounts.projects(account_id)]}


@project.command("archive")
@click.argument("account_id")
@click.argument("name")
@destructive("Archive project {name} of {account_id}? Nobody can submit to it then.")
@answers
def archive_project(account_id: str, name: str) -> Answer:
    """Let a project take no more submissions; its jobs go on."""
    return _set_active(account_id, name, False)


@project.command("activate")
@click.argument("account_id")
@click.argument("name")
@answers
def activate_project(account_id: str, name: str) -> Answer:
    """Let an archived project take submissions again."""
    return _set_active(account_id, name, True)


@project.group("members")
def project_members() -> None:
    """Who may use a project. Owners and administrators may use every project."""


@project_members.command("list")
@click.argument("account_id")
@click.argument("name")
@answers
def list_members(account_id: str, name: str) -> Answer:
    """List who may use a project."""
    found = members.members_of(account_id, name, wiring.account_store())
    return {"project": name, "members": [listed_user(each) for each in found]}


@project_members.command("add")
@click.argument("account_id")
@click.argument("name")
@click.argument("user")
@answers
def add_member(account_id: str, name: str, user: str) -> Answer:
    """Let USER (id or email), who is limited to some projects, use one more."""
    return listed_user(
        members.add_member(account_id, name, user, wiring.account_store(), wiring.identity())
    )


@project_members.command("remove")
@click.argument("account_id")
@click.argument("name")
@click.argument("user")
@answers
def remove_member(account_id: str, name: str, user: str) -> Answer:
    """Let USER (id or email) use a project no more."""
    return listed_user(
        members.remove_member(account_id, name, user, wiring.account_store(), wiring.identity())
    )


def _set_active(account_id: str, name: str, is_active: bool) -> Answer:
    changed = administration.set_project_active(
        account_id, name, is_active=is_active, accounts=wiring.account_store()
    )
    return _shown(changed)


def _shown(found: Project) -> dict[str, Any]:
    return {"project": found.name, "is_active": found.is_active}
