"""A scheduler that starts everything at once, on fake agents that render nothing.

It speaks the part of Nomad's API that Baton's driver calls to submit and cancel, and its agents speak the real agent
protocol: each claims and reports by itself, over a connection of its own.
`python -m bench.instant --port P --agents N --dispatch URL`.
"""

import argparse
import json
import queue
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

TRIES = 5


class Books:
    """What waits, and what happened to it. Units: seconds since the epoch."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.seen: set[str] = set()
        self.is_paused = threading.Event()
        self.claimed_at: list[float] = []
        self.ended_at: list[float] = []
        self.refused_count = 0
        self.faults: list[str] = []

    def reset(self) -> None:
        """Forget all."""
        with self.lock:
            self.claimed_at.clear()
            self.ended_at.clear()
            self.faults.clear()
            self.refused_count = 0

    def told(self) -> dict[str, Any]:
        """Return the figures."""
        with self.lock:
            return {
                "claimed_at": list(self.claimed_at),
                "ended_at": list(self.ended_at),
                "refused_count": self.refused_count,
                "faults": list(self.faults),
                "seen_count": len(self.seen),
            }


class Connection:
    """One kept-alive connection that sends calls and reads nothing but the answers' status.

    Python's own HTTP client takes as long as the farm does for one call, from the same two processors.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def post(self, path: str, token: str, body: dict[str, Any]) -> int:
        """Send a call, again when the connection had been closed meanwhile: every call may be repeated."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address[0]}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        for _ in range(TRIES):
            try:
                return self._exchange(head.encode() + content)
            except (OSError, ValueError):
                self.close()
        raise OSError(f"{path}: no answer after {TRIES} tries")

    def _exchange(self, request: bytes) -> int:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._read()
        head = answer[:end].lower()
        left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0]) - (
            len(answer) - end - 4
        )
        while left > 0:
            left -= len(self._read())
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def _read(self) -> bytes:
        assert self._socket is not None, "an exchange opens it"
        chunk = self._socket.recv(65_536)
        if not chunk:
            raise OSError("closed")
        return chunk

    def close(self) -> None:
        """Close it; the next call opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Agent(threading.Thread):
    """Claims and reports one attempt after another."""

    def __init__(self, books: Books, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._books = books
        self._connection = Connection(host, port)
        self._name = f"bench-{uuid4().hex[:8]}"

    def run(self) -> None:
        while True:
            token = self._books.waiting.get()
            while self._books.is_paused.is_set():
                time.sleep(0.001)
            try:
                self._serve(token)
            except OSError as error:
                with self._books.lock:
                    self._books.faults.append(repr(error))

    def _serve(self, token: str) -> None:
        claim = uuid4().hex
        who = {"claim": claim, "instance": self._name, "zone": "z"}
        status = self._connection.post("/agent/v1/claim", token, who)
        with self._books.lock:
            if status != 200:
                self._books.refused_count += 1
                return
            self._books.claimed_at.append(time.time())
        body = {"claim": claim, "outcome": "success", "exit_code": 0, "reason": "", "outputs": []}
        status = self._connection.post("/agent/v1/finish", token, body)
        with self._books.lock:
            self._books.ended_at.append(time.time())
            if status != 200:
                self._books.faults.append(f"finish: {status}")


def handler(books: Books) -> type[BaseHTTPRequestHandler]:
    """Return the handler of the API's few calls, and of the bench's own: /stats, /reset, /pause, /resume."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 65536

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            """Say nothing."""

        def answer(self, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer(books.told() if self.path == "/stats" else [])

        def do_DELETE(self) -> None:
            self.answer({"EvalID": ""})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/v1/jobs":
                job = json.loads(body)["Job"]
                with books.lock:
                    is_new = job["ID"] not in books.seen
                    books.seen.add(job["ID"])
                if is_new:
                    books.waiting.put(
                        job["TaskGroups"][0]["Tasks"][0]["Env"]["BATON_ATTEMPT_TOKEN"]
                    )
            elif self.path == "/reset":
                books.reset()
            elif self.path == "/pause":
                books.is_paused.set()
            elif self.path == "/resume":
                books.is_paused.clear()
            self.answer({"EvalID": "", "JobModifyIndex": 1})

    return Handler


class Server(ThreadingHTTPServer):
    """Many connections at once."""

    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--dispatch", required=True)
    said = parser.parse_args()
    books = Books()
    target = urlsplit(said.dispatch)
    for _ in range(said.agents):
        Agent(books, target.hostname or "127.0.0.1", target.port or 80).start()
    Server(("127.0.0.1", said.port), handler(books)).serve_forever()


if __name__ == "__main__":
    main()
