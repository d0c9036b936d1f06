"""Uploads: URLs for what the account does not hold yet, and the joining of what came in parts.

Blobs are named by their MD5, per account. Of a file in one piece the store knows the MD5: it refuses other bytes, or,
where clients cannot send the MD5 along, what arrived does not count as held. Of a joined one no provider keeps an MD5:
its size is checked here, its bytes on the node, which checks every input that it fetches.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.core.permissions import Action, check
from shared.errors import InvalidRequest, NotFound, TooLarge
from shared.models.account import Principal
from shared.models.submission import CompletedUpload, OfferedFile, UploadRequest
from shared.ports import Blob, Blobs, Ports, TransferStore
from shared.services.attempts import blob_name, digest_of
from shared.services.projects import check_project

# Clients ask for URLs as fast as they find files, and use them when all earlier ones have gone up.
URL_LIFETIME_S = 48 * 3600
_MIB = 1024**2
# Of one file, as every store has it; of all files of one answer, as they are signed in time.
MAX_PARTS = 10_000
# Parts grow, so that an answer has fewer than this many, until they are as large as clients can send: they hold a whole
# part in memory for each of their threads, and Python's TLS takes less than 2 GiB at once.
_PARTS_AIMED_AT = 2_500
_MAX_PART_BYTES = 1024**3
# Threads are kept from one request to the next: to start them takes longer than to sign.
_SIGNERS = ThreadPoolExecutor(16, thread_name_prefix="sign")
_KEPT_S = 300.0
_REMEMBERED = 200_000

# So many files one call of a client looks for in the store: it has a minute for its answer, and to ask costs about a
# millisecond of processor time for each. The sync looks for all of them.
MAX_LOOKED_FOR = 5_000

_held: dict[str, float] = {}


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """From `threshold_bytes` on a file goes up in parts, of at least `part_bytes` each."""

    threshold_bytes: int = 1024**3
    part_bytes: int = 256 * _MIB

    def is_large(self, file_bytes: int) -> bool:
        """Tell whether a file goes up in parts."""
        return file_bytes >= self.threshold_bytes

    def size_for(self, answer_bytes: int) -> int:
        """Return how large the parts are when the large files of an answer have so many bytes in all: whole MiB."""
        wanted = -(-answer_bytes // (_PARTS_AIMED_AT * _MIB)) * _MIB
        return max(self.part_bytes, min(wanted, _MAX_PART_BYTES))


@dataclass(frozen=True, kw_only=True)
class _Multipart:
    """A file whose upload in parts has begun."""

    file: OfferedFile
    upload_id: str
    name: str
    store_id: str


def held(names: Iterable[str], blobs: Blobs) -> dict[str, Blob]:
    """Return which of these blobs the store has, but for those whose bytes are known to be others."""
    found = blobs.stat(list(names))
    return {
        name: blob
        for name, blob in found.items()
        if blob.md5 is None or name.endswith(digest_of(blob.md5))
    }


def upload_urls(
    principal: Principal,
    request: UploadRequest,
    ports: Ports,
    transfers: TransferStore,
    sizes: PartSizes,
    new_id: Callable[[], str],
) -> dict[str, list[dict[str, Any]]]:
    """Answer get_upload_urls: each file that is not stored, once, under the path that was sent.

    Nothing but lists of objects may be in the answer; a path is in it once, and so are bytes that several paths have. A
    file that is left out counts as stored, so what would take too long to sign is refused.
    Raises: Forbidden; InvalidRequest; TooLarge, and then nothing is begun.
    """
    check(principal, Action.SUBMIT)
    wrong: dict[str, str] = {}
    if request.project is not None:
        check_project(principal, request.project, ports, wrong)
    if wrong:
        raise InvalidRequest(wrong)
    missing = _missing(principal.account_id, request.files, ports.blobs)
    large = {name: file for name, file in missing.items() if sizes.is_large(file.size_bytes)}
    small = {name: file for name, file in missing.items() if name not in large}
    part_bytes = sizes.size_for(sum(file.size_bytes for file in large.values()))
    part_count = sum(_part_count(file, part_bytes) for file in large.values())
    if part_count > MAX_PARTS:
        raise TooLarge(f"upload_files: {part_count} parts, more than {MAX_PARTS} in one call")

    def begin(named: tuple[str, OfferedFile]) -> _Multipart:
        return _begin(principal.account_id, *named, new_id(), ports, transfers)

    begun = list(_SIGNERS.map(begin, large.items()))
    return {
        "singlePartURLs": _single_urls(small, ports.blobs),
        "multiPartURLs": _multipart_urls(begun, part_bytes, ports.blobs),
    }


def _missing(account_id: str, files: Sequence[OfferedFile], blobs: Blobs) -> dict[str, OfferedFile]:
    """Return the files that the store does not have, by the name that they shall get there.

    Of the paths with the same bytes the first one is sent, and of the bytes offered under one path the first.
    """
    wanted: dict[str, OfferedFile] = {}
    paths: set[str] = set()
    for file in files:
        name = blob_name(account_id, file.md5)
        if name not in wanted and file.path not in paths:
            wanted[name] = file
            paths.add(file.path)
    now = time.monotonic()
    asked = [name for name in wanted if now - _held.get(name, -_KEPT_S) >= _KEPT_S]
    found = held(asked, blobs)
    for name in asked:
        # A joined file has no MD5 there: by another size it is known to be damaged, and is sent again.
        blob = found.get(name)
        if blob is None or (blob.md5 is None and blob.size_bytes != wanted[name].size_bytes):
            continue
        if len(_held) >= _REMEMBERED:
            _held.clear()
        _held[name] = now
    return {
        name: file for name, file in wanted.items() if now - _held.get(name, -_KEPT_S) >= _KEPT_S
    }


def _part_count(file: OfferedFile, part_bytes: int) -> int:
    return -(-file.size_bytes // part_bytes)


def _single_urls(files: Mapping[str, OfferedFile], blobs: Blobs) -> list[dict[str, Any]]:
    def url(named: tuple[str, OfferedFile]) -> str:
        name, file = named
        return blobs.url_to_upload(name, URL_LIFETIME_S, file.md5)

    return [
        {"filePath": file.path, "fileSize": file.size_bytes, "preSignedURL": signed}
        for file, signed in zip(files.values(), _SIGNERS.map(url, files.items()), strict=True)
    ]


def _begin(
    account_id: str,
    name: str,
    file: OfferedFile,
    upload_id: str,
    ports: Ports,
    transfers: TransferStore,
) -> _Multipart:
    store_id = ports.blobs.begin_parts(name)
    now = ports.now()
    transfers.save_multipart(
        account_id,
        upload_id,
        {
            "store_id": store_id,
            "md5": file.md5,
            "size_bytes": file.size_bytes,
            "at": now,
            "expires_at": now + timedelta(seconds=2 * URL_LIFETIME_S),
        },
    )
    return _Multipart(file=file, upload_id=upload_id, name=name, store_id=store_id)


def _multipart_urls(
    begun: Sequence[_Multipart], part_bytes: int, blobs: Blobs
) -> list[dict[str, Any]]:
    numbers = [range(1, _part_count(each.file, part_bytes) + 1) for each in begun]
    parts = [(each, number) for each, some in zip(begun, numbers, strict=True) for number in some]

    def url(part: tuple[_Multipart, int]) -> str:
        each, number = part
        return blobs.url_to_write_part(each.name, each.store_id, number, URL_LIFETIME_S)

    signed = _SIGNERS.map(url, parts)
    return [
        {
            "uploadID": each.upload_id,
            "filePath": each.file.path,
            "fileSize": each.file.size_bytes,
            "partSize": part_bytes,
            "md5": each.file.md5,
            "parts": [{"partNumber": number, "url": next(signed)} for number in some],
        }
        for each, some in zip(begun, numbers, strict=True)
    ]


def complete_upload(
    principal: Principal, done: CompletedUpload, ports: Ports, transfers: TransferStore
) -> None:
    """Join the parts of a file under the name of its MD5; a repeat, also after a fault half way, ends alike.

    Raises: Forbidden; NotFound (no such upload); InvalidRequest when parts are missing or sizes differ.
    """
    check(principal, Action.SUBMIT)
    account_id = principal.account_id
    name = blob_name(account_id, done.md5)
    there = held([name], ports.blobs).get(name)
    try:
        begun = transfers.multipart(account_id, done.upload_id)
    except NotFound:
        if there is None:
            raise
        return
    if begun["md5"] != done.md5:
        raise InvalidRequest({"hash": "is not the one that this upload was begun with"})
    if there is None or there.size_bytes != begun["size_bytes"]:
        try:
            ports.blobs.complete_parts(name, begun["store_id"], done.etags, begun["size_bytes"])
        except InvalidRequest as error:
            raise InvalidRequest({"completedParts": str(error)}) from error
    transfers.delete_multipart(account_id, done.upload_id)
