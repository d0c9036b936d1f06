"""The JSON API's three ways to insert an object: media, multipart and resumable."""

import re
from collections.abc import Iterator
from email.parser import BytesParser
from typing import Any

from emulators.storage.content import Expected
from emulators.storage.continuation import announced_hash, continue_upload
from emulators.storage.errors import Refusal, Refused
from emulators.storage.messages import (
    MAX_METADATA_BYTES,
    Reply,
    Request,
    json_object,
    json_reply,
)
from emulators.storage.objects import Properties
from emulators.storage.resources import conditions_of, object_resource
from emulators.storage.resumable import ResumableUploads
from emulators.storage.state import Store, Version

BOUNDARY = re.compile(r'multipart/related;.*\bboundary="?([^";]+)"?', re.IGNORECASE)
#: More than a closing delimiter and what a client may put after it.
MAX_TAIL_BYTES = 1024


class JsonUploads:
    """Inserts objects."""

    def __init__(self, store: Store, resumable: ResumableUploads) -> None:
        self._store = store
        self._resumable = resumable

    def insert(self, request: Request, bucket: str) -> Reply:
        """POST: insert an object, or open a resumable upload."""
        match request.query.get("uploadType"):
            case "media":
                properties: Properties = {"contentType": request.headers.get("content-type")}
                return self._received(request, bucket, properties, request.body.blocks())
            case "multipart":
                properties, blocks = read_multipart(request)
                return self._received(request, bucket, properties, blocks)
            case "resumable" if "upload_id" in request.query:
                return self.proceed(request, bucket)
            case "resumable":
                return self._start(request, bucket)
        raise Refused(Refusal.INVALID_ARGUMENT, "uploadType must be media, multipart or resumable")

    def proceed(self, request: Request, bucket: str) -> Reply:
        """PUT or DELETE: go on with a resumable upload, or cancel it."""
        upload_id = request.query.get("upload_id", "")
        if self._resumable.target(upload_id).bucket != bucket:
            raise Refused(Refusal.NO_SUCH_UPLOAD)
        outcome = continue_upload(request, self._resumable, upload_id)
        if isinstance(outcome, Reply):
            return outcome
        return json_reply(object_resource(outcome, request.origin))

    def _received(
        self, request: Request, bucket: str, properties: Properties, blocks: Iterator[bytes]
    ) -> Reply:
        target = _target(request, bucket, properties)
        expected = expected_of(properties, announced_hash(request))
        with self._store.files.received(blocks, expected) as content:
            stored = self._store.put(target, content, properties)
        return json_reply(object_resource(stored, request.origin))

    def _start(self, request: Request, bucket: str) -> Reply:
        properties = request.json()
        content_type = request.headers.get("x-upload-content-type")
        if properties.get("contentType") is None and content_type is not None:
            properties["contentType"] = content_type
        target = _target(request, bucket, properties)
        upload_id = self._resumable.start(target, properties, expected_of(properties, Expected()))
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload_id}"
        return Reply(200, [("Location", request.origin + path)])


def _target(request: Request, bucket: str, properties: Properties) -> Version:
    name: Any = request.query.get("name") or properties.get("name")
    if not isinstance(name, str):
        raise Refused(Refusal.INVALID_ARGUMENT, "Required: name")
    return Version(bucket=bucket, name=name, conditions=conditions_of(request))


def expected_of(properties: Properties, announced: Expected) -> Expected:
    """Return the digests that a resource names, or else those that were announced."""
    return Expected(
        md5=properties.get("md5Hash") or announced.md5,
        crc32c=properties.get("crc32c") or announced.crc32c,
    )


def read_multipart(request: Request) -> tuple[Properties, Iterator[bytes]]:
    """Return the resource and the bytes of a multipart/related body, which must be read at once."""
    match = BOUNDARY.search(request.headers.get("content-type", ""))
    if match is None:
        raise Refused(Refusal.INVALID_ARGUMENT, "Content-Type must name a multipart boundary")
    delimiter = b"--" + match[1].encode()
    blocks = request.body.blocks()
    head = b""
    while (parsed := _parse_head(head, delimiter)) is None:
        block = next(blocks, b"")
        if not block or len(head) > MAX_METADATA_BYTES:
            raise Refused(Refusal.INVALID_ARGUMENT, "Malformed multipart body.")
        head += block
    properties, content_type, rest = parsed
    if properties.get("contentType") is None:
        properties["contentType"] = content_type
    return properties, _until(b"\r\n" + delimiter + b"--", rest, blocks)


def _parse_head(head: bytes, delimiter: bytes) -> tuple[Properties, str | None, bytes] | None:
    """Return resource, media type and first media bytes; None when more of the body is needed."""
    _, first, rest = head.partition(delimiter + b"\r\n")
    described, second, rest = rest.partition(b"\r\n" + delimiter + b"\r\n")
    media_head, third, media = rest.partition(b"\r\n\r\n")
    if not (first and second and third):
        return None
    _, _, resource = described.partition(b"\r\n\r\n")
    content_type = BytesParser().parsebytes(media_head + b"\r\n\r\n").get("content-type")
    return json_object(resource), content_type, media


def _until(closing: bytes, head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what comes before the closing delimiter, which stands at the very end."""
    held = head
    for block in blocks:
        held += block
        yield held[:-MAX_TAIL_BYTES]
        held = held[-MAX_TAIL_BYTES:]
    media, found, _ = held.rpartition(closing)
    if not found:
        raise Refused(Refusal.INVALID_ARGUMENT, "Missing end boundary in multipart body.")
    yield media
