"""What messages of Pub/Sub hold: ids, and numbers. Nothing here reads the stores.

A message that was made by somebody else, or by an older Baton, must name no document but one of ours.
"""

import re
from collections.abc import Mapping

from shared.errors import InvalidRequest
from shared.models.job import JobRef

Message = Mapping[str, object]

# What Baton makes ids of; anything else names no document of ours.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def read_id(message: Message, name: str) -> str:
    """Return the id in the field `name`. Raises: InvalidRequest."""
    value = message.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidRequest({name: "must be an id"})
    return value


def read_ids(message: Message, name: str) -> list[str]:
    """Return the ids that the field `name` lists. Raises: InvalidRequest."""
    return [read_id({name: each}, name) for each in _listed(message, name)]


def read_job(message: Message) -> JobRef:
    """Return the job that `account_id` and `job_id` name. Raises: InvalidRequest."""
    return JobRef(read_id(message, "account_id"), read_id(message, "job_id"))


def read_number(message: Message, name: str) -> int:
    """Return the number in the field `name`, 0 or more. Raises: InvalidRequest."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest({name: "must be a whole number"})
    return value


def read_numbers(message: Message, name: str) -> list[int]:
    """Return the numbers that the field `name` lists, each 0 or more. Raises: InvalidRequest."""
    return [read_number({name: each}, name) for each in _listed(message, name)]


def _listed(message: Message, name: str) -> list[object]:
    value = message.get(name)
    if not isinstance(value, list):
        raise InvalidRequest({name: "must be a list"})
    return value
