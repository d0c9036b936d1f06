"""What an administrator does once, through the `baton` command.

Account, project, user, API key, catalogue, orchestrator.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
# where the software folder has the demo's renderer
BLENDER = "blender-4.5"
PROJECT = "relay"
REGION = "us-central1"
ZONES = ("us-central1-a", "us-central1-b", "us-central1-c")


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A studio on a fresh farm. `api_key` is the JSON that clients take as CONDUCTOR_API_KEY."""

    account_id: str
    project: str
    email: str
    password: str
    api_key: str


def baton(*words: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Run one administrator's command; returns what it says. Raises: RuntimeError with its own words."""
    command = [sys.executable, "-m", "tools.baton", *words, "--json"]
    done = subprocess.run(command, env=dict(env), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"baton {' '.join(words)}: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def create_farm(
    folder: Path, env: Mapping[str, str], *, software: Mapping[str, Path], **named: Any
) -> None:
    """Load the catalogue and one orchestrator on the local stand-ins.

    `software` maps a product to the folder where the machine image has it; `named` overrides fields of the
    orchestrator.
    """
    catalog = folder / "catalog"
    shutil.copytree(ROOT / "catalog", catalog, dirs_exist_ok=True)
    listed = yaml.safe_load((catalog / "packages.yaml").read_text())
    listed += [_package(product, path) for product, path in software.items()]
    (catalog / "packages.yaml").write_text(yaml.safe_dump(listed))
    baton("catalog", "load", str(catalog), env=env)
    types = yaml.safe_load((catalog / "instance_types.yaml").read_text())
    orchestrator = {
        "orchestrator_id": "nomad-local",
        "scheduler": "nomad",
        "scheduler_address": env["NOMAD_ADDR"],
        "fleet": "gce",
        "project": env["GOOGLE_CLOUD_PROJECT"],
        "region": REGION,
        "zones": dict.fromkeys(ZONES, True),
        "instance_types": [each["name"] for each in types if each.get("provider") != "aws"],
        "boot_s": 3,
        "idle_s": 10,
    } | named
    described = folder / "orchestrator.yaml"
    described.write_text(yaml.safe_dump(orchestrator))
    baton("orchestrator", "save", str(described), env=env)


def _package(product: str, path: Path) -> dict[str, Any]:
    """Return a package of the demo's own: its commands are in `bin` below its folder."""
    return {
        "package_id": f"local-{product}",
        "product": product,
        "platform": "linux",
        "major_version": "4",
        "minor_version": "5",
        "environment": [
            {"name": "PATH", "value": str(path / "bin"), "merge_policy": "append"},
        ],
        "path": str(path / "bin"),
    }


def owner_of(account_id: str) -> tuple[str, str]:
    """Return the email of a studio's owner, and the password."""
    return f"owner@{account_id}.example", f"{account_id}-demo-password"


def key_file(folder: Path, account_id: str) -> Path:
    """Return where `create_studio` leaves the owner's API key."""
    return folder / f"{account_id}-key.json"


def create_studio(
    folder: Path, env: Mapping[str, str], *, account_id: str, max_instances: int = 100
) -> Studio:
    """Create an account with a project, an owner who can sign in, and an API key in `folder`."""
    email, password = owner_of(account_id)
    secret, key = folder / f"{account_id}-password", key_file(folder, account_id)
    secret.write_text(password)
    os.chmod(secret, 0o600)
    limit = str(max_instances)
    name = account_id.capitalize()
    baton("account", "create", account_id, "--name", name, "--max-instances", limit, env=env)
    baton("project", "create", account_id, PROJECT, env=env)
    words = ("--role", "owner", "--password-file", str(secret))
    user = baton("user", "create", account_id, email, *words, env=env)
    baton("key", "create", account_id, user["user_id"], "--output", str(key), env=env)
    return Studio(
        account_id=account_id,
        project=PROJECT,
        email=email,
        password=password,
        api_key=key.read_text(),
    )
