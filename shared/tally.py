"""How many documents the present request read and wrote: what the database bills."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


class Tally(threading.local):
    """Counts of one thread; a request is handled by one thread from beginning to end, but for what it does `aside`."""

    read_count = 0
    write_count = 0

    def start(self) -> None:
        """Begin anew."""
        self.read_count = self.write_count = 0


tally = Tally()


@contextmanager
def aside(work: Callable[[], None]) -> Iterator[None]:
    """Do some work in a thread of its own while the block runs; what it reads and writes counts in this one.

    Raises: what the work raises, when both have ended.
    """

    def counted() -> tuple[int, int]:
        work()
        return tally.read_count, tally.write_count

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(counted)
        yield
        read_count, write_count = done.result()
    tally.read_count += read_count
    tally.write_count += write_count
