"""Which frames a download daemon may be handed, and for how long nobody else is."""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.models.download import DownloadLease

# A daemon says nothing while it fetches, so how long it may be silent follows from how much it was handed.
SILENCE = timedelta(minutes=10)
SLOWEST_BYTES_PER_S = 2_000_000
LONGEST = timedelta(hours=6)
# Frames that are given back again and again come later each time; others go first.
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=30)


def is_free(lease: DownloadLease | None, attempt: int, now: datetime) -> bool:
    """Tell whether the frames of this attempt may be handed out."""
    return lease is None or lease.attempt != attempt or lease.until <= now


def leased(
    lease: DownloadLease | None, attempt: int, size_bytes: int, now: datetime
) -> DownloadLease:
    """Return the lease of frames that are handed out together with others, `size_bytes` in all."""
    lasts = SILENCE + timedelta(seconds=size_bytes / SLOWEST_BYTES_PER_S)
    returned = lease.returned_count if lease is not None and lease.attempt == attempt else 0
    return DownloadLease(attempt=attempt, until=now + min(lasts, LONGEST), returned_count=returned)


def kept(lease: DownloadLease, now: datetime) -> DownloadLease:
    """Return the lease of frames that are on their way; the same one while it lasts long enough anyway."""
    if lease.until - now > SILENCE / 2:
        return lease
    return replace(lease, until=now + SILENCE)


def returned(lease: DownloadLease, now: datetime) -> DownloadLease:
    """Return the lease of frames that were given back: free at once the first time, after a pause later on."""
    count = lease.returned_count
    pause = min(FIRST_PAUSE * 2 ** min(count - 1, 10), LONGEST_PAUSE) if count else timedelta()
    return replace(lease, until=now + pause, returned_count=count + 1)
