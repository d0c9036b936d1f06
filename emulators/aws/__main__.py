"""`python -m emulators.aws --port P`: Amazon's stand-in."""

import argparse
import signal

from emulators.aws.groups import Pace
from emulators.aws.server import Aws, serve


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--boot-s", type=float, default=2.0, help="how long machines are pending")
    parser.add_argument("--stop-s", type=float, default=0.2, help="how long they shut down")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # threads started from here on inherit it
    with serve(Aws(Pace(arguments.boot_s, arguments.stop_s)), arguments.port) as url:
        print(f"aws stand-in: {url}", flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
