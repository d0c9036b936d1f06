"""Structured logs: one JSON object a line, the same keys everywhere."""

import logging

import orjson

logger = logging.getLogger("baton")
logger.setLevel(logging.INFO)
_LEVELS = logging.getLevelNamesMapping()


def log(severity: str, event: str, **fields: object) -> None:
    """Write one JSON line. Never pass a query string, a header or a body."""
    line = orjson.dumps({"severity": severity, "event": event, **fields}, default=str).decode()
    logger.log(_LEVELS[severity], line)


def reason_of(error: Exception) -> str:
    """Return what to log as the reason when an error was caught: its kind, and what it says."""
    return f"{type(error).__name__}: {error}"
