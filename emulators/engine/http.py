"""A small asyncio HTTP/1.1 server: keep-alive, regular-expression routes, JSON in and out.

Handlers run on one thread, so a stand-in's state needs no locks. It knows nothing of any provider.
"""

import asyncio
import inspect
import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `body` is sent as it is."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return `value` as JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Reply(status, body, headers=headers or {})


def text_reply(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return `text` as plain text."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8", headers or {})


class HttpError(Exception):
    """Raised by a handler to answer with `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status}: {reply.body[:200]!r}")
        self.reply = reply


@dataclass(slots=True)
class Request:
    """One request. Shapes: header names are lower case, `path` is decoded, of a repeated query
    parameter the last value counts."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    args: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body's JSON, None for an empty body. Raises: HttpError 400."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise HttpError(text_reply(f"malformed JSON: {exc}", 400)) from exc

    def json_object(self) -> dict[str, Any]:
        """Return the body's JSON object, empty for an empty body. Raises: HttpError 400."""
        value = self.json()
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise HttpError(text_reply("the body must be a JSON object", 400))
        return value


Handler = Callable[[Request], Reply | Awaitable[Reply]]
Filter = Callable[[Request], Awaitable[Reply | None]]


class App:
    """Routes, and the one filter which sees every request first."""

    def __init__(self, before: Filter | None = None, not_found: Handler | None = None) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._before = before
        self._not_found = not_found

    def route(self, method: str, pattern: str, handler: Handler) -> None:
        """Answer `method` on `pattern`; `:name` takes anything, slashes too. The first match wins."""
        expression = re.sub(r":(\w+)", r"(?P<\1>.+?)", pattern)
        self._routes.append((method, re.compile(expression), handler))

    async def answer(self, request: Request) -> Reply:
        """Return the answer to `request`."""
        try:
            if self._before is not None and (early := await self._before(request)) is not None:
                return early
            handler = self._match(request)
            reply = handler(request)
            return await reply if inspect.isawaitable(reply) else reply
        except HttpError as exc:
            return exc.reply

    def _match(self, request: Request) -> Handler:
        methods = set()
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(request.path)
            if found is None:
                continue
            if method == request.method:
                request.args = found.groupdict()
                return handler
            methods.add(method)
        if self._not_found is not None and not methods:
            return self._not_found
        if methods:
            allowed = {"Allow": ", ".join(sorted(methods))}
            raise HttpError(text_reply("Invalid method", 405, allowed))
        raise HttpError(text_reply("404 page not found", 404))


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """Return a message's first line and its headers, None when the peer has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return lines[0], headers


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """Return a message's body. Raises: HttpError 413, ValueError when it is malformed."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    size = int(headers.get("content-length", "0"))
    if size < 0:
        raise ValueError("negative content-length")
    if size > MAX_BODY_BYTES:
        raise HttpError(text_reply("request body too large", 413))
    return await reader.readexactly(size) if size else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        if len(body) + size > MAX_BODY_BYTES:
            raise HttpError(text_reply("request body too large", 413))
        body += await reader.readexactly(size)
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if size:  # only the last chunk may be followed by trailers
                raise ValueError(f"malformed chunk: {line!r}")
        if size == 0:
            return bytes(body)


def _encode(reply: Reply, keep_alive: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + reply.body


def _parse(first_line: str, headers: dict[str, str]) -> Request:
    method, target, version = first_line.split(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise ValueError(f"unknown version {version}")
    path, _, query = target.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    return Request(method, unquote(path), parameters, headers, b"")


class Server:
    """An `App` that listens on 127.0.0.1 and nowhere else."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen on `port`, 0 for any free one; return the port."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", port, limit=MAX_HEADER_BYTES, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop every connection, waiting requests too."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer has gone or the server stops: nobody is left to be told
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may carry another."""
        try:
            head = await read_head(reader)
            if head is None:
                return False
            request = _parse(*head)
            if request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = await read_body(reader, request.headers)
        except HttpError as exc:
            writer.write(_encode(exc.reply, keep_alive=False))
            await writer.drain()
            return False
        except (ValueError, asyncio.LimitOverrunError) as exc:
            writer.write(_encode(text_reply(f"bad request: {exc}", 400), keep_alive=False))
            await writer.drain()
            return False
        keep_alive = request.headers.get("connection", "").lower() != "close"
        reply = await self._app.answer(request)
        writer.write(_encode(reply, keep_alive))
        await writer.drain()
        return keep_alive


async def until_stopped() -> None:
    """Return at the first SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
