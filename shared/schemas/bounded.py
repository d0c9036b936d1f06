"""Fields of open-ended content: counted before anything in them is looked at, and only their first faults are told."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import ValidationError, fields

# After this many complaints the rest of a field is not looked at: the answer must stay readable.
MAX_COMPLAINTS = 20
_NAME_TOLD = 128
# The database keeps such names for itself.
_RESERVED = re.compile(r"__.*__", re.DOTALL)


class Strings(fields.Field[tuple[str, ...]]):
    """A list of strings, none of them empty."""

    def __init__(self, *, max_count: int, max_length: int, **named: Any) -> None:
        each = {"type": "string", "minLength": 1, "maxLength": max_length}
        told = {"type": "array", "items": each, "maxItems": max_count}
        super().__init__(metadata=told, **named)
        self._max_count = max_count
        self._max_length = max_length

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValidationError("Not a valid list.")
        if len(value) > self._max_count:
            raise ValidationError(f"Must have at most {self._max_count} entries.")
        wrong: dict[int, object] = {}
        for index, each in enumerate(value):
            if not isinstance(each, str) or not 1 <= len(each) <= self._max_length:
                wrong[index] = [f"Must be a string of 1 to {self._max_length} characters."]
                if len(wrong) >= MAX_COMPLAINTS:
                    break
        if wrong:
            raise ValidationError(wrong)
        return tuple(value)


class Pairs(fields.Field[dict[str, str]]):
    """An object of strings, such as variables. `has_reserved`: its names become the database's.

    Units: `max_bytes` counts all names and values as UTF-8.
    """

    def __init__(
        self,
        *,
        max_count: int,
        max_name: int,
        max_value: int,
        max_bytes: int,
        has_reserved: bool = False,
        **named: Any,
    ) -> None:
        value = {"type": "string", "maxLength": max_value}
        told = {"type": "object", "additionalProperties": value, "maxProperties": max_count}
        super().__init__(metadata=told, **named)
        self._max_count = max_count
        self._max_name = max_name
        self._max_value = max_value
        self._max_bytes = max_bytes
        self._has_reserved = has_reserved

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError("Not a valid mapping type.")
        if len(value) > self._max_count:
            raise ValidationError(f"Must have at most {self._max_count} entries.")
        wrong: dict[str, object] = {}
        size_bytes = 0
        for name, text in value.items():
            if complaints := dict(self._complaints(name, text)):
                wrong[name[:_NAME_TOLD]] = complaints
                if len(wrong) >= MAX_COMPLAINTS:
                    break
                continue
            size_bytes += len(name.encode()) + len(text.encode())
        if wrong:
            raise ValidationError(wrong)
        if size_bytes > self._max_bytes:
            raise ValidationError(f"Must have at most {self._max_bytes} bytes in all.")
        return value

    def _complaints(self, name: str, text: Any) -> Iterator[tuple[str, list[str]]]:
        if not name or "=" in name or "\0" in name:
            yield "key", ["Must not be empty nor contain '='."]
        elif len(name) > self._max_name:
            yield "key", [f"Longer than {self._max_name} characters."]
        elif self._has_reserved and _RESERVED.fullmatch(name):
            yield "key", ["Must not begin and end with two underscores."]
        if not isinstance(text, str) or "\0" in text:
            yield "value", ["Must be a string without null characters."]
        elif len(text) > self._max_value:
            yield "value", [f"Longer than {self._max_value} characters."]
