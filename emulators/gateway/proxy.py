"""Hand a request to a function and its answer back, in chunks both ways, with a limit on every wait."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Self

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    web,
)
from multidict import CIMultiDict
from yarl import URL

# A request or answer of Cloud Run over HTTP/1. Source: firebase.google.com/docs/functions/quotas, 2026-11-20.
MAX_BODY_BYTES = 32 * 1024 * 1024
# Hosting gives a function this long to begin its answer. Source: firebase.google.com/docs/hosting/functions.
ANSWER_TIMEOUT_S = 60.0
# Cloud Run holds a request while an instance starts; here, while a function that died is started again.
START_WAIT_S = 10.0
# gunicorn drops an idle connection after 2 s: let go of it well before, or a request meets a closing one.
IDLE_CONNECTION_S = 1.0
SMALL_BODY_BYTES = 64 * 1024

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection")
    + ("te", "trailer", "transfer-encoding", "upgrade", "expect", "host")
    + ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
)

logger = logging.getLogger("emulators.gateway")


class BodyTooLarge(Exception):
    """The request's body is longer than a function accepts."""


def error(status: int, code: str, message: str) -> web.Response:
    """Return a refusal in the shape that the functions use."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


class Proxy:
    """Forwards requests to the functions over a pool of kept connections. `services` maps name to base URL."""

    def __init__(
        self,
        services: Mapping[str, str],
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        start_wait_s: float = START_WAIT_S,
    ) -> None:
        self._services = dict(services)
        self._answer_timeout_s = answer_timeout_s
        self._start_wait_s = start_wait_s

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(limit=512, keepalive_timeout=IDLE_CONNECTION_S),
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=ClientTimeout(total=None, sock_connect=2.0, sock_read=self._answer_timeout_s),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def forward(self, request: web.BaseRequest, service: str) -> web.StreamResponse:
        """Answer `request` with what the function says, or with 413, 502 or 504 in its place."""
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return error(413, "TooLarge", f"The body is over {MAX_BODY_BYTES} bytes.")
        body = _Body(request)
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                answer = await self._ask(request, service, body)
        except TimeoutError:
            return _failed(
                request, service, error(504, "Timeout", f"{service} did not answer in time.")
            )
        except (ClientConnectionError, ClientPayloadError, BodyTooLarge) as exc:
            if body.is_too_large:
                return error(413, "TooLarge", f"The body is over {MAX_BODY_BYTES} bytes.")
            kind = type(exc).__name__
            return _failed(
                request, service, error(502, "Unreachable", f"{service} gave no answer ({kind}).")
            )
        async with answer:
            return await _pass_on(request, answer)

    async def _ask(self, request: web.BaseRequest, service: str, body: "_Body") -> ClientResponse:
        """Return the function's answer, its body still unread. Waits a little where nobody listens."""
        url = URL(self._services[service] + request.raw_path, encoded=True)
        headers = _request_headers(request)
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._start_wait_s, 0.02
        while True:
            try:
                return await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=await body.open(),
                    allow_redirects=False,
                )
            except ClientConnectorError:
                # nothing was sent yet, so the same request may be tried again
                if loop.time() + pause_s > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.2)


class _Body:
    """The body of one request: small ones whole, others as a stream that stops at the limit."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._whole: bytes | None = None
        self.is_too_large = False

    async def open(self) -> bytes | AsyncIterator[bytes] | None:
        """Return the body for the client library; may be called again while none of it was sent."""
        request = self._request
        if not request.body_exists:
            return None
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.content_length is None or request.content_length > SMALL_BODY_BYTES:
            return self._chunks()
        if self._whole is None:
            self._whole = await request.content.read()
        return self._whole

    async def _chunks(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._request.content.iter_any():
            length += len(chunk)
            if length > MAX_BODY_BYTES:
                self.is_too_large = True
                raise BodyTooLarge
            yield chunk


def _request_headers(request: web.BaseRequest) -> CIMultiDict[str]:
    """Return the headers for the function; as behind Hosting, it sees the public host as X-Forwarded-Host."""
    headers = _end_to_end(request.headers)
    headers["X-Forwarded-Host"] = request.headers.get("Host", "")
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Forwarded-For"] = request.remote or ""
    return headers


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers that are meant for the far end, repeated ones included."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP | named)


async def _pass_on(request: web.BaseRequest, answer: ClientResponse) -> web.StreamResponse:
    """Send the function's answer to the caller as it arrives; cut the connection where it breaks off."""
    headers = _end_to_end(answer.headers)
    has_body = request.method != "HEAD" and answer.status not in (204, 304)
    if has_body and (answer.content_length or SMALL_BODY_BYTES) < SMALL_BODY_BYTES:
        whole = await answer.read()
        return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=whole)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(request)
    try:
        if has_body:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        await response.write_eof()
    except (ClientPayloadError, ClientConnectionError, TimeoutError) as exc:
        # the status is out already: a cut connection is the only way to say that the answer is not whole
        logger.warning(
            "%s %s: answer broke off (%s)", request.method, request.path, type(exc).__name__
        )
        if request.transport:
            request.transport.abort()
    return response


def _failed(request: web.BaseRequest, service: str, response: web.Response) -> web.Response:
    """Log a function's failure. The query is left out: it may hold a secret."""
    path = request.raw_path.partition("?")[0]
    logger.warning("%s %s: %s %s", request.method, path, service, response.status)
    return response
