"""Group commit: calls that come while another is on its way leave together in the next one.

A lone call waits for nobody. Under load a call carries what a dozen threads wait for, which spares the database and
this process most of what each call costs.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(Generic[Item, Result]):
    """One caller's item, and what became of it."""

    def __init__(self, item: Item, keys: frozenset[Hashable]) -> None:
        self.item = item
        self.keys = keys
        # Held until the caller is woken, once: a bare lock costs a small part of what an event does.
        self._gate = threading.Lock()
        self._gate.acquire()
        self.is_leader = False
        self.result: Result | BaseException | None = None

    def wait(self) -> None:
        """Return once `wake` was called."""
        self._gate.acquire()

    def wake(self) -> None:
        """Let the caller go on."""
        self._gate.release()


class Combiner(Generic[Item, Result]):
    """Runs items together, `most` at once. Items that share a key never go together.

    `run` takes items and returns, for each, its result or the error to raise to its caller.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | BaseException]],
        keys_of: Callable[[Item], Iterable[Hashable]],
        most: int,
    ) -> None:
        self._run = run
        self._keys_of = keys_of
        self._most = most
        self._lock = threading.Lock()
        self._queue: list[_Waiting[Item, Result]] = []
        self._is_busy = False

    def call(self, item: Item) -> Result:
        """Return the item's result. Raises: whatever `run` says for it."""
        mine: _Waiting[Item, Result] = _Waiting(item, frozenset(self._keys_of(item)))
        with self._lock:
            self._queue.append(mine)
            mine.is_leader = not self._is_busy
            self._is_busy = True
        if not mine.is_leader:
            mine.wait()
        if mine.is_leader:
            self._lead(mine)
        if isinstance(mine.result, BaseException):
            raise mine.result
        assert mine.result is not None, "every item has a result"
        return mine.result

    def _lead(self, mine: _Waiting[Item, Result]) -> None:
        """Run a batch that holds one's own item, then wake its callers and the next leader."""
        with self._lock:
            batch = self._take(mine)
        try:
            results = self._run([each.item for each in batch])
        except BaseException as error:  # noqa: BLE001  raised by every caller of the batch
            results = [error] * len(batch)
        for each, result in zip(batch, results, strict=True):
            each.result = result
        with self._lock:
            successor = self._queue[0] if self._queue else None
            self._is_busy = successor is not None
        if successor is not None:
            successor.is_leader = True
            successor.wake()
        for each in batch:
            if each is not mine:
                each.wake()

    def _take(self, mine: _Waiting[Item, Result]) -> list[_Waiting[Item, Result]]:
        batch, keys = [mine], set(mine.keys)
        left = []
        for each in self._queue:
            if each is mine:
                continue
            if len(batch) < self._most and keys.isdisjoint(each.keys):
                batch.append(each)
                keys |= each.keys
            else:
                left.append(each)
        self._queue = left
        return batch
