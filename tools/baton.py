"""The administrator's command line: `python -m tools.baton --help`.

It needs GOOGLE_CLOUD_PROJECT and credentials of that project, or the variables of a local stack (`make env`).
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click
import yaml

from shared import wiring
from shared.errors import BatonError
from shared.models.account import Role
from shared.services import administration
from shared.services.sign_in import new_secret

ROLES = click.Choice([role.value for role in Role])


def _told(command: Callable[..., Mapping[str, Any]]) -> Callable[..., None]:
    """Print what a command returns, as lines or as JSON, and a refusal as one line."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @wraps(command)
    def run(as_json: bool, **arguments: Any) -> None:
        try:
            told = command(**arguments)
        except BatonError as error:
            raise click.ClickException(str(error)) from error
        if as_json:
            click.echo(json.dumps(told, default=str))
            return
        for name, value in told.items():
            click.echo(f"{name}: {value}")

    return run


@click.group()
def baton() -> None:
    """Run a farm: accounts, projects, users, keys, the catalogue, orchestrators."""


@baton.group()
def account() -> None:
    """Studios."""


@account.command("create")
@click.argument("account_id")
@click.option("--name", required=True, help="What people call it.")
@click.option("--max-instances", default=100, show_default=True, help="Attempts in flight at most.")
@click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", help="For every job.")
@_told
def create_account(
    account_id: str, name: str, max_instances: int, variables: tuple[str, ...]
) -> Mapping[str, Any]:
    """Create an account."""
    pairs = (variable.partition("=") for variable in variables)
    created = administration.create_account(
        account_id,
        name=name,
        max_instances=max_instances,
        environment={key: value for key, _, value in pairs},
        accounts=wiring.account_store(),
    )
    return {"account_id": created.account_id, "name": created.name}


@baton.group()
def project() -> None:
    """Shows."""


@project.command("create")
@click.argument("account_id")
@click.argument("name")
@_told
def create_project(account_id: str, name: str) -> Mapping[str, Any]:
    """Create a project."""
    created = administration.create_project(account_id, name, wiring.account_store())
    return {"account_id": account_id, "project": created.name}


@baton.group()
def user() -> None:
    """People."""


@user.command("create")
@click.argument("account_id")
@click.argument("email")
@click.option("--role", type=ROLES, default=Role.USER.value, show_default=True)
@click.option("--project", "projects", multiple=True, help="Only these projects; none means all.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the password from this file; else it is asked for.",
)
@_told
def create_user(
    account_id: str, email: str, role: str, projects: tuple[str, ...], password_file: Path | None
) -> Mapping[str, Any]:
    """Let somebody sign in, or change what they may do."""
    password = (
        password_file.read_text().rstrip("\n")
        if password_file
        else click.prompt("Password", hide_input=True, confirmation_prompt=True)
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


@baton.group()
def key() -> None:
    """API keys for clients."""


@key.command("create")
@click.argument("account_id")
@click.argument("user_id")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key there, readable for its owner only, instead of printing it.",
)
@_told
def create_key(account_id: str, user_id: str, output: Path | None) -> Mapping[str, Any]:
    """Create an API key with the role of a user. The secret is told this once."""
    created = administration.create_key(
        account_id,
        user_id=user_id,
        key_id=secrets.token_hex(8),
        secret=new_secret(),
        now=wiring.now(),
        accounts=wiring.account_store(),
    )
    if output is None:
        return asdict(created)
    output.unlink(missing_ok=True)
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(created), file)
    return {"client_id": created.client_id, "path": output}


@key.command("revoke")
@click.argument("client_id")
@_told
def revoke_key(client_id: str) -> Mapping[str, Any]:
    """Let a key sign in no more."""
    administration.revoke_key(client_id, wiring.now(), wiring.account_store())
    return {"revoked": client_id}


@baton.group()
def catalog() -> None:
    """Instance types and software."""


@catalog.command("load")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_told
def load_catalog(folder: Path) -> Mapping[str, Any]:
    """Replace the catalogue by instance_types.yaml and packages.yaml of a folder, if they are sound."""
    types = yaml.safe_load((folder / "instance_types.yaml").read_text())
    packages = yaml.safe_load((folder / "packages.yaml").read_text())
    administration.load_catalog(types, packages, wiring.catalog_store())
    return {"instance_types": len(types), "packages": len(packages)}


@baton.group()
def orchestrator() -> None:
    """Places that run attempts."""


@orchestrator.command("save")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_told
def save_orchestrator(file: Path) -> Mapping[str, Any]:
    """Store an orchestrator as a YAML file describes it, or change it."""
    said = yaml.safe_load(file.read_text())
    saved = administration.save_orchestrator(
        said, wiring.orchestrator_store(), wiring.catalog_store()
    )
    return {"orchestrator_id": saved.orchestrator_id, "zones": dict(saved.zones)}


if __name__ == "__main__":
    baton()
