"""A scheduler that starts everything at once, on fake agents that render nothing.

It speaks the part of Nomad's API that Baton's driver calls to submit and cancel, and its agents speak the real agent
protocol: each claims and reports by itself, over a connection of its own.
`python -m bench.instant --port P --agents N --dispatch URL`.
"""

import argparse
import http.client
import json
import queue
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


class Agent(threading.Thread):
    """Claims and reports one attempt after another."""

    def __init__(self, books: Books, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._books = books
        self._connection = http.client.HTTPConnection(host, port, timeout=30)
        self._name = f"bench-{uuid4().hex[:8]}"

    def run(self) -> None:
        while True:
            token = self._books.waiting.get()
            while self._books.is_paused.is_set():
                time.sleep(0.001)
            try:
                self._serve(token)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._connection.close()
                with self._books.lock:
                    self._books.faults.append(repr(error))

    def _serve(self, token: str) -> None:
        claim = uuid4().hex
        status = self._post(token, "claim", {"claim": claim, "instance": self._name, "zone": "z"})
        with self._books.lock:
            if status != 200:
                self._books.refused_count += 1
                return
            self._books.claimed_at.append(time.time())
        body = {"claim": claim, "outcome": "success", "exit_code": 0, "reason": "", "outputs": []}
        status = self._post(token, "finish", body)
        with self._books.lock:
            self._books.ended_at.append(time.time())
            if status != 200:
                self._books.faults.append(f"finish: {status}")

    def _post(self, token: str, call: str, body: dict[str, Any]) -> int:
        """Send a call, again when the connection had been closed meanwhile: both calls may be repeated."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = json.dumps(body)
        for _ in range(TRIES):
            try:
                self._connection.request("POST", f"/agent/v1/{call}", content, headers)
                answer = self._connection.getresponse()
                answer.read()
                return answer.status
            except (OSError, http.client.HTTPException):
                self._connection.close()
        raise OSError(f"{call}: no answer after {TRIES} tries")


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
