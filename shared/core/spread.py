"""Split a number over places: evenly among equals, the best ones first."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R", int, tuple[int, ...])


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


def spread(
    count: int,
    places: Mapping[K, tuple[int, int]],
    ranks: Mapping[K, R],
    bounds: Sequence[tuple[Collection[K], int]] = (),
) -> dict[K, int]:
    """Fill the places (size, limit) of the lowest rank, then those of the next.

    Shapes: each of the `bounds` is some places and how many they get together at most.
    """
    equals: defaultdict[R, dict[K, tuple[int, int]]] = defaultdict(dict)
    for key, place in places.items():
        equals[ranks[key]][key] = place
    result: dict[K, int] = {}
    for rank in sorted(equals):
        bounded = _bounded(equals[rank], bounds, result) if bounds else equals[rank]
        result.update(fill(bounded, count - sum(result.values())))
    return result


def _bounded(
    places: Mapping[K, tuple[int, int]],
    bounds: Sequence[tuple[Collection[K], int]],
    given: Mapping[K, int],
) -> dict[K, tuple[int, int]]:
    """Lower the limits of places so that they exceed no bound, together with what was `given` to others before."""
    result = dict(places)
    for inside, most in bounds:
        tanks = {key: place for key, place in result.items() if key in inside}
        left = most - sum(given.get(key, 0) for key in inside)
        shares = fill(tanks, max(left, 0))
        result |= {key: (size, size + shares.get(key, 0)) for key, (size, _) in tanks.items()}
    return result
