"""Storage: what each account has stored, measured twice a day; a day's usage is the average of its measurements."""

from shared.ports import Ports

MORNING, EVENING = "am", "pm"


def ask_to_measure(ports: Ports) -> int:
    """Have every account measured, each by a message of its own; returns how many there are."""
    accounts = ports.admission.accounts()
    if accounts:
        ports.bus.publish("measure", [{"account_id": each} for each in accounts])
    return len(accounts)


def measure(account_id: str, ports: Ports, price_micros: int) -> int:
    """Measure what an account has stored, and note it with its price for this half of the day; a repeat replaces it.

    Units: bytes returned; micro-dollars a GiB-month.
    """
    size_bytes = ports.blobs.stored_bytes(f"accounts/{account_id}/")
    now = ports.now()
    half = MORNING if now.hour < 12 else EVENING
    measured = {"size_bytes": size_bytes, "micros_per_gib_month": price_micros, "measured_at": now}
    day = now.date()
    fields = {("date",): day.isoformat(), ("storage", half): measured}
    ports.ledger.save_day(account_id, day, fields)
    return size_bytes
