"""HTTP/1.1 for the stand-in: connections, framing, faults and the control endpoints; no rules.

A thread per connection; bodies stream in both directions. Loopback only.
"""

import json
import logging
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, cast
from urllib.parse import unquote

from emulators.storage.errors import Refused
from emulators.storage.faults import Drop, Faults
from emulators.storage.index import Index
from emulators.storage.json_api import PREFIXES, JsonApi
from emulators.storage.messages import Body, Headers, Reply, Request, json_reply
from emulators.storage.resumable import ResumableUploads
from emulators.storage.signatures import Signers
from emulators.storage.state import Store
from emulators.storage.xml_api import XmlApi

log = logging.getLogger(__name__)

CORS_METHODS = ("GET", "HEAD")
CORS_EXPOSED = "Content-Length, Content-Range, Content-Type, ETag, x-goog-generation, x-goog-hash"
BODILESS = (204, 304)


class StorageServer(ThreadingMixIn, TCPServer):
    """The listening socket and everything behind it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int, root: Path, signers: Signers) -> None:
        """Listen on `port` of 127.0.0.1, 0 for any free one. Raises: InUse, OSError."""
        self.index = Index(root)
        store = Store(self.index)
        resumable = ResumableUploads(store)
        self.json_api = JsonApi(store, resumable)
        self.xml_api = XmlApi(store, resumable, signers)
        self.faults = Faults()
        super().__init__(("127.0.0.1", port), Connection)

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return int(self.socket.getsockname()[1])

    def server_close(self) -> None:
        """Stop listening and release the data directory."""
        super().server_close()
        self.index.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the bug that ended a connection's thread; a client that hangs up is none."""
        if not isinstance(sys.exception(), ConnectionError):
            log.error("connection of %s", client_address, exc_info=sys.exception())


class Connection(BaseHTTPRequestHandler):
    """One connection: requests in, replies out, until either side closes it."""

    protocol_version = "HTTP/1.1"
    server_version = "BatonStorage"
    wbufsize = 64 * 1024  # head and small body leave in one segment
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Say nothing of ordinary requests."""

    def handle_expect_100(self) -> bool:
        """Ask at once for a body that waits to be asked for."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def _serve(self) -> None:
        try:
            request = self._request()
        except ValueError as exc:  # where the next request begins, nobody knows
            self.close_connection = True
            self._send(self.command, json_reply({"error": str(exc)}, 400))
            return
        try:
            reply = self._answer(request)
            if reply is None:
                self.close_connection = True
                return
            request.body.drain()
            self._send(request.method, reply)
        except ConnectionError:  # the client has gone: nobody is left to be told
            self.close_connection = True

    do_GET = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - names that http.server calls
    do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _request(self) -> Request:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            name, value = name.lower(), _utf8(value)
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        path, _, query = self.path.partition("?")
        return Request(
            method=self.command,
            path=path,
            raw_query=query,
            headers=headers,
            body=Body(self.rfile, self._body_length(headers)),
        )

    def _body_length(self, headers: dict[str, str]) -> int | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return None
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise ValueError(f"Invalid Content-Length: '{length}'")
        return int(length)

    def _answer(self, request: Request) -> Reply | None:
        """Return the reply, None when the connection is to be dropped instead."""
        server = cast(StorageServer, self.server)
        control = self._control(server, request)
        if control is not None:
            return control
        fault = server.faults.take(request.method, unquote(request.path))
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.drop is Drop.BEFORE:
                return None
            if fault.status is not None:
                error = {"code": fault.status, "message": "a fault on order", "errors": []}
                return json_reply({"error": error}, fault.status)
        if request.method == "OPTIONS":
            return _preflight(request)
        api = server.json_api if request.path.startswith(PREFIXES) else server.xml_api
        reply = api.answer(request)
        if request.method in CORS_METHODS:
            reply.headers += _cors()
        if fault is not None and fault.drop is Drop.AFTER:
            if reply.media:
                reply.media.file.close()
            return None
        return reply

    def _control(self, server: StorageServer, request: Request) -> Reply | None:
        match request.method, request.path:
            case "GET", "/healthz":
                return json_reply({"status": "ok"})
            case "POST", "/reset":
                server.index.reset()
                server.faults.replace([])
                return Reply(204)
            case "POST", "/faults":
                try:
                    rules = server.faults.replace(json.loads(request.body.read()))
                except (ValueError, Refused) as exc:
                    return json_reply({"error": str(exc)}, 400)
                return json_reply({"faults": len(rules)})
        return None

    def _send(self, method: str, reply: Reply) -> None:
        try:
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(_one_line(name), _one_line(value))
            if reply.status not in BODILESS:
                self.send_header("Content-Length", str(reply.length))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if method == "HEAD" or reply.status in BODILESS:
                return
            if reply.media is None:
                self.wfile.write(reply.body)
            elif reply.media.count:
                self.wfile.flush()
                connection: socket.socket = self.connection
                connection.sendfile(reply.media.file, reply.media.offset, reply.media.count)
        finally:
            if reply.media is not None:
                reply.media.file.close()


def _preflight(request: Request) -> Reply:
    wanted = request.headers.get("access-control-request-headers", "Range")
    allowed = [
        ("Access-Control-Allow-Methods", ", ".join(CORS_METHODS)),
        ("Access-Control-Allow-Headers", wanted),
        ("Access-Control-Max-Age", "3600"),
    ]
    return Reply(200, _cors() + allowed)


def _cors() -> Headers:
    return [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", CORS_EXPOSED),
    ]


def _utf8(value: str) -> str:
    """Return a header's value as its sender meant it: UTF-8 where it is that."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _one_line(value: str) -> str:
    """Return a text that stays within its header, in the bytes of its UTF-8."""
    return " ".join(value.splitlines()).encode().decode("latin-1")
