"""Matching of waiting work to nodes, for any scheduler.

Work with equal demands shares one queue, and each demand knows which nodes could take it: a
registration, a freed node and a new node each cost the number of different demands, never the
number of what waits.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

_MOST_CLASSES = 256


@dataclass(frozen=True)
class Quantity:
    """An amount of a node's resources. `slots` is the number of pieces of work."""

    cpu_mhz: int = 0
    cores: int = 0
    memory_mib: int = 0
    slots: int = 1
    gpus: int = 0

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(
            self.cpu_mhz + other.cpu_mhz,
            self.cores + other.cores,
            self.memory_mib + other.memory_mib,
            self.slots + other.slots,
            self.gpus + other.gpus,
        )

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(
            self.cpu_mhz - other.cpu_mhz,
            self.cores - other.cores,
            self.memory_mib - other.memory_mib,
            self.slots - other.slots,
            self.gpus - other.gpus,
        )

    def lacking(self, wanted: "Quantity") -> str | None:
        """Return the first dimension in which `wanted` does not fit here."""
        if wanted.slots > self.slots:
            return "max allocs exceeded"
        if wanted.cpu_mhz > self.cpu_mhz:
            return "cpu"
        if wanted.cores > self.cores:
            return "cores"
        if wanted.memory_mib > self.memory_mib:
            return "memory"
        if wanted.gpus > self.gpus:
            return "gpus"
        return None


#: Why a node can never take a demand, None when it can.
Verdict = Callable[[Mapping[str, str]], str | None]
#: How gladly a demand takes a node.
Score = Callable[[Mapping[str, str]], float]


@dataclass(frozen=True)
class Demand:
    """What a piece of work asks for. `key` names the rules which `verdict` and `score` apply to node facts.

    Of the nodes that fit, one with the highest score is taken; without `score` all are alike.
    """

    key: str
    quantity: Quantity
    verdict: Verdict = field(compare=False)
    score: Score | None = field(default=None, compare=False)


@dataclass
class Seat:
    """One node as placement sees it."""

    facts: Mapping[str, str]
    free: Quantity
    is_open: bool


@dataclass
class Shortage:
    """Why a demand fits nowhere now. Shapes: counts of open nodes, by place and by reason."""

    places: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    exhausted: Counter[str] = field(default_factory=Counter)


@dataclass
class _Class:
    """All that is known of one demand: what waits, in order, and which nodes could take it now."""

    verdicts: dict[str, str | None] = field(default_factory=dict)
    ready: dict[str, None] = field(default_factory=dict)
    heap: list[tuple[int, int, str]] = field(default_factory=list)


