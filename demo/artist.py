"""What the artist's machine does, with nothing but the unmodified Conductor client: submit a job.

Run in the client's own environment: artist.py ORDER.json. Prints one JSON object a line: upload progress, then the
answer.
"""

import json
import sys
from pathlib import Path

from ciocore.conductor_submit import Submit


def main(order_path: str) -> int:
    """Submit the job that the order describes; returns 0 when it was accepted."""
    submission = Submit(json.loads(Path(order_path).read_text()))
    submission.progress_handler = lambda stats: say(
        event="upload", percent=100 * float(stats.percent_complete.value or 0)
    )
    answer, code = submission.main()
    say(event="submitted", code=code, answer=answer)
    return 0


def say(**fields: object) -> None:
    """Print one line at once."""
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
