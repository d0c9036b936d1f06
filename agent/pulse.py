"""The thread that tells the server we live, hears what it wants, and shows the log to those who watch."""

import threading
import time
from collections.abc import Callable

from agent.ending import Cause, Ending
from agent.errors import Refused, Unreachable, Withdrawn
from agent.journal import note
from agent.log import LAST_LINES, RenderLog
from agent.service import PER_CALL, Service

_FLUSH_S = 1.0


class Pulse:
    """Heartbeats from `start` to `stop`. `phase` is what the attempt does now."""

    def __init__(
        self,
        service: Service,
        log: RenderLog,
        ending: Ending,
        *,
        heartbeat_s: float,
        memory_peak_mib: Callable[[], int],
    ) -> None:
        self.phase = "inputs"
        self._service = service
        self._log = log
        self._ending = ending
        self._heartbeat_s = heartbeat_s
        self._memory_peak_mib = memory_peak_mib
        self._is_watched = False
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # of the flush: the end of the log comes from another thread
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a call that is under way may still be answered."""
        self._stopped.set()

    def show_last(self) -> None:
        """Show the last lines to those who watch. Raises: Withdrawn; Refused."""
        if self._is_watched:
            self._flush(LAST_LINES)

    def _run(self) -> None:
        due = time.monotonic() + self._heartbeat_s
        while not self._stopped.wait(self._wait_s(due)):
            try:
                if time.monotonic() >= due:
                    self._beat()
                    due = time.monotonic() + self._heartbeat_s
                if self._is_watched:
                    self._flush(PER_CALL)
            except Withdrawn as exc:
                self._ending.request(Cause.WITHDRAWN, str(exc))
                return
            except Unreachable as exc:
                self._ending.request(Cause.UNREACHABLE, str(exc))
                return
            except Refused as exc:
                self._ending.request(Cause.REFUSED, str(exc))
                return

    def _wait_s(self, due: float) -> float:
        left_s = max(due - time.monotonic(), 0)
        return min(left_s, _FLUSH_S) if self._is_watched else left_s

    def _beat(self) -> None:
        answer = self._service.heartbeat(self.phase, self._memory_peak_mib())
        self._heartbeat_s = float(answer["heartbeat_s"])
        self._is_watched = bool(answer["is_watched"])
        if answer["action"] == "stop":
            self._ending.request(Cause.KILLED, answer.get("reason") or "stopped by the server")

    def _flush(self, limit: int) -> None:
        with self._lock:
            first_line, lines = self._log.unsent(limit)
            if not lines:
                return
            try:
                self._service.logs(first_line, lines)
            except Unreachable as exc:
                note("logs_not_sent", problem=str(exc))  # the next flush has these lines too
                return
            self._log.mark_sent(first_line + len(lines))
