"""Downloads: what daemons are handed."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class DownloadLease:
    """The frames of an attempt, handed to nobody else before `until`.

    `returned_count`: how often they were given back.
    """

    attempt: int
    until: datetime
    returned_count: int = 0
