"""Who wants the attempt to end early: one place that threads, signal handlers and loops share.

Everything rests on an eventfd that is never read, so that it stays readable for all who wait and a signal handler may
set it without taking a lock.
"""

import os
import select
from enum import IntEnum

from agent.errors import Stopped, Unreachable, Withdrawn


class Cause(IntEnum):
    """Why the attempt shall end; the greatest one decides."""

    KILLED = 1  # the server said stop
    REFUSED = 2  # the server does not understand us
    TERMINATED = 3  # a signal: the scheduler stops us, or the machine goes down
    PREEMPTED = 4  # the provider takes the machine back
    UNREACHABLE = 5  # the server is silent for too long
    WITHDRAWN = 6  # the attempt is not ours any more


class Ending:
    """The wish to end, with its causes."""

    def __init__(self) -> None:
        self._causes: dict[Cause, str] = {}
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def request(self, cause: Cause, reason: str) -> None:
        """Ask for the end; the first reason of each cause is kept. Safe in a signal handler."""
        self._causes.setdefault(cause, reason)
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Return a descriptor that is readable from the first request on."""
        return self._fd

    @property
    def cause(self) -> Cause | None:
        """The weightiest cause so far."""
        return max(tuple(self._causes), default=None)

    @property
    def reason(self) -> str:
        """The reason that came with it."""
        cause = self.cause
        return "" if cause is None else self._causes[cause]

    def wait(self, timeout_s: float) -> bool:
        """Wait for a request; return whether there is one."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def check(self) -> None:
        """Raises: Stopped when the attempt shall end, or what `check_ours` raises."""
        self.check_ours()
        if self._causes:
            raise Stopped(self.reason)

    def check_ours(self) -> None:
        """Raises: Withdrawn, Unreachable when nothing may or can be reported any more."""
        if self.cause is Cause.WITHDRAWN:
            raise Withdrawn(self.reason)
        if self.cause is Cause.UNREACHABLE:
            raise Unreachable(self.reason)
