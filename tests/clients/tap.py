"""A tap on the wire between one client and the gateway: it notes each call, and loses answers on order."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.emulators import upstream

ANSWER_WITHIN_S = 90.0
_OWN_TO_EACH_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a client asked, and what it was answered."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: bytes
    answer_headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    def asked(self) -> Any:
        return json.loads(self.body)

    def answered(self) -> Any:
        return json.loads(self.answer)


@dataclass(kw_only=True)
class Tap:
    """A server on a port of its own in front of `upstream_url`; clients take its `url` as CONDUCTOR_URL."""

    url: str
    upstream_url: str
    _seen: list[Exchange] = field(default_factory=list)
    _lost: set[str] = field(default_factory=set)
    _then: dict[str, Callable[[], None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def seen(self, method: str, path: str) -> list[Exchange]:
        """Return what was exchanged so far at an address."""
        with self._lock:
            return [each for each in self._seen if (each.method, each.path) == (method, path)]

    def all_seen(self) -> list[Exchange]:
        with self._lock:
            return list(self._seen)

    def lose_next_answer(self, path: str) -> None:
        """Cut the connection instead of passing on the next answer for a path that is no refusal; the work is done."""
        self._lost.add(path)

    def before_next_answer(self, path: str, then: Callable[[], None]) -> None:
        """Do something when the next answer for a path is there and the client does not have it yet."""
        self._then[path] = then

    def story(self) -> str:
        """Return one line for each exchange, for the message of a test that fails."""
        return "\n".join(
            f"{each.method} {each.path} -> {each.status} {each.answer[:300]!r}"
            for each in self.all_seen()
            if each.path != "/api/oauth_jwt" or each.status != http.HTTPStatus.OK
        )

    def handle(self, call: upstream.Call) -> None:
        """Pass a call on, note it, and pass the answer back unless it is to be lost."""
        body = call.body()
        host = urlsplit(self.upstream_url).netloc
        connection = http.client.HTTPConnection(host, timeout=ANSWER_WITHIN_S)
        try:
            headers = {k: v for k, v in call.headers.items() if k.lower() not in _OWN_TO_EACH_HOP}
            connection.request(call.command, call.path, body or None, headers)
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        exchange = Exchange(
            method=call.command,
            target=call.path,
            headers=dict(call.headers.items()),
            body=body,
            status=reply.status,
            answer=answer,
            answer_headers=dict(reply.getheaders()),
        )
        with self._lock:
            self._seen.append(exchange)
            is_refused = exchange.status >= http.HTTPStatus.BAD_REQUEST
            is_lost = exchange.path in self._lost and not is_refused
            if is_lost:
                self._lost.discard(exchange.path)
            then = self._then.pop(exchange.path, None)
        if then is not None:
            then()
        if is_lost:
            call.close_connection = True
            return
        with suppress(ConnectionError):  # the client was ended meanwhile
            _pass_back(call, exchange)


def _pass_back(call: upstream.Call, exchange: Exchange) -> None:
    call.send_response(exchange.status)
    for name, value in exchange.answer_headers.items():
        if name.lower() not in _OWN_TO_EACH_HOP | {"date", "server"}:
            call.send_header(name, value)
    if exchange.status != http.HTTPStatus.NO_CONTENT:
        call.send_header("Content-Length", str(len(exchange.answer)))
    call.end_headers()
    call.wfile.write(exchange.answer)


@contextmanager
def tap(upstream_url: str) -> Iterator[Tap]:
    """Run a tap while the block runs."""
    with upstream.serving() as server:
        made = Tap(url=server.url, upstream_url=upstream_url)
        server.handle_call = made.handle
        yield made
