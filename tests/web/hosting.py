"""A small server that plays Firebase Hosting for the built pages."""

import json
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any


class Hosting(SimpleHTTPRequestHandler):
    """Serve the built pages as Hosting does: files, init.json, index.html for what is no file.

    It also answers where a Conductor client's sign-in goes, in place of the functions: `token_replies` says what.
    """

    init: dict[str, Any]
    token_requests: list[dict[str, Any]]
    token_replies: list[tuple[int, dict[str, Any]]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/__/firebase/init.json":
            self._answer(200, self.init)
            return
        if path == "/api/oauth_jwt":
            self.path = "/client-login.html"
        elif not Path(self.translate_path(path)).is_file():
            self.path = "/index.html"
        super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.token_requests.append(json.loads(body))
        self._answer(*self.token_replies.pop(0))

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Site:
    """The dashboard on a server: its address, and the handler's memory of a client's sign-in."""

    def __init__(self, handler: type[Hosting], port: int) -> None:
        self.handler = handler
        self.url = f"http://127.0.0.1:{port}"
