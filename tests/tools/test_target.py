"""Which farm a command is for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from emulators.up.client import Stack, stack

ROOT = Path(__file__).parents[2]
OURS = (
    "BATON_",
    "CONDUCTOR_",
    "GOOGLE_",
    "FIRESTORE_",
    "PUBSUB_",
    "FIREBASE_",
    "STORAGE_",
    "NOMAD_",
)


@pytest.fixture(scope="module")
def local() -> Iterator[Stack]:
    """A local stack with the database only."""
    with stack(only=["firestore"]) as running:
        yield running


def baton(*words: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command as a shell does that knows these variables and no others of ours."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [sys.executable, "-m", "tools.baton", *words]
    return subprocess.run(command, env=others | dict(env), cwd=ROOT, capture_output=True, text=True)


def as_make_env_says(local: Stack) -> dict[str, str]:
    """Return what a shell knows that has read `make env`, wherever this stack's state is."""
    url = local.env["CONDUCTOR_URL"]
    return {"CONDUCTOR_URL": url, "BATON_STATE_DIR": str(local.state_path)}


def test_a_shell_that_has_read_make_env_reaches_the_local_stack(local: Stack) -> None:
    env = as_make_env_says(local)
    created = baton("account", "create", "reef", "--name", "Reef", "--json", env=env)
    assert created.returncode == 0, created.stderr
    listed = json.loads(baton("account", "list", "--json", env=env).stdout)["accounts"]
    assert [each["account_id"] for each in listed] == ["reef"]


def test_so_does_a_shell_that_knows_nothing_and_says_local(local: Stack) -> None:
    port = str(urlsplit(local.env["CONDUCTOR_URL"]).port)
    env = {"BATON_PORT_BASE": port, "BATON_STATE_DIR": str(local.state_path)}
    done = baton("--local", "account", "list", "--json", env=env)
    assert (done.returncode, "accounts" in json.loads(done.stdout)) == (0, True)


def test_a_shell_that_could_mean_two_farms_is_refused(local: Stack) -> None:
    env = as_make_env_says(local) | {"GOOGLE_CLOUD_PROJECT": "somebodys-farm"}
    done = baton("account", "list", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--local" in done.stderr
    assert baton("--local", "account", "list", env=env).returncode == 0


def test_a_shell_that_names_no_farm_is_told_what_is_missing(tmp_path: Path) -> None:
    done = baton("account", "list", env={})
    assert (done.returncode, done.stdout) == (2, "")
    assert "GOOGLE_CLOUD_PROJECT" in done.stderr
    assert "--local" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_deployment_without_credentials_is_told_so(tmp_path: Path) -> None:
    env = {"GOOGLE_CLOUD_PROJECT": "somebodys-farm", "HOME": str(tmp_path)}
    env |= {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "missing.json")}
    done = baton("account", "list", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "credentials" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stack_that_does_not_run_is_told_so(tmp_path: Path) -> None:
    env = {"CONDUCTOR_URL": "http://127.0.0.1:1", "BATON_STATE_DIR": str(tmp_path)}
    done = baton("account", "list", env=env)
    assert (done.returncode, "no stack runs" in done.stderr) == (2, True)


def test_help_needs_no_farm() -> None:
    done = baton("job", "list", "--help", env={"CONDUCTOR_URL": "http://127.0.0.1:1"})
    assert (done.returncode, "Usage: baton job list" in done.stdout) == (0, True)