class Placement:
    """Nodes, what they have left, and the work that waits for them.

    `place` names the fact by which shortages count nodes.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._seats: dict[str, Seat] = {}
        self._classes: dict[Demand, _Class] = {}
        self._waiting: dict[str, tuple[Demand, tuple[int, int, str]]] = {}
        self._shortages: dict[Demand, Shortage] = {}

    def set_node(
        self, node_id: str, facts: Mapping[str, str], free: Quantity, is_open: bool
    ) -> None:
        """Add or replace a node."""
        self._seats[node_id] = Seat(facts, free, is_open)
        for demand, class_ in self._classes.items():
            class_.verdicts[node_id] = demand.verdict(facts)
        self._changed(node_id)

    def remove_node(self, node_id: str) -> None:
        """Forget a node."""
        del self._seats[node_id]
        for class_ in self._classes.values():
            class_.verdicts.pop(node_id, None)
            class_.ready.pop(node_id, None)
        self._shortages.clear()

    def open_node(self, node_id: str, is_open: bool) -> None:
        """Allow or forbid new work on a node."""
        self._seats[node_id].is_open = is_open
        self._changed(node_id)

    def occupy(self, node_id: str, quantity: Quantity) -> None:
        """Take `quantity` of a node."""
        self._seats[node_id].free -= quantity
        self._changed(node_id)

    def release(self, node_id: str, quantity: Quantity) -> None:
        """Give `quantity` of a node back; quiet when the node is gone."""
        if node_id in self._seats:
            self._seats[node_id].free += quantity
            self._changed(node_id)

    def find(self, demand: Demand) -> str | None:
        """Return a node that can take `demand` now: of those it likes best, the one that has been free longest."""
        ready, score = self._class(demand).ready, demand.score
        if score is None:
            return next(iter(ready), None)
        return max(ready, key=lambda node_id: score(self._seats[node_id].facts), default=None)

    def wait(self, work_id: str, demand: Demand, priority: int, order: int) -> None:
        """Queue a piece of work: high priority first, then low order."""
        entry = (-priority, order, work_id)
        heapq.heappush(self._class(demand).heap, entry)
        self._waiting[work_id] = (demand, entry)

    def cancel(self, work_id: str) -> None:
        """Take a piece of work out of the queue; quiet when it does not wait."""
        self._waiting.pop(work_id, None)

    def is_waiting(self, work_id: str) -> bool:
        """Return whether a piece of work waits."""
        return work_id in self._waiting

    def take(self, node_id: str) -> Iterator[str]:
        """Yield, and dequeue, the work to place on a node, while the caller occupies the node."""
        while (best := self._best(node_id)) is not None:
            del self._waiting[best]
            yield best

    def shortage(self, demand: Demand) -> Shortage:
        """Return why `demand` fits nowhere."""
        if (known := self._shortages.get(demand)) is not None:
            return known
        found = Shortage()
        verdicts = self._class(demand).verdicts
        for node_id, seat in self._seats.items():
            if not seat.is_open:
                continue
            found.places[seat.facts.get(self._place, "")] += 1
            if (reason := verdicts[node_id]) is not None:
                found.filtered[reason] += 1
            elif (dimension := seat.free.lacking(demand.quantity)) is not None:
                found.exhausted[dimension] += 1
        self._shortages[demand] = found
        return found

    def _class(self, demand: Demand) -> _Class:
        class_ = self._classes.get(demand)
        if class_ is None:
            self._drop_idle_classes()
            class_ = self._classes[demand] = _Class()
            for node_id, seat in self._seats.items():
                class_.verdicts[node_id] = demand.verdict(seat.facts)
                self._judge(node_id, seat, demand, class_)
        return class_

    def _drop_idle_classes(self) -> None:
        """Keep what is known of past demands from growing for ever."""
        if len(self._classes) >= _MOST_CLASSES:
            for demand, class_ in list(self._classes.items()):
                if self._head(demand, class_) is None:
                    del self._classes[demand]

    def _changed(self, node_id: str) -> None:
        """Judge a node again for every demand."""
        self._shortages.clear()
        seat = self._seats[node_id]
        for demand, class_ in self._classes.items():
            self._judge(node_id, seat, demand, class_)

    def _judge(self, node_id: str, seat: Seat, demand: Demand, class_: _Class) -> None:
        fits = (
            seat.is_open
            and class_.verdicts[node_id] is None
            and seat.free.lacking(demand.quantity) is None
        )
        if not fits:
            class_.ready.pop(node_id, None)
        else:
            class_.ready.setdefault(node_id)

    def _best(self, node_id: str) -> str | None:
        """Return the first piece of work, over all queues, that the node can take now."""
        best: tuple[int, int, str] | None = None
        for demand, class_ in self._classes.items():
            if node_id not in class_.ready:
                continue
            head = self._head(demand, class_)
            if head is not None and (best is None or head < best):
                best = head
        return None if best is None else best[2]

    def _head(self, demand: Demand, class_: _Class) -> tuple[int, int, str] | None:
        """Return the first entry of a queue that was not cancelled."""
        while class_.heap:
            head = class_.heap[0]
            if self._waiting.get(head[2]) == (demand, head):
                return head
            heapq.heappop(class_.heap)
        return None
