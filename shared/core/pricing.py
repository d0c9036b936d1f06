"""What an attempt costs."""

from datetime import datetime, timedelta


def billed_minutes(started_at: datetime, ended_at: datetime) -> int:
    """Return the started minutes between two moments; an attempt that ran at all costs one."""
    return max(1, -(-(ended_at - started_at) // timedelta(minutes=1)))


def cost_micros(minutes: int, price_micros_per_minute: int) -> int:
    """Return the price of so many minutes, in micro-dollars."""
    return minutes * price_micros_per_minute
