"""HTTP with kept connections, one per thread and host.

`http.client` and not `requests`: importing the latter takes longer than all else between the start and the claim.
"""

import http.client
import io
import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

_BLOCK = 1 << 20
_STALE = (ConnectionError, http.client.RemoteDisconnected)


class NoAnswer(Exception):
    """The other side did not answer, or hung up half way."""


class Reply(NamedTuple):
    """An answer that fits into memory."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Transport:
    """Sends requests; each thread keeps its own connections."""

    def __init__(self) -> None:
        self._local = threading.local()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        timeout_s: float = 30,
    ) -> Reply:
        """Exchange small bodies. Raises: NoAnswer."""
        content = None if body is None else io.BytesIO(body)
        response = self._exchange(method, url, dict(headers or {}), content, timeout_s)
        try:
            return Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as exc:
            self._forget(url)
            raise NoAnswer(_text(exc)) from exc

    def upload(
        self, url: str, headers: Mapping[str, str], content: BinaryIO, *, timeout_s: float = 60
    ) -> Reply:
        """PUT a file, streaming. Raises: NoAnswer."""
        response = self._exchange("PUT", url, dict(headers), content, timeout_s)
        try:
            return Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as exc:
            self._forget(url)
            raise NoAnswer(_text(exc)) from exc

    def download(self, url: str, *, timeout_s: float = 60) -> tuple[int, Iterator[memoryview]]:
        """GET a file: the status, and the body in blocks which are valid until the next one.

        Raises: NoAnswer, also while iterating.
        """
        response = self._exchange("GET", url, {}, None, timeout_s)
        return response.status, self._blocks(response, url)

    def close(self) -> None:
        """Close the connections of the calling thread."""
        for connection in self._kept().values():
            connection.close()

    def _blocks(self, response: http.client.HTTPResponse, url: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_BLOCK))
        is_complete = False
        try:
            while size := response.readinto(buffer):
                yield buffer[:size]
            is_complete = True
        except (OSError, http.client.HTTPException) as exc:
            raise NoAnswer(_text(exc)) from exc
        finally:
            if not is_complete:
                self._forget(url)

    def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: BinaryIO | None,
        timeout_s: float,
    ) -> http.client.HTTPResponse:
        """Send and read the head of the answer; a kept connection that turns out dead is replaced once."""
        connection, is_kept = self._connection(url, timeout_s)
        target = url[url.index("//") + 2 :]
        target = target[len(urlsplit(url).netloc) :] or "/"
        if body is not None:
            headers["Content-Length"] = str(body.seek(0, io.SEEK_END))
            body.seek(0)
        try:
            try:
                connection.request(method, target, body, headers)
            except BrokenPipeError:
                if is_kept:
                    raise
                # The server may have answered and hung up while we still sent: its answer says why.
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            self._forget(url)
            if is_kept and isinstance(exc, _STALE):
                return self._exchange(method, url, headers, body, timeout_s)
            raise NoAnswer(_text(exc)) from exc

    def _connection(self, url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        connections = self._kept()
        key = url[: url.index("/", url.index("//") + 2)] if url.count("/") > 2 else url
        connection = connections.get(key)
        if connection is None:
            parts = urlsplit(url)
            kind = (
                http.client.HTTPSConnection
                if parts.scheme == "https"
                else http.client.HTTPConnection
            )
            connection = connections[key] = kind(parts.netloc, timeout=timeout_s, blocksize=_BLOCK)
        is_kept = connection.sock is not None
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection, is_kept

    def _kept(self) -> dict[str, http.client.HTTPConnection]:
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        return kept

    def _forget(self, url: str) -> None:
        connection, _ = self._connection(url, 1)
        connection.close()


def _text(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"
