"""`baton key`: what clients sign in with. A secret is told once, and stored nowhere."""

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from shared import wiring
from shared.models.account import ApiKey
from shared.services import administration, members
from shared.services.sign_in import new_secret
from tools.baton.answers import Answer, answers, destructive
from tools.baton.private_file import private_file

output_option = click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key there, readable for its owner only, instead of printing it.",
)


@click.group()
def key() -> None:
    """API keys for clients: what they take as CONDUCTOR_API_KEY."""


@key.command("create")
@click.argument("account_id")
@click.argument("user")
@click.option("--name", default="", help="What it is for, e.g. a machine's name.")
@output_option
@answers
def create_key(account_id: str, user: str, name: str, output: Path | None) -> Answer:
    """Create an API key with the role of USER (id or email). The secret is told this once."""
    with private_file(output) as file:
        created = _create(account_id, user, name)
        if file is None:
            return asdict(created)
        json.dump(asdict(created), file)
    return {"client_id": created.client_id, "path": output}


@key.command("list")
@click.argument("account_id")
@answers
def list_keys(account_id: str) -> Answer:
    """List the keys of an account with their last use, revoked ones too."""
    accounts = wiring.account_store()
    administration.known_account(account_id, accounts)
    emails = {each.user_id: each.email for each in accounts.users(account_id)}
    found = accounts.api_keys(account_id)
    return {"keys": [_listed(each, emails.get(each.user_id, "")) for each in found]}


@key.command("revoke")
@click.argument("client_id")
@destructive("Revoke {client_id}? Whoever uses it cannot sign in any more.")
@answers
def revoke_key(client_id: str) -> Answer:
    """Let a key sign in no more."""
    administration.revoke_key(client_id, wiring.now(), wiring.account_store())
    return {"revoked": client_id}


@key.command("rotate")
@click.argument("client_id")
@output_option
@click.option("--keep-old", is_flag=True, help="Let the old key sign in until it is revoked.")
@destructive("Replace {client_id}? Whoever uses it needs the new key.")
@answers
def rotate_key(client_id: str, output: Path | None, keep_old: bool) -> Answer:
    """Create a new key for the same user, and revoke the old one."""
    accounts = wiring.account_store()
    old = administration.known_key(client_id, accounts)
    with private_file(output) as file:
        created = _create(old.account_id, old.user_id, old.name)
        if file is not None:
            json.dump(asdict(created), file)
    if not keep_old:
        administration.revoke_key(client_id, wiring.now(), accounts)
    told: dict[str, Any] = {"path": output} if output else {"private_key": created.private_key}
    return {"client_id": created.client_id, "revoked": "" if keep_old else client_id} | told


def _create(account_id: str, who: str, name: str) -> administration.NewKey:
    accounts = wiring.account_store()
    return administration.create_key(
        account_id,
        user_id=members.find_user(account_id, who, accounts).user_id,
        key_id=secrets.token_hex(8),
        secret=new_secret(),
        now=wiring.now(),
        accounts=accounts,
        name=name,
    )


def _listed(found: ApiKey, email: str) -> dict[str, Any]:
    return {
        "client_id": found.client_id,
        "name": found.name,
        "user_id": found.user_id,
        "email": email,
        "role": found.role.value,
        "created_at": found.created_at,
        "used_at": found.used_at,
        "revoked_at": found.revoked_at,
    }
