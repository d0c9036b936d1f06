"""The Blobs of shared/ports.py on Google Cloud Storage.

No artist's file passes here: whoever sends or wants one gets a signed URL.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any
from xml.etree import ElementTree

import google.auth
import requests
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.auth import iam
from google.auth.transport.requests import Request
from google.cloud.storage import Bucket, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from shared.core.parts import check_parts
from shared.errors import CloudError, InvalidRequest, NotFound, RateLimited, Unreachable
from shared.ports import Blob

# Status code -> error; everything else is a CloudError.
ERRORS: Mapping[int, type[CloudError]] = {
    429: RateLimited,
    500: Unreachable,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}

# To connect, to hear something: well within the time that a function itself has for its answer.
TIMEOUT_S = (3, 20)
RETRY_S = 15.0
NAMES_PER_BATCH = 100  # what one batch may hold
AT_ONCE = 8
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class GcsBlobs:
    """One bucket. `signer` returns the credentials of a service account, which sign URLs.

    It is asked for the first URL only: an operator's own credentials read and write, but cannot sign.
    """

    def __init__(
        self,
        bucket: Bucket,
        signer: Callable[[], service_account.Credentials],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        self._bucket = bucket
        self._signer = cache(signer)
        # Every call of ours may be repeated: what is written replaces what was there.
        self._options: dict[str, Any] = {
            "timeout": TIMEOUT_S,
            "retry": DEFAULT_RETRY.with_timeout(retry_s),
        }
        self._session = requests.Session()

    @classmethod
    def connect(cls, *, project: str, bucket: str, credentials_path: str = "") -> "GcsBlobs":
        """Return the blobs of a bucket.

        A service account's JSON signs by itself; without one the function's own account does, through IAM.
        """
        client = Client(project=project)
        return cls(client.bucket(bucket), partial(_signer, credentials_path))

    def write(self, name: str, content: bytes, content_type: str) -> None:
        with _translated(f"write {name}"):
            self._bucket.blob(name).upload_from_string(content, content_type, **self._options)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b"" if self.stat([name]) else self._missing(name)
        last = None if end is None else end - 1
        with _translated(f"read {name}"):
            try:
                content: bytes = self._bucket.blob(name).download_as_bytes(
                    start=start or None, end=last, raw_download=True, **self._options
                )
            except google_errors.RequestRangeNotSatisfiable:  # it begins behind the end
                return b""
        return content

    def stat(self, names: Sequence[str]) -> dict[str, Blob]:
        batches = [names[i : i + NAMES_PER_BATCH] for i in range(0, len(names), NAMES_PER_BATCH)]
        if len(batches) <= 1:
            found = map(self._stat_batch, batches)
            return {blob.name: blob for some in found for blob in some}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return {
                blob.name: blob for some in pool.map(self._stat_batch, batches) for blob in some
            }

    def url_to_read(self, name: str, lifetime_s: int) -> str:
        return self._sign(name, "GET", lifetime_s)

    def url_to_write(self, name: str, lifetime_s: int, md5: str | None = None) -> str:
        return self._sign(name, "PUT", lifetime_s, content_md5=md5)

    def url_to_upload(self, name: str, lifetime_s: int, md5: str) -> str:
        return self.url_to_write(name, lifetime_s, md5)  # clients send the MD5 along

    def begin_parts(self, name: str) -> str:
        answer = self._call(name, "POST", {"uploads": ""}, f"begin parts of {name}")
        return _text(answer, "UploadId")

    def url_to_write_part(self, name: str, upload_id: str, part: int, lifetime_s: int) -> str:
        query = {"partNumber": str(part), "uploadId": upload_id}
        return self._sign(name, "PUT", lifetime_s, query_parameters=query)

    def complete_parts(
        self, name: str, upload_id: str, etags: Mapping[int, str], size_bytes: int
    ) -> Blob:
        check_parts(etags, self._parts(name, upload_id), size_bytes)
        root = ElementTree.Element("CompleteMultipartUpload")
        for number in sorted(etags):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etags[number]
        query = {"uploadId": upload_id}
        doing = f"complete parts of {name}"
        self._call(name, "POST", query, doing, ElementTree.tostring(root))
        return self.stat([name]).get(name) or self._missing(name)

    def _parts(self, name: str, upload_id: str) -> dict[int, int]:
        """Return the sizes of the parts that have arrived, by number."""
        sizes: dict[int, int] = {}
        marker = "0"
        while True:
            query = {"uploadId": upload_id, "part-number-marker": marker}
            answer = _parsed(self._call(name, "GET", query, f"list parts of {name}"))
            for part in answer.iterfind("{*}Part"):
                number, size = part.findtext("{*}PartNumber"), part.findtext("{*}Size")
                sizes[int(number or 0)] = int(size or 0)
            marker = answer.findtext("{*}NextPartNumberMarker") or ""
            if answer.findtext("{*}IsTruncated") != "true" or not marker:
                return sizes

    def delete(self, name: str) -> None:
        with _translated(f"delete {name}"):
            try:
                self._bucket.blob(name).delete(**self._options)
            except google_errors.NotFound:
                return

    def stored_bytes(self, prefix: str) -> int:
        sizes = "items(size),nextPageToken"
        with _translated(f"list {prefix}"):
            listed = self._bucket.list_blobs(prefix=prefix, fields=sizes, **self._options)
            return sum(each.size for each in listed)

    def names(self, prefix: str) -> Iterator[str]:
        names = "items(name),nextPageToken"
        with _translated(f"list {prefix}"):
            listed = self._bucket.list_blobs(prefix=prefix, fields=names, **self._options)
            yield from (each.name for each in listed)

    def _stat_batch(self, names: Sequence[str]) -> list[Blob]:
        blobs = [self._bucket.blob(name) for name in dict.fromkeys(names)]
        doing = f"stat {len(blobs)} objects"
        with _translated(doing):
            with self._bucket.client.batch(raise_exception=False) as batch:
                for blob in blobs:
                    blob.reload(timeout=TIMEOUT_S, retry=None)
            answers = batch._responses  # no public way tells what is missing from what failed
        found = []
        for blob, answer in zip(blobs, answers, strict=True):
            if answer.ok:
                found.append(Blob(name=blob.name, size_bytes=blob.size, md5=blob.md5_hash))
            elif answer.status_code != 404:
                raise _error(answer.status_code)(f"gcs: {doing}: {answer.status_code}")
        return found

    def _sign(self, name: str, method: str, lifetime_s: int, **more: Any) -> str:
        with _translated(f"sign {name}"):
            url: str = self._bucket.blob(name).generate_signed_url(
                version="v4",
                method=method,
                expiration=timedelta(seconds=lifetime_s),
                credentials=self._signer(),
                **more,
            )
        return url

    def _call(
        self, name: str, method: str, query: Mapping[str, str], doing: str, body: bytes = b""
    ) -> bytes:
        """Call the XML API by a signed URL of ours. Raises: NotFound, InvalidRequest, CloudError."""
        url = self._sign(name, method, 60, query_parameters=dict(query))
        with _translated(doing):
            answer = self._session.request(method, url, data=body, timeout=TIMEOUT_S)
        if answer.status_code == 404:
            raise NotFound(f"gcs: {doing}: {_reason(answer)}")
        if answer.status_code == 400:
            raise InvalidRequest({"parts": _reason(answer)})
        if not answer.ok:
            raise _error(answer.status_code)(f"gcs: {doing}: {_reason(answer)}")
        return answer.content

    def _missing(self, name: str) -> Any:
        raise NotFound(f"gcs: no object {name}")


def _signer(credentials_path: str) -> service_account.Credentials:
    """Return credentials that sign: those in the file, or the function's own, which sign through IAM."""
    found: service_account.Credentials
    if credentials_path:
        found = service_account.Credentials.from_service_account_file(credentials_path)
        return found
    own: Any = google.auth.default(scopes=SCOPES)[0]
    transport = Request()
    own.refresh(transport)  # only then it knows its name
    email = own.service_account_email
    signer = iam.Signer(transport, own, email)
    return service_account.Credentials(signer=signer, service_account_email=email, token_uri="")


