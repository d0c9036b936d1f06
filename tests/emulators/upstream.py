"""A function behind the gateway or the ticker: a real HTTP server whose answers the test writes."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

WAIT_S = 20.0


class Call(http.server.BaseHTTPRequestHandler):
    """One request. `body()` and `answer()` are what a test needs; the rest is BaseHTTPRequestHandler."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, chunked or not."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():  # `Connection: close` also ends this handler
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Say nothing: the test asserts on what it sees."""


class Server(http.server.ThreadingHTTPServer):
    """Its `handle_call` is replaced by each test; `connections` counts the accepted ones."""

    daemon_threads = True
    allow_reuse_address = True
    connections = 0

    def __init__(self, port: int) -> None:
        self.handle_call: Callable[[Call], None] = lambda call: call.answer()
        server = self

        class Handler(Call):
            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return lambda: server.handle_call(self)
                raise AttributeError(name)

        super().__init__(("127.0.0.1", port), Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        self.connections += 1
        return super().get_request()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """Run a server while the block runs."""
    server = Server(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def calls_of(server: Server) -> "SimpleQueue[tuple[str, dict[str, str]]]":
    """Let a server answer 200 to everything; returns the queue in which path and headers of each call arrive."""
    calls: SimpleQueue[tuple[str, dict[str, str]]] = SimpleQueue()

    def note(call: Call) -> None:
        calls.put((call.path, dict(call.headers)))
        call.answer()

    server.handle_call = note
    return calls
