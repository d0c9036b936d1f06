"""Golden files: what was once reviewed, as JSON in tests/golden."""

import json
import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check_golden(name: str, found: object) -> None:
    """Compare with what was reviewed; BATON_GOLDEN=write stores it anew, to be reviewed again."""
    path = GOLDEN / f"{name}.json"
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    if os.environ.get("BATON_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
