"""The ledger: one append-only entry per attempt."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from shared.models.job import AttemptRef
from shared.models.task import Outcome

MICROS_PER_DOLLAR = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What one attempt cost. Units: started minutes, micro-dollars; `core_minutes` are minutes times cores.

    `date` is the UTC day it ended, YYYY-MM-DD, and `hour` the hour of that day, 00 to 23.
    """

    attempt: AttemptRef
    project: str
    owner: str
    instance_type: str
    is_preemptible: bool
    instance: str
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    date: str
    hour: str
    billed_minutes: int
    core_minutes: int
    price_micros_per_minute: int
    cost_micros: int


@dataclass(frozen=True, kw_only=True)
class LedgerSums:
    """What some entries come to. Units: started minutes, minutes times cores, micro-dollars."""

    attempt_count: int = 0
    billed_minutes: int = 0
    core_minutes: int = 0
    cost_micros: int = 0


class Ending(NamedTuple):
    """Where and when an attempt ended."""

    instance: str
    at: datetime
