"""Dead letters: messages that failed too often. Every handler may see a message twice, so each may be sent again."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from shared.errors import NotFound
from shared.ports import Bus, DeadLetter, DeadLetters

_AT_ONCE = 8


def read(topics: Sequence[str], letters: DeadLetters) -> list[DeadLetter]:
    """Return what lies there, oldest first; it stays there. Raises: NotFound; CloudError."""
    with _taken(topics, letters) as found:
        return list(found)


def replay(
    topics: Sequence[str], message_ids: Collection[str], *, letters: DeadLetters, bus: Bus
) -> list[DeadLetter]:
    """Send letters to their topics again, all when none is named; one that no handler could read stays.

    Raises: NotFound, and none is sent; CloudError.
    """
    with _taken(topics, letters) as found:
        wanted = [each for each in _named(found, message_ids) if body_of(each) is not None]
        for topic in dict.fromkeys(each.topic for each in wanted):
            some = [each for each in wanted if each.topic == topic]
            bus.publish(topic, [body for each in some if (body := body_of(each)) is not None])
            _remove(some, found, letters)
    return wanted


def discard(
    topics: Sequence[str], message_ids: Collection[str], letters: DeadLetters
) -> list[DeadLetter]:
    """Forget letters for good, all when none is named. Raises: NotFound, and none is forgotten; CloudError."""
    with _taken(topics, letters) as found:
        wanted = _named(found, message_ids)
        _remove(wanted, found, letters)
    return wanted


def body_of(letter: DeadLetter) -> Mapping[str, Any] | None:
    """Return what a letter says, None when it is no JSON object."""
    try:
        body = json.loads(letter.data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


@contextmanager
def _taken(topics: Sequence[str], letters: DeadLetters) -> Iterator[list[DeadLetter]]:
    """Hold the letters of some topics while the block runs; what is left in the list then is put back."""
    found: list[DeadLetter] = []
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for some in pool.map(letters.take, topics):
                found += some
        found.sort(key=lambda each: (each.published_at, each.message_id))
        yield found
    finally:
        letters.put_back(found)


def _named(found: Sequence[DeadLetter], message_ids: Collection[str]) -> list[DeadLetter]:
    there = {each.message_id for each in found}
    if missing := sorted(set(message_ids) - there):
        raise NotFound(f"there is no dead letter {', '.join(missing)}")
    return [each for each in found if not message_ids or each.message_id in message_ids]


def _remove(wanted: Sequence[DeadLetter], found: list[DeadLetter], letters: DeadLetters) -> None:
    letters.remove(wanted)
    found[:] = [each for each in found if each not in wanted]