def _error(status: int) -> type[CloudError]:
    return ERRORS.get(status, CloudError)


def _reason(answer: requests.Response) -> str:
    try:
        return f"{_text(answer.content, 'Code')}: {_text(answer.content, 'Message')}"
    except CloudError:
        return f"{answer.status_code} {answer.text[:200]}"


def _text(xml: bytes, tag: str) -> str:
    """Return the text of the first element of this name. Raises: CloudError when there is none."""
    found = _parsed(xml).find(f".//{{*}}{tag}")
    if found is None or not found.text:
        raise CloudError(f"gcs: an answer has no {tag}: {xml[:200]!r}")
    return found.text


def _parsed(xml: bytes) -> ElementTree.Element:
    """Return an answer's root. Raises: CloudError when it is no XML."""
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as exc:
        raise CloudError(f"gcs: an answer is not XML: {xml[:200]!r}") from exc


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the provider's errors into ours."""
    try:
        yield
    except google_errors.RetryError as exc:
        status = getattr(exc.cause, "code", None)
        error = _error(status) if isinstance(status, int) else Unreachable
        raise error(f"gcs: {doing}: {exc}") from exc
    except google_errors.NotFound as exc:
        raise NotFound(f"gcs: {doing}: {exc}") from exc
    except google_errors.GoogleAPICallError as exc:
        raise _error(exc.code or 0)(f"gcs: {doing}: {exc}") from exc
    except InvalidResponse as exc:
        raise _error(exc.response.status_code)(f"gcs: {doing}: {exc}") from exc
    except (requests.RequestException, auth_errors.TransportError) as exc:
        raise Unreachable(f"gcs: {doing}: {exc}") from exc
    except (DataCorruption, auth_errors.GoogleAuthError) as exc:
        raise CloudError(f"gcs: {doing}: {exc}") from exc
