"""Days as the wire has them: YYYY-MM-DD, UTC."""

import re
from datetime import date

from shared.errors import InvalidRequest

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def read_day(name: str, text: str) -> date:
    """Read the day in the field `name`. Raises: InvalidRequest."""
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass  # no such day in that month
    raise InvalidRequest({name: "must be a day, YYYY-MM-DD"})
