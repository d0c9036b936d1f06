"""Uploads: URLs for what the account does not hold yet, and the joining of what came in parts.

Blobs are named by their MD5, per account. A file in one piece is refused by the store itself when its bytes have
another MD5. Of a joined one the provider keeps no MD5: its size is checked here, under a name of its own, before it
gets the name of its MD5; its bytes are checked on the node, which checks every input that it fetches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.core.permissions import Action, check
from shared.errors import InvalidRequest
from shared.models.account import Principal
from shared.models.submission import CompletedUpload, UploadRequest
from shared.ports import Blobs, Ports, TransferStore
from shared.services.attempts import blob_name
from shared.services.projects import check_project

# Clients ask for URLs as fast as they find files, and use them when all earlier ones have gone up.
URL_LIFETIME_S = 48 * 3600
MAX_PARTS = 10_000


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """From `threshold_bytes` on a file goes up in parts of at least `part_bytes`."""

    threshold_bytes: int = 1024**3
    part_bytes: int = 256 * 1024**2

    def size_for(self, file_bytes: int) -> int:
        """Return how large the parts of a file are: a whole number of MiB, never more parts than the store takes."""
        mib = 1024**2
        return max(self.part_bytes, -(-file_bytes // (MAX_PARTS * mib)) * mib)


def upload_urls(
    principal: Principal,
    request: UploadRequest,
    ports: Ports,
    transfers: TransferStore,
    sizes: PartSizes,
    new_id: Callable[[], str],
) -> dict[str, list[dict[str, Any]]]:
    """Answer get_upload_urls: each file that is not stored, once, under the path that was sent.

    Nothing but lists of objects may be in the answer, and of two files with the same bytes only one is sent up.
    Raises: Forbidden; InvalidRequest.
    """
    check(principal, Action.SUBMIT)
    wrong: dict[str, str] = {}
    if request.project is not None:
        check_project(principal, request.project, ports, wrong)
    if wrong:
        raise InvalidRequest(wrong)
    wanted = {blob_name(principal.account_id, file.md5): file for file in reversed(request.files)}
    stored = ports.blobs.stat(list(wanted))
    single, multi = [], []
    for name, file in wanted.items():
        if name in stored:
            continue
        if file.size_bytes < sizes.threshold_bytes:
            url = ports.blobs.url_to_write(name, URL_LIFETIME_S, file.md5)
            single.append({"filePath": file.path, "fileSize": file.size_bytes, "preSignedURL": url})
            continue
        upload_id, part_size = new_id(), sizes.size_for(file.size_bytes)
        parts_name = f"accounts/{principal.account_id}/parts/{upload_id}"
        store_id = ports.blobs.begin_parts(parts_name)
        transfers.save_multipart(
            principal.account_id,
            upload_id,
            {
                "parts_name": parts_name,
                "store_id": store_id,
                "md5": file.md5,
                "size_bytes": file.size_bytes,
                "at": ports.now(),
            },
        )
        multi.append(
            {
                "uploadID": upload_id,
                "filePath": file.path,
                "fileSize": file.size_bytes,
                "partSize": part_size,
                "md5": file.md5,
                "parts": _part_urls(
                    parts_name, store_id, -(-file.size_bytes // part_size), ports.blobs
                ),
            }
        )
    return {"singlePartURLs": single, "multiPartURLs": multi}


def _part_urls(name: str, store_id: str, count: int, blobs: Blobs) -> list[dict[str, Any]]:
    return [
        {
            "partNumber": number,
            "url": blobs.url_to_write_part(name, store_id, number, URL_LIFETIME_S),
        }
        for number in range(1, count + 1)
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
