"""The Blobs of shared/ports.py on Amazon S3, and on stores that speak its protocol.

No artist's file passes here: whoever sends or wants one gets a signed URL. Clients that see an S3 URL send neither an
MD5 nor a token along, only bytes of a known length; what arrived, the ETag tells.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from shared.aws import Errors, code_of, translated
from shared.core.parts import check_parts
from shared.errors import InvalidRequest, NotFound, RateLimited, Unreachable
from shared.ports import Blob

ERRORS: Errors = {
    "NoSuchKey": NotFound,
    "NoSuchUpload": NotFound,
    404: NotFound,
    "SlowDown": RateLimited,
    429: RateLimited,
    500: Unreachable,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}
_WRONG_PARTS = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML")
_NO_SUCH_RANGE = "InvalidRange"

CONNECT_S, READ_S = 3, 60
TRIES = 4
AT_ONCE = 32
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
# Clients tell an S3 URL by this word, wherever it stands; all versions know this one.
_S3_WORD = "amazonaws"


class S3Blobs:
    """One bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="s3")
        client.meta.events.register("before-sign.s3", _mark)

    @classmethod
    def connect(cls, *, bucket: str, endpoint: str = "", tries: int = TRIES) -> "S3Blobs":
        """Return the blobs of a bucket; `endpoint` where the API is not Amazon's own.

        Credentials and region are found as every program of Amazon's finds them. A signed URL lives no longer than the
        credentials that signed it.
        """
        config = Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": tries},
            max_pool_connections=AT_ONCE,
            # Checksums of the library's own choice would be signed into URLs whose users know nothing of them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint else "virtual"},
        )
        return cls(boto3.client("s3", endpoint_url=endpoint or None, config=config), bucket)

    def write(self, name: str, content: bytes, content_type: str) -> None:
        self._call("put_object", name, Body=content, ContentType=content_type)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            self._call("head_object", name)
            return b""
        asked = {}
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with _translated(f"read {name}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=name, **asked)
            except ClientError as exc:
                if code_of(exc) == _NO_SUCH_RANGE:  # it begins behind the end
                    return b""
                raise
            content: bytes = answer["Body"].read()
        return content

    def stat(self, names: Sequence[str]) -> dict[str, Blob]:
        found = self._threads.map(self._head, dict.fromkeys(names))
        return {blob.name: blob for blob in found if blob is not None}

    def url_to_read(self, name: str, lifetime_s: int) -> str:
        return self._sign("get_object", name, lifetime_s)

    def url_to_write(self, name: str, lifetime_s: int, md5: str | None = None) -> str:
        demanded = {} if md5 is None else {"ContentMD5": md5}
        return self._sign("put_object", name, lifetime_s, **demanded)

    def url_to_upload(self, name: str, lifetime_s: int, md5: str) -> str:
        return self.url_to_write(name, lifetime_s)

    def begin_parts(self, name: str) -> str:
        upload_id: str = self._call("create_multipart_upload", name)["UploadId"]
        return upload_id

    def url_to_write_part(self, name: str, upload_id: str, part: int, lifetime_s: int) -> str:
        return self._sign("upload_part", name, lifetime_s, UploadId=upload_id, PartNumber=part)

    def complete_parts(
        self, name: str, upload_id: str, etags: Mapping[int, str], size_bytes: int
    ) -> Blob:
        check_parts(etags, self._parts(name, upload_id), size_bytes)
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        self._call(
            "complete_multipart_upload",
            name,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
        done = self._head(name)
        if done is None:
            raise NotFound(f"s3: no object {name}")
        return done

    def delete(self, name: str) -> None:
        self._call("delete_object", name)

    def stored_bytes(self, prefix: str) -> int:
        with _translated(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            return sum(each["Size"] for page in pages for each in page.get("Contents", ()))

    def names(self, prefix: str) -> Iterator[str]:
        with _translated(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            yield from (each["Key"] for page in pages for each in page.get("Contents", ()))

    def _parts(self, name: str, upload_id: str) -> dict[int, int]:
        """Return the sizes of the parts that have arrived, by number."""
        sizes: dict[int, int] = {}
        with _translated(f"list parts of {name}"):
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=name, UploadId=upload_id
            )
            for page in pages:
                sizes |= {part["PartNumber"]: part["Size"] for part in page.get("Parts", [])}
        return sizes

    def _head(self, name: str) -> Blob | None:
        try:
            found = self._call("head_object", name)
        except NotFound:
            return None
        return Blob(name=name, size_bytes=found["ContentLength"], md5=_md5(found))

    def _call(self, operation: str, name: str, **asked: Any) -> Any:
        with _translated(f"{operation} {name}"):
            return getattr(self._client, operation)(Bucket=self._bucket, Key=name, **asked)

    def _sign(self, operation: str, name: str, lifetime_s: int, **asked: Any) -> str:
        with _translated(f"sign {name}"):
            url: str = self._client.generate_presigned_url(
                operation,
                Params={"Bucket": self._bucket, "Key": name, **asked},
                ExpiresIn=lifetime_s,
            )
        return url


def _mark(request: Any, signature_version: str, operation_name: str, **_: Any) -> None:
    """Have clients know a URL of another store for what it is, before it is signed."""
    is_url = signature_version.endswith("query")
    if is_url and operation_name == "PutObject" and _S3_WORD not in request.url:
        request.url += f"{'&' if '?' in request.url else '?'}via={_S3_WORD}"


def _md5(found: Mapping[str, Any]) -> str | None:
    """Return the MD5 in an ETag; that of parts, or of what a key of one's own encrypts, is another thing."""
    matched = _MD5_ETAG.fullmatch(found["ETag"])
    if matched is None or str(found.get("ServerSideEncryption", "")).startswith("aws:kms"):
        return None
    return base64.b64encode(bytes.fromhex(matched[1])).decode()


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the provider's errors into ours."""
    with translated(f"s3: {doing}", ERRORS):
        try:
            yield
        except ClientError as exc:
            if code_of(exc) in _WRONG_PARTS:
                raise InvalidRequest({"parts": str(exc)}) from exc
            raise
