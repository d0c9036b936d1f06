"""A row of the scorecard."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured, against what.

    `values` are the runs, in the unit of the row; `is_met` is None where there is no goal.
    """

    metric: str
    what: str
    unit: str
    values: Sequence[float]
    floor: str = ""
    peer: str = ""
    goal: str = ""
    is_met: bool | None = None

    def spread(self) -> str:
        """Return least, median and most."""
        ordered = sorted(self.values)
        median = ordered[len(ordered) // 2]
        return " / ".join(number(each) for each in (ordered[0], median, ordered[-1]))


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return sorted(values)[len(values) // 2]


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    head = "| | what | unit | min / median / max | floor | peer | goal | met |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "NO", None: ""}[row.is_met]
        cells = (row.metric, row.what, row.unit, row.spread(), row.floor, row.peer, row.goal, met)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
