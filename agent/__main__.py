"""`python -m agent`: serve the one attempt whose token the scheduler put into the environment.

Exit codes: 0 reported, or not ours any more; 1 the server stayed silent, or a fault; 69 no metadata server; 75 the
licence check failed; 78 the machine or its settings are not fit. With the last three nothing was claimed.
"""

import os
import signal
import subprocess
import sys
from types import FrameType

from agent.attempt import Attempt
from agent.cloud import detect
from agent.ending import Cause, Ending
from agent.errors import AgentError, Unfit, Withdrawn
from agent.journal import note
from agent.sandbox import check_machine
from agent.service import Service
from agent.settings import Settings, take_settings
from agent.transport import Transport

_LICENCE_TIMEOUT_S = 60


def main() -> int:
    """Serve one attempt; return the exit code."""
    os.umask(0o022)
    ending = Ending()

    def on_signal(number: int, _: FrameType | None) -> None:
        ending.request(Cause.TERMINATED, f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        _serve(take_settings(os.environ), ending)
    except Withdrawn as exc:
        note("withdrawn", reason=str(exc))
    except Unfit as exc:
        note("unfit", reason=str(exc))
        return exc.exit_code
    except AgentError as exc:
        note("gave_up", reason=str(exc))
        return 1
    return 0


def _serve(settings: Settings, ending: Ending) -> None:
    """Check the machine, then serve. Raises: AgentError."""
    if settings.is_sandboxed:
        check_machine()
    else:
        note(
            "not_sandboxed",
            warning="BATON_SANDBOX=off: the render may read and change whatever this user may",
        )
    if settings.licence_check:
        _check_licence(settings.licence_check)
    transport = Transport()
    cloud = detect(os.environ, transport)
    service = Service(settings.server_url, settings.token, transport, ending, settings.patience_s)
    identity = cloud.identity()
    if settings.instance:
        identity = identity._replace(instance=settings.instance)
    Attempt(settings, service, transport, cloud, identity, ending).run()


def _check_licence(command: str) -> None:
    """Raises: Unfit when the machine's licence check does not succeed."""
    try:
        code = subprocess.run(
            command, shell=True, stdin=subprocess.DEVNULL, timeout=_LICENCE_TIMEOUT_S
        ).returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code != 0:
        raise Unfit(f"the licence check ended with {code}", os.EX_TEMPFAIL)


if __name__ == "__main__":
    sys.exit(main())
