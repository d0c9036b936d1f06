"""Topics with a version each, and waiters that are woken when a topic moves on."""

import asyncio
from collections import defaultdict


class Topics:
    """Wake only those who wait on the topic that changed."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def version(self, topic: str) -> int:
        """Return the version of the topic's last change, 0 if it never changed."""
        return self._versions.get(topic, 0)

    def touch(self, topic: str, version: int) -> None:
        """Record a change of `topic` and wake who waits on it."""
        self._versions[topic] = version
        for waiter in self._waiters.pop(topic, ()):
            if not waiter.done():
                waiter.set_result(None)

    def touch_all(self, version: int) -> None:
        """Record a change of every topic that has changed before or is waited on."""
        for topic in self._versions.keys() | self._waiters.keys():
            self.touch(topic, version)

    def forget(self, topic: str) -> None:
        """Drop the topic's version; who waits on it is woken."""
        self.touch(topic, 0)
        del self._versions[topic]

    async def wait(self, topic: str, version: int, timeout_s: float) -> None:
        """Return once `topic` is past `version`, or after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.version(topic) <= version and (left := deadline - loop.time()) > 0:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters[topic].add(waiter)
            try:
                await asyncio.wait_for(waiter, left)
            except TimeoutError:
                return
            finally:
                self._discard(topic, waiter)

    def _discard(self, topic: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(topic)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[topic]
