"""The queue of uploads, in Firestore: one document for each job that waits for a daemon."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.models.job import JobRef
from shared.models.upload import QueuedUpload
from shared.stores.wire import Create, Documents, Found, Update, delete, stream

_TOGETHER = 8


class FirestoreUploadStore:
    """The UploadStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)

    def add(self, upload: QueuedUpload) -> bool:
        fields = {
            "job_id": upload.ref.job_id,
            "location": upload.location,
            "available_at": upload.available_at,
            "holder": upload.holder,
        }
        try:
            self._documents.commit([Create(path=_path(upload.ref), fields=fields)])
        except AlreadyExists:
            return False
        return True

    def waiting(
        self, account_id: str, location: str, now: datetime
    ) -> Iterator[Sequence[QueuedUpload]]:
        query = (
            self._client.collection(f"accounts/{account_id}/uploads")
            .where(filter=FieldFilter("location", "==", location))
            .where(filter=FieldFilter("available_at", "<=", now))
            .order_by("available_at")
            .limit(_TOGETHER)
        )
        while some := stream(query):
            # Read again, since what a query finds has no version to guard a write by; others may have been faster.
            refs = [JobRef(account_id, each.id) for each in some]
            found = self._documents.get([_path(ref) for ref in refs])
            pairs = zip(refs, found, strict=True)
            uploads = [_upload(ref, each) for ref, each in pairs if each is not None]
            yield [each for each in uploads if each.available_at <= now]
            if len(some) < _TOGETHER:
                return
            query = query.start_after(some[-1])

    def find(self, ref: JobRef) -> QueuedUpload | None:
        found = self._documents.get([_path(ref)])[0]
        return _upload(ref, found) if found else None

    def change(self, upload: QueuedUpload, *, holder: str, available_at: datetime) -> bool:
        fields = {("holder",): holder, ("available_at",): available_at}
        path = _path(upload.ref)
        try:
            self._documents.commit([Update(path=path, fields=fields, version=upload.version)])
        except (FailedPrecondition, NotFound):
            return False
        return True

    def remove(self, ref: JobRef) -> None:
        delete(self._client.document(_path(ref)))


def _path(ref: JobRef) -> str:
    return f"accounts/{ref.account_id}/uploads/{ref.job_id}"


def _upload(ref: JobRef, found: Found) -> QueuedUpload:
    fields = found.fields
    return QueuedUpload(
        ref=ref,
        location=fields["location"],
        available_at=fields["available_at"],
        holder=fields["holder"],
        version=found.version,
    )
