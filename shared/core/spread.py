"""Split a number over places: evenly among equals, the best ones first."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", int, tuple[int, int])


def fill(tanks: Mapping[K, tuple[int, int]], amount: int) -> dict[K, int]:
    """Pour `amount` into tanks (level, limit) so that the lowest rises first; return what each got, if anything.

    More to pour never gives any tank less.
    """

    def added(to: int) -> int:
        return sum(max(min(to, limit) - level, 0) for level, limit in tanks.values())

    low, high = 0, max((limit for _, limit in tanks.values()), default=0)
    while low < high:  # the highest level that does not take more than there is
        middle = (low + high + 1) // 2
        low, high = (middle, high) if added(middle) <= amount else (low, middle - 1)
    rest = amount - added(low)
    result = {}
    for key, (level, limit) in tanks.items():
        got = max(min(low, limit) - level, 0)
        if rest > 0 and level <= low < limit:
            got, rest = got + 1, rest - 1
        if got:
            result[key] = got
    return result


def spread(count: int, places: Mapping[K, tuple[int, int]], ranks: Mapping[K, R]) -> dict[K, int]:
    """Fill the places (size, limit) of the lowest rank, then those of the next."""
    equals: defaultdict[R, dict[K, tuple[int, int]]] = defaultdict(dict)
    for key, place in places.items():
        equals[ranks[key]][key] = place
    result: dict[K, int] = {}
    for rank in sorted(equals):
        result.update(fill(equals[rank], count - sum(result.values())))
    return result
