"""An attempt's log: every line that fits in a file, the newest ones in memory for those who watch."""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from agent.clean import clean_line

MAX_BYTES = 32 << 20
LINES_PER_S = 2000
BURST_LINES = 20_000
RESUME_LINES = 1000  # once too fast, nothing is kept until so many lines would be allowed again
SHOWN_LINES = 500
LAST_LINES = 200

_BREAK = re.compile(
    rb"\r\n|\n|\r(?=.)", re.DOTALL
)  # a return at the very end may be half of a line's end
_PARTIAL_BYTES = 64 << 10


class RenderLog:
    """Takes bytes as they come from one thread, gives lines to another.

    What comes too fast, or is too much, is counted instead of kept, but the last lines always are: errors stand there.
    A disk that takes no more of them ends no render: those who watch see them all the same.
    """

    def __init__(self, path: Path, secret: str, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._file = path.open("wb")
        self._secret = secret
        self._left_bytes = max_bytes
        self._tokens = float(BURST_LINES)
        self._refilled_at = time.monotonic()
        self._partial = b""
        self._is_dropping = False
        self._dropped_count = 0
        self._dropped: deque[bytes] = deque(maxlen=LAST_LINES)
        self._lock = threading.Lock()
        self._shown: deque[str] = deque(maxlen=SHOWN_LINES)
        self._line_count = 0
        self._sent_count = 0

    def write(self, content: bytes) -> None:
        """Take output of the program."""
        *lines, partial = _BREAK.split(self._partial + content)
        self._partial = partial[:_PARTIAL_BYTES]
        self._refill()
        for line in lines:
            self._take(line)

    def note(self, text: str) -> None:
        """Add a line of our own."""
        self._end_partial()
        self._keep(clean_line(f"[baton] {text}".encode(), self._secret))

    def close(self) -> None:
        """Write what is left."""
        self._end_partial()
        self._tell_dropped()
        with contextlib.suppress(OSError):
            self._file.close()

    def unsent(self, limit: int) -> tuple[int, Sequence[str]]:
        """Return the number of the first and the newest lines that were not sent, at most `limit`."""
        with self._lock:
            count = min(self._line_count - self._sent_count, limit, len(self._shown))
            return self._line_count - count, list(self._shown)[len(self._shown) - count :]

    def mark_sent(self, line_count: int) -> None:
        """Note that all lines before this number are sent, or will never be."""
        with self._lock:
            self._sent_count = line_count

    def last_lines(self, count: int) -> str:
        """Return the end of the log, for a reason."""
        with self._lock:
            return "\n".join(list(self._shown)[-count:])

    def _end_partial(self) -> None:
        if self._partial:
            line, self._partial = self._partial, b""
            self._take(line.rstrip(b"\r"))

    def _take(self, line: bytes) -> None:
        wanted = RESUME_LINES if self._is_dropping else 1
        self._is_dropping = self._tokens < wanted or self._left_bytes <= 0
        if self._is_dropping:
            self._dropped_count += 1
            self._dropped.append(line)
            return
        self._tell_dropped()
        self._tokens -= 1
        self._keep(clean_line(line, self._secret))

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._refilled_at) * LINES_PER_S, BURST_LINES)
        self._refilled_at = now

    def _tell_dropped(self) -> None:
        """Say how many lines are missing, then keep the last of them after all."""
        if gone := self._dropped_count - len(self._dropped):
            self._keep(f"... {gone} lines dropped")
        for line in self._dropped:
            self._keep(clean_line(line, self._secret))
        self._tokens -= len(self._dropped)
        self._dropped_count = 0
        self._dropped.clear()

    def _keep(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._left_bytes -= self._file.write(line.encode() + b"\n")
        with self._lock:
            self._shown.append(line)
            self._line_count += 1
