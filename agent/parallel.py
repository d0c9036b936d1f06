"""Do one thing for many items by a few threads, without outliving the wish to end."""

import os
import select
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from agent.ending import Ending

T = TypeVar("T")


def each(
    work: Callable[[T], None], items: Iterable[T], *, thread_count: int, ending: Ending
) -> None:
    """Call `work` on every item; return when all are done.

    Threads which still work when this raises are daemons: they end with the process, whose end is near then.
    Raises: the first error of `work`; Stopped, Withdrawn, Unreachable as soon as the attempt shall end.
    """
    waiting = list(items)
    waiting.reverse()
    lock = threading.Lock()
    errors: list[BaseException] = []
    finished = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)

    def run() -> None:
        try:
            while not errors:
                with lock:
                    if not waiting:
                        break
                    item = waiting.pop()
                work(item)
        except BaseException as exc:  # noqa: BLE001, it is raised again by the thread that waits
            errors.append(exc)
        os.eventfd_write(finished, 1)

    thread_count = min(thread_count, len(waiting))
    for _ in range(thread_count):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(thread_count):
        _wait(finished, ending)
        if errors:
            raise errors[0]
    os.close(finished)  # not when something is raised: threads that are left still write to it


def _wait(finished: int, ending: Ending) -> None:
    """Wait for the end of one more thread."""
    poll = select.poll()
    poll.register(finished, select.POLLIN)
    poll.register(ending, select.POLLIN)
    while not any(fd == finished for fd, _ in poll.poll()):
        ending.check()
    os.eventfd_read(finished)
