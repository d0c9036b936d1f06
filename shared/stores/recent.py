"""What this process wrote a moment ago, so that what follows at once need not read it first."""

import threading
import time
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by name: at most `most`, each for `lasting_s` seconds. What is found here may have changed elsewhere."""

    def __init__(self, most: int, lasting_s: float) -> None:
        self._most = most
        self._lasting_s = lasting_s
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Value]] = {}  # oldest first

    def put(self, name: str, value: Value) -> None:
        """Keep a value, in place of an older one of this name."""
        now = time.monotonic()
        with self._lock:
            self._kept.pop(name, None)
            self._kept[name] = (now, value)
            while self._kept and (
                len(self._kept) > self._most or self._is_over(self._oldest(), now)
            ):
                del self._kept[self._oldest()]

    def take(self, name: str) -> Value | None:
        """Return a value and forget it, None when there is none, or no more."""
        with self._lock:
            if name in self._kept and self._is_over(name, time.monotonic()):
                del self._kept[name]
            found = self._kept.pop(name, None)
        return found[1] if found else None

    def _oldest(self) -> str:
        return next(iter(self._kept))

    def _is_over(self, name: str, now: float) -> bool:
        return now - self._kept[name][0] >= self._lasting_s
