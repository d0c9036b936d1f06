"""The XML API, by V4 signed URL only: what is not signed is refused.

A resumable upload's own address is the one exception: its upload id is its credential.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from emulators.storage.content import Expected
from emulators.storage.continuation import announced_hash, continue_upload
from emulators.storage.errors import Refusal, Refused
from emulators.storage.media import hash_header, media_reply, version_headers
from emulators.storage.messages import Headers, Reply, Request, integer
from emulators.storage.multipart import MultipartUploads
from emulators.storage.objects import Conditions, Properties, StoredObject
from emulators.storage.resources import timestamp
from emulators.storage.resumable import ResumableUploads
from emulators.storage.signatures import SignedRequest, Signers
from emulators.storage.state import Store, Version
from emulators.storage.xml import document, error_document, namespace_free

PROPERTY_HEADERS = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
    "x-goog-storage-class": "storageClass",
}
METADATA_PREFIX = "x-goog-meta-"
#: Headers that would change what a request does, in ways that are not built.
REFUSED_HEADERS = ("x-goog-copy-source", "x-goog-encryption-key", "x-goog-metadata-directive")


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


class XmlApi:
    """Routes signed requests to the rules and words their results in XML and headers."""

    def __init__(
        self,
        store: Store,
        resumable: ResumableUploads,
        signers: Signers,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._resumable = resumable
        self._multipart = MultipartUploads(store)
        self._signers = signers
        self._now = now

    def answer(self, request: Request) -> Reply:
        """Return the reply to one request, refusals included."""
        try:
            return self._answer(request)
        except Refused as refused:
            headers = [("Content-Type", "application/xml; charset=UTF-8"), *refused.headers]
            return Reply(refused.refusal.status, headers, error_document(refused))

    def _answer(self, request: Request) -> Reply:
        bucket, _, name = unquote(request.path[1:]).partition("/")
        if "upload_id" in request.query:
            return self._continue(request, bucket, name)
        signed = SignedRequest(
            method=request.method,
            path=request.path,
            query=request.raw_query,
            headers=request.headers,
        )
        self._signers.verify(signed, self._now())
        for header in REFUSED_HEADERS:
            if header in request.headers:
                raise Refused(Refusal.NOT_IMPLEMENTED, header)
        if not name:
            return self._answer_bucket(request, bucket)
        generation = request.integer("generation")
        conditions = _conditions(request)
        version = Version(bucket=bucket, name=name, generation=generation, conditions=conditions)
        if "uploadId" in request.query or "uploads" in request.query:
            return self._answer_multipart(request, version)
        return self._answer_object(request, version)

    def _answer_bucket(self, request: Request, bucket: str) -> Reply:
        if request.method != "GET" or "uploads" not in request.query:
            raise Refused(Refusal.NOT_IMPLEMENTED, "of buckets only multipart uploads are listed")
        uploads = [
            {
                "Key": upload.name,
                "UploadId": upload.upload_id,
                "StorageClass": "STANDARD",
                "Initiated": timestamp(upload.started_us),
            }
            for upload in self._multipart.unfinished(bucket, request.query.get("prefix", ""))
        ]
        listing = {"Bucket": bucket, "IsTruncated": "false", "Upload": uploads}
        return _xml("ListMultipartUploadsResult", listing)

    def _answer_object(self, request: Request, version: Version) -> Reply:
        match request.method:
            case "GET" | "HEAD":
                return self._send(request, version)
            case "PUT":
                return self._put(request, version)
            case "DELETE":
                self._store.delete(version)
                return Reply(204)
            case "POST" if request.headers.get("x-goog-resumable") == "start":
                return self._start(request, version)
        raise Refused(Refusal.METHOD_NOT_ALLOWED)

    def _send(self, request: Request, version: Version) -> Reply:
        reply = media_reply(self._store, version, request)
        for name in ("Content-Type", "Content-Disposition"):
            if wanted := request.query.get(f"response-{name.lower()}"):
                reply.headers = [pair for pair in reply.headers if pair[0] != name]
                reply.headers.append((name, wanted))
        return reply

    def _put(self, request: Request, version: Version) -> Reply:
        _require_length(request)
        with self._store.files.received(request.body.blocks(), _expected(request)) as content:
            stored = self._store.put(version, content, _properties(request))
        return Reply(200, version_headers(stored))

    def _start(self, request: Request, version: Version) -> Reply:
        upload_id = self._resumable.start(version, _properties(request), _expected(request))
        path = quote(f"/{version.bucket}/{version.name}", safe="/~")
        return Reply(201, [("Location", f"{request.origin}{path}?upload_id={upload_id}")])

    def _continue(self, request: Request, bucket: str, name: str) -> Reply:
        upload_id = request.query["upload_id"]
        target = self._resumable.target(upload_id)
        if (target.bucket, target.name) != (bucket, name):
            raise Refused(Refusal.NO_SUCH_UPLOAD)
        outcome = continue_upload(request, self._resumable, upload_id)
        return outcome if isinstance(outcome, Reply) else Reply(200, version_headers(outcome))

    # Multipart uploads

    def _answer_multipart(self, request: Request, version: Version) -> Reply:
        if version.conditions != Conditions():
            raise Refused(Refusal.MULTIPART_CONDITION)
        upload_id = request.query.get("uploadId")
        match request.method:
            case "POST" if upload_id is None:
                properties = _properties(request)
                upload_id = self._multipart.initiate(version.bucket, version.name, properties)
                return _xml("InitiateMultipartUploadResult", _named(version, upload_id))
            case "PUT" if upload_id is not None:
                return self._put_part(request, version, upload_id)
            case "GET" if upload_id is not None:
                return self._list_parts(version, upload_id)
            case "POST" if upload_id is not None:
                wanted = _wanted_parts(request.body.read())
                return _completed(self._multipart.complete(version, upload_id, wanted), request)
            case "DELETE" if upload_id is not None:
                self._multipart.abort(version, upload_id)
                return Reply(204)
        raise Refused(Refusal.METHOD_NOT_ALLOWED)

    def _put_part(self, request: Request, version: Version, upload_id: str) -> Reply:
        _require_length(request)
        number = integer("partNumber", request.query.get("partNumber", ""), least=1)
        with self._store.files.received(request.body.blocks(), _expected(request)) as content:
            part = self._multipart.put_part(version, upload_id, number, content)
        return Reply(200, [("ETag", f'"{part.etag}"'), hash_header(content)])

    def _list_parts(self, version: Version, upload_id: str) -> Reply:
        parts = [
            {
                "PartNumber": str(part.number),
                "LastModified": timestamp(part.updated_us),
                "ETag": f'"{part.etag}"',
                "Size": str(part.content.size_bytes),
            }
            for part in self._multipart.parts(version, upload_id)
        ]
        listing = {**_named(version, upload_id), "IsTruncated": "false", "Part": parts}
        return _xml("ListPartsResult", listing)


def _xml(root: str, content: dict[str, Any], headers: Headers | None = None) -> Reply:
    kind = ("Content-Type", "application/xml; charset=UTF-8")
    return Reply(200, [kind, *(headers or [])], document(root, content))


def _named(version: Version, upload_id: str) -> dict[str, Any]:
    return {"Bucket": version.bucket, "Key": version.name, "UploadId": upload_id}


def _completed(stored: StoredObject, request: Request) -> Reply:
    content = {
        "Location": f"{request.origin}{request.path}",
        "Bucket": stored.bucket,
        "Key": stored.name,
        "ETag": stored.media_etag,
    }
    return _xml("CompleteMultipartUploadResult", content, version_headers(stored))


def _conditions(request: Request) -> Conditions:
    def number(header: str) -> int | None:
        text = request.headers.get(header)
        return None if text is None else integer(header, text)

    return Conditions(
        generation_match=number("x-goog-if-generation-match"),
        metageneration_match=number("x-goog-if-metageneration-match"),
    )


def _properties(request: Request) -> Properties:
    properties: Properties = {
        key: request.headers[header]
        for header, key in PROPERTY_HEADERS.items()
        if header in request.headers
    }
    metadata = {
        header.removeprefix(METADATA_PREFIX): value
        for header, value in request.headers.items()
        if header.startswith(METADATA_PREFIX)
    }
    return {**properties, "metadata": metadata} if metadata else properties


def _require_length(request: Request) -> None:
    if not {"content-length", "transfer-encoding"} & set(request.headers):
        raise Refused(Refusal.LENGTH_REQUIRED)


def _expected(request: Request) -> Expected:
    """Return what the headers say of the bytes. Raises: Refused, when one makes no sense."""
    announced = announced_hash(request)
    least, _, most = request.headers.get("x-goog-content-length-range", "").partition(",")
    limit = "x-goog-content-length-range"
    return Expected(
        md5=_content_md5(request) or announced.md5,
        crc32c=announced.crc32c,
        min_bytes=integer(limit, least.strip()) if least else None,
        max_bytes=integer(limit, most.strip()) if least else None,
    )


def _content_md5(request: Request) -> str | None:
    text = request.headers.get("content-md5")
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise Refused(Refusal.INVALID_DIGEST, f"The Content-MD5 was '{text}'.")
    return base64.b64encode(digest).decode()


def _wanted_parts(body: bytes) -> list[tuple[int, str]]:
    """Return the numbers and tags that a completing request names."""
    try:
        parts = namespace_free(ElementTree.fromstring(body)).findall("Part")
        return [
            (int(part.findtext("PartNumber", "")), part.findtext("ETag", "").strip().strip('"'))
            for part in parts
        ]
    except (ElementTree.ParseError, ValueError) as exc:
        raise Refused(Refusal.MALFORMED_XML, str(exc)) from exc
