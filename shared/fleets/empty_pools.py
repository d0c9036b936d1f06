"""Which of a fleet's pools need no look: groups are never removed, and each look is two of few calls."""

from collections.abc import Collection

from shared.models.farm import PoolKey


class EmptyPools:
    """The pools without machines at the latest listing; nobody looks into those that had none before it either."""

    def __init__(self) -> None:
        self._empty: set[PoolKey] = set()
        self._quiet: set[PoolKey] = set()

    def note(self, empty: Collection[PoolKey]) -> None:
        """Note what a listing of all pools shows."""
        self._quiet = self._empty.intersection(empty)
        self._empty = set(empty)

    def note_growth(self, pool: PoolKey) -> None:
        """Note that machines were asked for."""
        self._empty.discard(pool)
        self._quiet.discard(pool)

    def is_quiet(self, pool: PoolKey) -> bool:
        """Tell whether there is nothing to see in a pool."""
        return pool in self._quiet
