"""Uploads: URLs for what the account does not hold yet, and the joining of what came in parts.

Blobs are named by their MD5, per account. A file in one piece is refused by the store itself when its bytes have
another MD5. Of a joined one the provider keeps no MD5: its size is checked here, under a name of its own, before it
gets the name of its MD5; its bytes are checked on the node, which checks every input that it fetches.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from shared.core.permissions import Action, check
from shared.errors import InvalidRequest, TooLarge
from shared.models.account import Principal
from shared.models.submission import CompletedUpload, OfferedFile, UploadRequest
from shared.ports import Blobs, Ports, TransferStore
from shared.services.attempts import blob_name
from shared.services.projects import check_project

# Clients ask for URLs as fast as they find files, and use them when all earlier ones have gone up.
URL_LIFETIME_S = 48 * 3600
# Of one file, as the store has it; and of all files of one answer.
MAX_PARTS = 10_000
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """From `threshold_bytes` on a file goes up in parts of at least `part_bytes`."""

    threshold_bytes: int = 1024**3
    part_bytes: int = 256 * 1024**2

    def is_large(self, file_bytes: int) -> bool:
        """Tell whether a file goes up in parts."""
        return file_bytes >= self.threshold_bytes

    def count_for(self, file_bytes: int) -> int:
        """Return how many parts a file has."""
        return -(-file_bytes // self.size_for(file_bytes))

    def size_for(self, file_bytes: int) -> int:
        """Return how large the parts of a file are: a whole number of MiB, never more parts than the store takes."""
        mib = 1024**2
        return max(self.part_bytes, -(-file_bytes // (MAX_PARTS * mib)) * mib)


@dataclass(frozen=True, kw_only=True)
class _Multipart:
    """A file whose upload in parts has begun."""

    file: OfferedFile
    upload_id: str
    parts_name: str
    store_id: str


def upload_urls(
    principal: Principal,
    request: UploadRequest,
    ports: Ports,
    transfers: TransferStore,
    sizes: PartSizes,
    new_id: Callable[[], str],
) -> dict[str, list[dict[str, Any]]]:
    """Answer get_upload_urls: each file that is not stored, once, under the path that was sent.

    Nothing but lists of objects may be in the answer, and of two files with the same bytes only one is sent up. A file
    that is left out counts as stored, so what would take too long to sign is refused.
    Raises: Forbidden; InvalidRequest; TooLarge, and then nothing is begun.
    """
    check(principal, Action.SUBMIT)
    wrong: dict[str, str] = {}
    if request.project is not None:
        check_project(principal, request.project, ports, wrong)
    if wrong:
        raise InvalidRequest(wrong)
    wanted = {blob_name(principal.account_id, file.md5): file for file in reversed(request.files)}
    stored = ports.blobs.stat(list(wanted))
    missing = {name: file for name, file in wanted.items() if name not in stored}
    single = {name: file for name, file in missing.items() if not sizes.is_large(file.size_bytes)}
    large = [file for name, file in missing.items() if name not in single]
    part_count = sum(sizes.count_for(file.size_bytes) for file in large)
    if part_count > MAX_PARTS:
        raise TooLarge(f"upload_files: {part_count} parts, more than {MAX_PARTS} in one call")

    def begin(file: OfferedFile) -> _Multipart:
        return _begin(principal.account_id, file, new_id(), ports, transfers)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begun = list(pool.map(begin, large))
        return {
            "singlePartURLs": _single_urls(single, ports.blobs, pool),
            "multiPartURLs": _multipart_urls(begun, sizes, ports.blobs, pool),
        }


def _single_urls(
    files: Mapping[str, OfferedFile], blobs: Blobs, pool: Executor
) -> list[dict[str, Any]]:
    def url(named: tuple[str, OfferedFile]) -> str:
        name, file = named
        return blobs.url_to_write(name, URL_LIFETIME_S, file.md5)

    return [
        {"filePath": file.path, "fileSize": file.size_bytes, "preSignedURL": signed}
        for file, signed in zip(files.values(), pool.map(url, files.items()), strict=True)
    ]


def _begin(
    account_id: str, file: OfferedFile, upload_id: str, ports: Ports, transfers: TransferStore
) -> _Multipart:
    parts_name = f"accounts/{account_id}/parts/{upload_id}"
    store_id = ports.blobs.begin_parts(parts_name)
    transfers.save_multipart(
        account_id,
        upload_id,
        {
            "parts_name": parts_name,
            "store_id": store_id,
            "md5": file.md5,
            "size_bytes": file.size_bytes,
            "at": ports.now(),
        },
    )
    return _Multipart(file=file, upload_id=upload_id, parts_name=parts_name, store_id=store_id)


def _multipart_urls(
    begun: Sequence[_Multipart], sizes: PartSizes, blobs: Blobs, pool: Executor
) -> list[dict[str, Any]]:
    numbers = [range(1, sizes.count_for(each.file.size_bytes) + 1) for each in begun]
    parts = [(each, number) for each, some in zip(begun, numbers, strict=True) for number in some]

    def url(part: tuple[_Multipart, int]) -> str:
        each, number = part
        return blobs.url_to_write_part(each.parts_name, each.store_id, number, URL_LIFETIME_S)

    signed = pool.map(url, parts)
    return [
        {
            "uploadID": each.upload_id,
            "filePath": each.file.path,
            "fileSize": each.file.size_bytes,
            "partSize": sizes.size_for(each.file.size_bytes),
            "md5": each.file.md5,
            "parts": [{"partNumber": number, "url": next(signed)} for number in some],
        }
        for each, some in zip(begun, numbers, strict=True)
    ]


def complete_upload(
    principal: Principal, done: CompletedUpload, ports: Ports, transfers: TransferStore
) -> None:
    """Join the parts of a file and give it the name of its MD5; a repeat, also after a fault half way, ends alike.

    Raises: Forbidden; NotFound (no such upload); InvalidRequest when parts are missing or sizes differ.
    """
    check(principal, Action.SUBMIT)
    account_id = principal.account_id
    name = blob_name(account_id, done.md5)
    if ports.blobs.stat([name]):
        return
    begun = transfers.multipart(account_id, done.upload_id)
    if begun["md5"] != done.md5:
        raise InvalidRequest({"hash": "is not the one that this upload was begun with"})
    parts_name = str(begun["parts_name"])
    joined = ports.blobs.stat([parts_name]).get(parts_name)
    if joined is None:
        joined = ports.blobs.complete_parts(parts_name, begun["store_id"], done.etags)
    if joined.size_bytes != begun["size_bytes"]:
        ports.blobs.delete(parts_name)
        transfers.delete_multipart(account_id, done.upload_id)
        raise InvalidRequest(
            {"completedParts": f"{joined.size_bytes} bytes, not {begun['size_bytes']}"}
        )
    ports.blobs.copy(parts_name, name)
    ports.blobs.delete(parts_name)
    transfers.delete_multipart(account_id, done.upload_id)
