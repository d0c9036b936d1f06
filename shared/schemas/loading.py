"""From a body to a model: every complaint names its field by its path in the JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import Schema, ValidationError

from shared.errors import InvalidRequest


def load(schema: Schema, body: Mapping[str, Any], path: str = "") -> Any:
    """Return what the schema makes of a body; `path` is where the body itself is in something larger.

    Raises: InvalidRequest, whose fields are dotted paths.
    """
    try:
        return schema.load(body)
    except ValidationError as error:
        raise InvalidRequest(dict(_flattened(error.messages, path))) from error


def _flattened(messages: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(messages, Mapping):
        yield path or "body", " ".join(map(str, messages))
        return
    for name, inner in messages.items():
        yield from _flattened(inner, path if name == "_schema" else f"{path}.{name}".lstrip("."))
