"""The commands on a whole job that some of its pages have not carried out yet: all of them, in their order."""

from collections.abc import Sequence
from dataclasses import replace

from shared.errors import Conflict
from shared.models.job import Command, Job, Order
from shared.models.task import PageSummary

# So many may be on their way to the pages at once; a client that orders more is faster than the farm.
MOST_ORDERS = 16
# A kill must never wait, and the server's release comes but once: these are taken however many there are.
_ALWAYS = (Command.KILL, Command.RELEASE)
_LIFTS = (Command.UNHOLD, Command.RELEASE)


def noted(job: Job, command: Command, *, is_for_ladder: bool = False) -> Job:
    """Return the job with one command more for its pages. Raises: Conflict when too many are on their way."""
    order = Order(seq=job.command_seq + 1, command=command, is_for_ladder=is_for_ladder)
    before = _needed_before(order, job.orders)
    if len(before) >= MOST_ORDERS and command not in _ALWAYS:
        raise Conflict(
            f"job {job.job_id}: {len(before)} commands are on their way to its tasks, {command} must wait for them"
        )
    return replace(job, command_seq=order.seq, orders=(*before, order))


def _needed_before(order: Order, orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """Return which of these a page that is behind of them must still carry out before this one.

    No hold that this one lifts: what is at the scheduler need not be taken back for it. Nor the last, if this is the
    same once more.
    """
    if order.command in _LIFTS:
        orders = tuple(each for each in orders if each.command is not Command.HOLD)
    if orders and replace(orders[-1], seq=order.seq) == order:
        return orders[:-1]
    return orders


def orders_after(job: Job, seq: int) -> tuple[Order, ...]:
    """Return what a page has yet to carry out that has carried out the commands up to this one, oldest first."""
    return tuple(order for order in job.orders if order.seq > seq)


def outstanding(job: Job, pages: Sequence[PageSummary]) -> tuple[Order, ...]:
    """Return the job's orders without those that all of its pages have carried out; one not written yet has none."""
    if missing_pages(job, pages):
        return job.orders
    return orders_after(job, min((page.command_seq for page in pages), default=0))


def unfinished_pages(job: Job, pages: Sequence[PageSummary]) -> list[int]:
    """Return the pages that have not carried out the job's last command yet."""
    return [page.number for page in pages if page.command_seq < job.command_seq]


def missing_pages(job: Job, pages: Sequence[PageSummary]) -> list[int]:
    """Return the pages that have not been written yet."""
    there = {page.number for page in pages}
    return [number for number in range(job.page_count) if number not in there]
