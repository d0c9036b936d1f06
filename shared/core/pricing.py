"""What an attempt costs."""

from datetime import datetime, timedelta

from shared.models.money import MICROS_PER_DOLLAR


def billed_minutes(started_at: datetime, ended_at: datetime) -> int:
    """Return the started minutes between two moments; an attempt that ran at all costs one."""
    return max(1, -(-(ended_at - started_at) // timedelta(minutes=1)))


def cost_micros(minutes: int, price_micros_per_minute: int) -> int:
    """Return the price of so many minutes, in micro-dollars."""
    return minutes * price_micros_per_minute


def dollars(micros: int) -> str:
    """Return an amount as people read it: in cents, and one of less than a cent more precisely."""
    amount = micros / MICROS_PER_DOLLAR
    return f"${amount:,.4f}" if 0 < abs(micros) < MICROS_PER_DOLLAR // 100 else f"${amount:,.2f}"
