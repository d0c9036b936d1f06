"""Batches of the JSON API: many calls in one multipart/mixed request."""

import io
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus
from urllib.parse import urlsplit

from emulators.storage.errors import Refusal, Refused
from emulators.storage.messages import Body, Reply, Request

MAX_CALLS = 1000
BOUNDARY = "batch_of_replies"


def answer_batch(request: Request, answer: Callable[[Request], Reply]) -> Reply:
    """Return the replies to all calls, in their order. Raises: Refused, for a malformed batch."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + request.body.read())
    parts = message.get_payload()
    if not isinstance(parts, list):
        raise Refused(Refusal.INVALID_ARGUMENT, "the batch must be multipart/mixed")
    if len(parts) > MAX_CALLS:
        raise Refused(Refusal.INVALID_ARGUMENT, f"a batch may hold {MAX_CALLS} calls")
    replies = []
    for number, part in enumerate(parts, start=1):
        assert isinstance(part, Message)
        content_id = part.get("Content-ID", f"<{number}>").strip("<>")
        replies.append(_part(content_id, answer(_call(request, part))))
    body = b"".join(replies) + f"--{BOUNDARY}--\r\n".encode()
    return Reply(200, [("Content-Type", f"multipart/mixed; boundary={BOUNDARY}")], body)


def _call(batch: Request, part: Message) -> Request:
    """Return the request that one part of a batch holds."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    first_line, _, rest = payload.lstrip().partition(b"\n")
    try:
        method, target, _version = first_line.decode("ascii").split()
    except ValueError as exc:
        raise Refused(Refusal.INVALID_ARGUMENT, f"malformed call: {first_line!r}") from exc
    url = urlsplit(target)
    if not url.path.startswith("/storage/v1/") or "alt=media" in url.query.split("&"):
        raise Refused(Refusal.INVALID_ARGUMENT, f"not allowed in a batch: {target}")
    call = BytesParser().parsebytes(rest)
    content = call.get_payload(decode=True)
    assert isinstance(content, bytes)
    headers = {name.lower(): value for name, value in call.items()}
    headers["host"] = batch.headers.get("host", "")
    body = Body(io.BytesIO(content), len(content))
    return Request(method=method, path=url.path, raw_query=url.query, headers=headers, body=body)


def _part(content_id: str, reply: Reply) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [
        f"--{BOUNDARY}",
        "Content-Type: application/http",
        f"Content-ID: <response-{content_id}>",
        "",
        f"HTTP/1.1 {reply.status} {phrase}",
        *(f"{name}: {value}" for name, value in reply.headers),
        f"Content-Length: {reply.length}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + reply.body + b"\r\n"
