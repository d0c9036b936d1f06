"""Frames: which image numbers a task renders, and which tasks are scouts."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_FRAME = 10_000_000
_PART = re.compile(r"(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?", re.ASCII)
_SEPARATOR = re.compile(r"[,\s]+")


@dataclass(frozen=True)
class Frames:
    """A set of frames, kept as progressions so that a long one costs nothing.

    Shapes: each progression ascends; two of them may share frames. Iteration gives every frame once, ascending.
    """

    progressions: tuple[range, ...]

    @classmethod
    def parse(cls, text: str) -> "Frames":
        """Read a spec such as `1-9x4, 20 -5--1`. Raises: ValueError when it is empty or malformed."""
        if matched := _PART.fullmatch(text):
            return cls((_progression(matched),))
        parts = [part for part in _SEPARATOR.split(text) if part]
        if not parts:
            raise ValueError("names no frame")
        return cls(tuple(_progression(_matched(part)) for part in parts))

    def __contains__(self, frame: int) -> bool:
        return any(frame in progression for progression in self.progressions)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(set().union(*self.progressions)))

    def __len__(self) -> int:
        if len(self.progressions) == 1:
            return len(self.progressions[0])
        return len(set().union(*self.progressions))

    def __str__(self) -> str:
        return ",".join(_spec(progression) for progression in self.progressions)

    def intersects(self, frames: Sequence[int]) -> bool:
        """Tell whether any of these frames, which must ascend, is one of ours."""
        for progression in self.progressions:
            first = bisect_left(frames, progression.start)
            last = bisect_left(frames, progression.stop, lo=first)
            if any(frames[index] in progression for index in range(first, last)):
                return True
        return False


def _matched(part: str) -> re.Match[str]:
    matched = _PART.fullmatch(part)
    if matched is None:
        raise ValueError(f"{part!r} is neither a frame nor a range such as 1-10x2")
    return matched


def _progression(matched: re.Match[str]) -> range:
    first, last, every = matched.groups()
    start = int(first)
    end = start if last is None else int(last)
    step = 1 if every is None else int(every)
    if step == 0:
        raise ValueError(f"{matched[0]!r} has a step of zero")
    if max(abs(start), abs(end)) > MAX_FRAME:
        raise ValueError(f"{matched[0]!r} goes beyond frame {MAX_FRAME}")
    if start > end:
        start, end = end, start
    return range(start, end + 1, step)


def _spec(progression: range) -> str:
    first, last = progression[0], progression[-1]
    if first == last:
        return str(first)
    step = "" if progression.step == 1 else f"x{progression.step}"
    return f"{first}-{last}{step}"


def scout_indices(tasks: Sequence[Frames], scouts: Frames) -> list[int]:
    """Return the positions of the tasks that go first: those whose frames meet the scouts.

    Shapes: empty when everything may start at once: where they meet no task, and where they meet all.
    """
    wanted = list(scouts)
    found = [index for index, frames in enumerate(tasks) if frames.intersects(wanted)]
    return [] if len(found) == len(tasks) else found
