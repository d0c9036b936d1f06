"""HTTP requests and replies as the two APIs see them; bodies are streams. No rules live here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedIOBase
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from emulators.storage.content import BLOCK_BYTES
from emulators.storage.errors import ClientGone, Refusal, Refused

MAX_METADATA_BYTES = 16 << 20
MAX_LINE_BYTES = 8192

Headers = list[tuple[str, str]]


class Body:
    """A request's body, read at most once. `length` None means chunked."""

    def __init__(self, source: BufferedIOBase, length: int | None) -> None:
        self._blocks = self._chunked(source) if length is None else self._counted(source, length)

    def blocks(self) -> Iterator[bytes]:
        """Yield what has not been read yet. Raises: ClientGone."""
        return self._blocks

    def drain(self) -> None:
        """Read the rest, so that the next request on this connection is found."""
        for _ in self._blocks:
            pass

    def read(self) -> bytes:
        """Return a body that describes something. Raises: Refused, when it is beyond reason."""
        blocks = []
        size = 0
        for block in self._blocks:
            size += len(block)
            if size > MAX_METADATA_BYTES:
                raise Refused(Refusal.TOO_MUCH_METADATA)
            blocks.append(block)
        return b"".join(blocks)

    @staticmethod
    def _counted(source: BufferedIOBase, left: int) -> Iterator[bytes]:
        while left:
            block = source.read(min(left, BLOCK_BYTES))
            if not block:
                raise ClientGone("the body ended early")
            left -= len(block)
            yield block

    @classmethod
    def _chunked(cls, source: BufferedIOBase) -> Iterator[bytes]:
        while size := _chunk_size(source.readline(MAX_LINE_BYTES)):
            yield from cls._counted(source, size)
            if source.readline(MAX_LINE_BYTES) not in (b"\r\n", b"\n"):
                raise ClientGone("a chunk is longer than its size")
        while source.readline(MAX_LINE_BYTES) not in (b"\r\n", b"\n", b""):
            pass  # trailers


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line.split(b";")[0], 16)
    except ValueError as exc:
        raise ClientGone("malformed chunk size") from exc
    if size < 0:
        raise ClientGone("negative chunk size")
    return size


@dataclass(kw_only=True)
class Request:
    """One request. Shapes: `path` and `raw_query` are as sent; header names are lower case."""

    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    body: Body

    @cached_property
    def query(self) -> dict[str, str]:
        """Return the decoded query parameters; the last of a name counts."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def origin(self) -> str:
        """Return the address by which the client reached us."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    def integer(self, name: str, least: int = 0) -> int | None:
        """Return a query parameter that is a number. Raises: Refused."""
        text = self.query.get(name)
        return None if text is None else integer(name, text, least)

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body, empty for no body. Raises: Refused."""
        return json_object(self.body.read())


@dataclass(kw_only=True)
class Media:
    """Bytes of a file to send as a reply's body. The reply's sender closes the file."""

    file: BinaryIO
    offset: int
    count: int


@dataclass
class Reply:
    """One reply; its body is `body` or, where there is one, `media`."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    media: Media | None = None

    @property
    def length(self) -> int:
        """Return the size of the body in bytes."""
        return self.media.count if self.media else len(self.body)


def json_reply(value: object, status: int = 200) -> Reply:
    """Return `value` as a JSON reply."""
    headers = [("Content-Type", "application/json; charset=UTF-8")]
    return Reply(status, headers, json.dumps(value).encode())


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, empty for an empty one. Raises: Refused."""
    try:
        value = json.loads(body or b"{}")
    except ValueError as exc:
        raise Refused(Refusal.INVALID_ARGUMENT, f"Parse Error: {exc}") from exc
    if not isinstance(value, dict):
        raise Refused(Refusal.INVALID_ARGUMENT, "Parse Error: an object is required")
    return value


def integer(name: str, text: str, least: int = 0) -> int:
    """Return the number that `text` is. Raises: Refused, naming what it was for."""
    if not (text.isascii() and text.isdigit()) or not least <= int(text) < 1 << 63:
        raise Refused(Refusal.INVALID_ARGUMENT, f"Invalid value for {name}: '{text}'")
    return int(text)
