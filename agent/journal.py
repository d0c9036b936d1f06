"""What the agent tells the machine's operator: one JSON line on stderr per event, never a secret."""

import contextlib
import json
import os
import time

_STDERR = 2


def note(event: str, **fields: object) -> None:
    """Write one line; where nobody takes it, on a full disk say, the agent has to go on all the same."""
    line = json.dumps({"at": round(time.time(), 3), "event": event, **fields})
    with contextlib.suppress(OSError):
        os.write(_STDERR, line.encode() + b"\n")
