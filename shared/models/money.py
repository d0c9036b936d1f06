"""The ledger: one append-only entry per attempt."""

from dataclasses import dataclass
from datetime import datetime

from shared.models.job import AttemptRef
from shared.models.task import Outcome


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What one attempt cost. Units: started minutes, micro-dollars. `date` is the UTC day it ended, YYYY-MM-DD."""

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
    billed_minutes: int
    price_micros_per_minute: int
    cost_micros: int
