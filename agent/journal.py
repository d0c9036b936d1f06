"""What the agent tells the machine's operator: one JSON line on stderr per event, never a secret."""

import json
import sys
import time


def note(event: str, **fields: object) -> None:
    """Write one line."""
    print(
        json.dumps({"at": round(time.time(), 3), "event": event, **fields}),
        file=sys.stderr,
        flush=True,
    )
