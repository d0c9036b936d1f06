"""Run the stand-in: `python -m emulators.storage --port P --data DIR --credentials SA.json ...`.

The JSON API accepts any credentials, and none. The XML API accepts only URLs signed (V4) by one of
the service accounts given: the public half of each account's private key verifies them.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from emulators.storage.index import InUse
from emulators.storage.server import StorageServer
from emulators.storage.signatures import Signers


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m emulators.storage", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1; 0: any free one")
    parser.add_argument(
        "--data", type=Path, required=True, help="directory, made if it is not there"
    )
    parser.add_argument(
        "--credentials",
        type=Path,
        action="append",
        default=[],
        help="service-account JSON whose signatures count; may be given several times",
    )
    options = parser.parse_args()
    try:
        server = StorageServer(options.port, options.data, Signers.from_files(options.credentials))
    except (InUse, OSError, ValueError) as exc:
        sys.exit(f"storage: {exc}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with server:
        print(f"storage: http://127.0.0.1:{server.port}", flush=True)
        server.serve_forever()


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
