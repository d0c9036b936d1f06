"""What the machine image and the scheduler tell the agent through its environment."""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import Unfit

_PATIENCE_S = 15 * 60.0
_REQUIRED = ("BATON_AGENT_URL", "BATON_ATTEMPT_TOKEN", "BATON_CACHE_DIR", "BATON_WORK_DIR")


class Settings(NamedTuple):
    """The settings of one run. `patience_s`: how long a silent server is asked again.

    `instance` is what the scheduler calls this machine where it says so, else "".
    """

    server_url: str
    token: str
    instance: str
    cache_dir: Path
    work_dir: Path
    software_paths: tuple[str, ...]
    is_sandboxed: bool
    sandbox_uid: int
    licence_check: str
    patience_s: float


def take_settings(environ: MutableMapping[str, str]) -> Settings:
    """Read the settings and remove the token from `environ`. Raises: Unfit when something is missing."""
    token = environ.pop("BATON_ATTEMPT_TOKEN", "")
    missing = [
        name for name in _REQUIRED if not environ.get(name) and name != "BATON_ATTEMPT_TOKEN"
    ]
    if not token:
        missing.append("BATON_ATTEMPT_TOKEN")
    if missing:
        raise Unfit(f"not set: {', '.join(missing)}", os.EX_CONFIG)
    try:
        sandbox_uid = int(environ.get("BATON_SANDBOX_UID", "20001"))
        patience_s = float(environ.get("BATON_PATIENCE_S", _PATIENCE_S))
    except ValueError as exc:
        raise Unfit(
            f"BATON_SANDBOX_UID and BATON_PATIENCE_S are numbers: {exc}", os.EX_CONFIG
        ) from exc
    sandbox = environ.get("BATON_SANDBOX", "on")
    if sandbox not in ("on", "off"):
        raise Unfit(f"BATON_SANDBOX is on or off, not {sandbox!r}", os.EX_CONFIG)
    return Settings(
        server_url=environ["BATON_AGENT_URL"].rstrip("/"),
        token=token,
        instance=environ.get("BATON_INSTANCE", ""),
        cache_dir=Path(environ["BATON_CACHE_DIR"]).absolute(),
        work_dir=Path(environ["BATON_WORK_DIR"]).absolute(),
        software_paths=tuple(filter(None, environ.get("BATON_SOFTWARE_PATHS", "").split(":"))),
        is_sandboxed=sandbox == "on",
        # An ordinary user renders as itself: only root can become somebody else.
        sandbox_uid=sandbox_uid if os.geteuid() == 0 else os.geteuid(),
        licence_check=environ.get("BATON_LICENCE_CHECK", ""),
        patience_s=patience_s,
    )
