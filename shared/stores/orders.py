"""The commands that some page of a job may not have carried out yet, as the job's document has them."""

from collections.abc import Mapping
from typing import Any

from shared.models.job import Command, Order


def orders_from(found: Mapping[str, Any]) -> tuple[Order, ...]:
    """Read them, oldest first, from a job's document."""
    if "orders" not in found:
        return _of_old(found)
    return tuple(Order(**each | {"command": Command(each["command"])}) for each in found["orders"])


def _of_old(found: Mapping[str, Any]) -> tuple[Order, ...]:
    """Read a document that still has the last of each kind only, each with its number."""
    kept = (
        (found.get("ordered_seq", 0), found["command"], False),
        (found.get("edited_seq", 0), Command.EDIT, False),
        (found.get("ladder_seq", 0), Command.EDIT, True),
    )
    return tuple(
        Order(seq=seq, command=Command(command), is_for_ladder=is_for_ladder)
        for seq, command, is_for_ladder in sorted(kept, key=lambda each: each[0])
        if seq
    )
