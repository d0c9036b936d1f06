"""A request to a resumable upload's own address; the same in both APIs."""

import re

from emulators.storage.content import Expected
from emulators.storage.errors import Refusal, Refused
from emulators.storage.messages import Reply, Request
from emulators.storage.objects import StoredObject
from emulators.storage.resumable import Piece, ResumableUploads

CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-(?:\d+|\*)|\*)/(?P<total>\d+|\*)")


def continue_upload(
    request: Request, uploads: ResumableUploads, upload_id: str
) -> StoredObject | Reply:
    """Return the object when this request finishes the upload, else the reply to go on from.

    Raises: Refused, 499 when the upload is cancelled by DELETE, as at the provider.
    """
    if request.method == "DELETE":
        uploads.cancel(upload_id)
        raise Refused(Refusal.UPLOAD_CANCELLED)
    if request.method not in ("PUT", "POST"):
        raise Refused(Refusal.METHOD_NOT_ALLOWED)
    header = request.headers.get("content-range")
    if header is None:
        piece = Piece(is_whole=True)
    else:
        match = CONTENT_RANGE.fullmatch(header.strip())
        if match is None:
            raise Refused(Refusal.INVALID_ARGUMENT, f"Invalid Content-Range: '{header}'")
        total = None if match["total"] == "*" else int(match["total"])
        if match["first"] is None:
            return _answer(uploads.progress(upload_id, total))
        piece = Piece(offset=int(match["first"]), total=total)
    expected = announced_hash(request)
    return _answer(uploads.append(upload_id, piece, request.body.blocks(), expected))


def _answer(outcome: StoredObject | int) -> StoredObject | Reply:
    if isinstance(outcome, StoredObject):
        return outcome
    return Reply(308, [("Range", f"bytes=0-{outcome - 1}")] if outcome else [])


def announced_hash(request: Request) -> Expected:
    """Return the digests that the request's x-goog-hash header announces."""
    said = {}
    for item in request.headers.get("x-goog-hash", "").split(","):
        name, _, value = item.strip().partition("=")
        said[name] = value
    return Expected(md5=said.get("md5"), crc32c=said.get("crc32c"))
