"""How long attempts take: what is known of a job, and what is believed of one that nothing is known of."""

from collections.abc import Sequence
from statistics import median

# What an attempt takes is known to a tenth at best: who counts on a long one to end soon waits for it in vain.
UNCERTAINTY = 0.1


def expected(
    ended: Sequence[float], running: Sequence[float], prior: float | None = None
) -> float | None:
    """Return how long an attempt of a job is expected to take, None when nobody knows.

    The job's own ended attempts say it; before the first has ended, `prior` does: what the account's other jobs took on
    such machines, when there were any. What runs longer already speaks too: scouts are often the quick ones, and
    another job may be nothing like this one. Units: seconds.
    """
    believed = median(ended) if ended else prior
    if believed is None:
        return None
    return max(believed, median(running)) if running else believed


def prior(known: Sequence[float]) -> float | None:
    """Return what to believe of a job, given what an attempt of each of the account's other jobs takes."""
    return median(known) if known else None


def left(expected_s: float, elapsed_s: float) -> float:
    """Return how long a running attempt will still take; one that is late by some time, as long again."""
    return abs(expected_s - elapsed_s) + UNCERTAINTY * expected_s
