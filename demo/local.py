"""`python -m demo.local`, the end of `make up`: a studio on the local stack, whose key `make env` prints."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.studio import BLENDER, PROJECT, create_farm, create_studio, key_file, owner_of

ACCOUNT = "studio"
MAX_INSTANCES = 4  # as many as a workstation bears


def open_studio(env: Mapping[str, str]) -> None:
    """Create the studio, unless it is there. Raises: RuntimeError."""
    state = Path(env["BATON_STATE_DIR"])
    key = state / "api_key.json"
    if key.exists():
        return
    # the next start of the stack empties this, as it forgets the studio
    folder = state / "data" / "studio"
    folder.mkdir(mode=0o700, exist_ok=True)
    blender = Path(env["BATON_SOFTWARE_DIR"]) / BLENDER
    software = {"blender": blender} if (blender / "bin" / "blender").exists() else {}
    create_farm(folder, env, software=software, max_instances=MAX_INSTANCES)
    create_studio(folder, env, account_id=ACCOUNT)
    key_file(folder, ACCOUNT).replace(key)


def main() -> int:
    """Open the studio and say how to get in; returns 0 when it is open."""
    try:
        open_studio(os.environ)
    except RuntimeError as error:
        print(f"No studio: {error}\n`make down` and `make up` begin anew.", file=sys.stderr)
        return 1
    email, password = owner_of(ACCOUNT)
    print(f"Sign in as         {email} with {password}")
    print(f"Project            {PROJECT}; `make env` has an API key of this user")
    return 0


if __name__ == "__main__":
    sys.exit(main())
