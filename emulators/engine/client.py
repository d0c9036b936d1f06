"""A small asyncio HTTP client for JSON services on one keep-alive connection."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from emulators.engine.http import read_body, read_head


class Unreachable(Exception):
    """The service does not answer."""


class Client:
    """Calls to one service, one at a time: a second one waits for the first."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"not an http URL: {url}")
        self._host, self._port = parts.hostname, parts.port or 80
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float = 10,
        is_text: bool = False,
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and the JSON (else, or if `is_text`, the text) of the answer. Raises: Unreachable.

        A call on a connection that the service has closed meanwhile is sent once more.
        """
        async with self._lock:
            for is_last in (self._streams is None, True):
                try:
                    exchange = self._exchange(method, path, body)
                    status, headers, raw = await asyncio.wait_for(exchange, timeout_s)
                    is_json = headers.get("content-type", "").startswith("application/json")
                    answer = json.loads(raw) if is_json and not is_text else raw.decode()
                    return status, headers, answer
                except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
                    self.close()
                    if is_last or isinstance(exc, TimeoutError):
                        raise Unreachable(f"{method} {path}: {exc!r}") from exc
            raise AssertionError("the last try returns or raises")

    async def _exchange(
        self, method: str, path: str, body: object
    ) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        payload = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Content-Length: {len(payload)}",
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + payload)
        await writer.drain()
        head = await read_head(reader)
        if head is None:
            raise ConnectionError("closed before it answered")
        status = int(head[0].split(" ")[1])
        raw = await read_body(reader, head[1])
        if head[1].get("connection", "").lower() == "close":
            self.close()
        return status, head[1], raw

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
