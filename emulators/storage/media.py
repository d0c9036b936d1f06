"""Object bytes in a reply: headers, ranges and entity tags, the same for both APIs."""

import re
from email.utils import formatdate

from emulators.storage.content import Content
from emulators.storage.errors import Refusal, Refused
from emulators.storage.messages import Headers, Media, Reply, Request
from emulators.storage.objects import StoredObject
from emulators.storage.state import Store, Version

RANGE = re.compile(r"bytes=(?:(?P<first>\d+)-(?P<last>\d*)|-(?P<suffix>\d+))")
STORED_HEADERS = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
    "contentType": "Content-Type",
}


def media_reply(store: Store, version: Version, request: Request) -> Reply:
    """Return an object's bytes, or the part of them that the request asks for.

    Raises: Refused, also 304, 412 and 416. Bytes are sent as they were stored, gzip too.
    """
    stored, file = store.open(version)
    try:
        _check_etag(stored, request)
        size = stored.content.size_bytes
        wanted = _range(request.headers.get("range", ""), size)
        headers = object_headers(stored)
        if wanted is None:
            return Reply(200, headers, media=Media(file=file, offset=0, count=size))
        headers.append(("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{size}"))
        return Reply(206, headers, media=Media(file=file, offset=wanted.start, count=len(wanted)))
    except BaseException:
        file.close()
        raise


def object_headers(stored: StoredObject) -> Headers:
    """Return what the headers of a reply say about an object."""
    content = stored.content
    headers = [
        (header, str(stored.properties[key]))
        for key, header in STORED_HEADERS.items()
        if key in stored.properties
    ]
    headers += version_headers(stored)
    headers += [
        ("Last-Modified", formatdate(stored.updated_us / 1e6, usegmt=True)),
        ("Accept-Ranges", "bytes"),
        ("x-goog-stored-content-length", str(content.size_bytes)),
        ("x-goog-stored-content-encoding", stored.properties.get("contentEncoding", "identity")),
        ("x-goog-storage-class", stored.properties.get("storageClass", "STANDARD")),
    ]
    metadata = stored.properties.get("metadata", {})
    headers += [(f"x-goog-meta-{name}", str(text)) for name, text in metadata.items()]
    return headers


def version_headers(stored: StoredObject) -> Headers:
    """Return the headers that name an object's bytes and version; a write is answered with them."""
    return [
        ("ETag", stored.media_etag),
        ("x-goog-generation", str(stored.generation)),
        ("x-goog-metageneration", str(stored.metageneration)),
        hash_header(stored.content),
    ]


def hash_header(content: Content) -> tuple[str, str]:
    """Return the header that carries the digests."""
    md5 = f",md5={content.md5}" if content.md5 else ""
    return ("x-goog-hash", f"crc32c={content.crc32c}{md5}")


def _check_etag(stored: StoredObject, request: Request) -> None:
    tags = (stored.media_etag, stored.media_etag.strip('"'), stored.etag, "*")
    wanted = request.headers.get("if-match", "*").split(",")
    if not any(tag.strip() in tags for tag in wanted):
        raise Refused(Refusal.CONDITION_NOT_MET)
    known = request.headers.get("if-none-match", "").split(",")
    if any(tag.strip().removeprefix("W/") in tags for tag in known):
        raise Refused(Refusal.NOT_MODIFIED)


def _range(header: str, size: int) -> range | None:
    """Return the bytes a Range header asks for; None for all, as for a header without sense."""
    match = RANGE.fullmatch(header.strip())
    if match is None:
        return None
    if match["suffix"] is not None:
        first, last = max(0, size - int(match["suffix"])), size - 1
    else:
        first, last = int(match["first"]), int(match["last"] or size - 1)
        if match["last"] and last < first:
            return None
    wanted = range(first, min(last, size - 1) + 1)
    if not wanted:
        raise Refused(Refusal.RANGE_NOT_SATISFIABLE, f"bytes */{size}")
    return wanted
