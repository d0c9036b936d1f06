"""When machines joined, where a scheduler's list does not tell: by the looks of one process at it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from shared.models.farm import Node


class Joins:
    """Since when each machine is up. Those of the first look may have been for long: of them somebody has to tell."""

    def __init__(self) -> None:
        self._since: dict[str, datetime | None] | None = None

    def noted(self, nodes: Sequence[Node], now: datetime) -> list[Node]:
        """Return the nodes of a look with the time at which they were seen to be up, unless that is known better."""
        before = self._since
        since = {
            node.node_id: before.get(node.node_id, now) if before is not None else None
            for node in nodes
            if node.is_up
        }
        self._since = since
        return [
            node if node.joined_at else replace(node, joined_at=since.get(node.node_id))
            for node in nodes
        ]

    def learn(self, since: Mapping[str, datetime]) -> None:
        """Take over what is known better of machines that the latest look showed, by node id."""
        known = self._since or {}
        self._since = known | {each: at for each, at in since.items() if each in known}
