"""Waiting, for what tells nobody when it is so."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Longer than anything takes on a machine that has much else to do: only a test that fails waits for so long.
PATIENCE_S = 60


def until(look: Callable[[], T], *, holds: Callable[[T], object] = bool) -> T:
    """Return what `look` finds as soon as it holds. Raises: AssertionError when it does not within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(found := look()):
        assert time.monotonic() < deadline, f"still {found!r} after {PATIENCE_S} s"
        time.sleep(0.02)
    return found
