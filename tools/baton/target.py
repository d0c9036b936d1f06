"""Which farm the commands are for: the one that the environment names, or the local stack of this machine."""

import os
from urllib.parse import urlsplit

import click

from emulators.up.client import Stack
from emulators.up.state import (
    DEFAULT_PORT_BASE,
    StackError,
    StateDir,
    default_state_path,
    port_base_from_env,
)


class WrongSettings(click.ClickException):
    """The environment does not say which farm is meant."""

    exit_code = 2


def choose_target(local: bool) -> None:
    """Fill in the environment of the local stack where it is meant. Raises: WrongSettings.

    It is meant when somebody says so, or when the shell knows nothing but what `make env` prints. A shell that names a
    real project besides a client's address on this machine could mean either.
    """
    port = _port_of_a_local_client()
    if not local:
        if port is None or "FIRESTORE_EMULATOR_HOST" in os.environ:
            return
        if "GOOGLE_CLOUD_PROJECT" in os.environ:
            raise WrongSettings(
                "CONDUCTOR_URL names a local stack and GOOGLE_CLOUD_PROJECT a deployment: "
                "unset one of them, or say --local"
            )
    try:
        state = default_state_path(port or port_base_from_env())
        os.environ.update(Stack(StateDir(state)).env)
    except StackError as error:
        raise WrongSettings(str(error)) from error


def _port_of_a_local_client() -> int | None:
    url = urlsplit(os.environ.get("CONDUCTOR_URL", ""))
    if url.hostname not in ("127.0.0.1", "localhost"):
        return None
    return url.port or DEFAULT_PORT_BASE
