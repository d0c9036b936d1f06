"""Structured logs: one JSON object a line, the same keys everywhere."""

import json
import logging

logger = logging.getLogger("baton")
logger.setLevel(logging.INFO)


def log(severity: str, event: str, **fields: object) -> None:
    """Write one JSON line. Never pass a query string, a header or a body."""
    line = json.dumps({"severity": severity, "event": event, **fields}, default=str)
    logger.log(logging.getLevelNamesMapping()[severity], line)
