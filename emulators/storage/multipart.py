"""Multipart uploads of the XML API: parts in any order, joined when the client says so."""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from emulators.storage.content import Content
from emulators.storage.errors import Refusal, Refused
from emulators.storage.index import Transaction
from emulators.storage.objects import Properties, StoredObject, content_of, hex_md5
from emulators.storage.state import Store, Version

MIN_PART_BYTES = 5 * 1024 * 1024
MAX_PARTS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part that has arrived."""

    number: int
    updated_us: int
    content: Content

    @property
    def etag(self) -> str:
        """Return the tag by which the client names this part's bytes: their MD5 in hex."""
        return hex_md5(self.content.md5 or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class MultipartUpload:
    """An upload that waits for parts."""

    upload_id: str
    bucket: str
    name: str
    started_us: int


class MultipartUploads:
    """All multipart uploads. They never expire: whoever starts one ends it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def initiate(self, bucket: str, name: str, properties: Properties) -> str:
        """Open an upload and return its id."""
        self._store.admit(Version(bucket=bucket, name=name))
        upload_id = uuid.uuid4().hex
        with self._store.index.transaction() as tx:
            tx.insert(
                "multipart_uploads",
                upload_id=upload_id,
                bucket=bucket,
                name=name,
                properties=json.dumps(properties),
                started_us=self._store.now_us(),
            )
        return upload_id

    def put_part(self, target: Version, upload_id: str, number: int, content: Content) -> Part:
        """Keep one part; it replaces an earlier one of the same number."""
        if not 1 <= number <= MAX_PARTS:
            raise Refused(Refusal.INVALID_ARGUMENT, f"partNumber must be 1 to {MAX_PARTS}")
        part = Part(number=number, updated_us=self._store.now_us(), content=content)
        with self._store.index.transaction() as tx:
            _find(tx, target, upload_id)
            earlier = tx.one(
                "SELECT file_id FROM parts WHERE upload_id = ? AND number = ?", upload_id, number
            )
            if earlier is not None:
                tx.discard(earlier["file_id"])
            tx.insert(
                "parts",
                upload_id=upload_id,
                number=number,
                updated_us=part.updated_us,
                file_id=content.file_id,
                size_bytes=content.size_bytes,
                crc32c=content.crc32c,
                md5=content.md5,
            )
        return part

    def parts(self, target: Version, upload_id: str) -> list[Part]:
        """Return the parts that have arrived, by number."""
        with self._store.index.reading() as tx:
            _find(tx, target, upload_id)
            return _parts(tx, upload_id)

    def unfinished(self, bucket: str, prefix: str = "") -> list[MultipartUpload]:
        """Return a bucket's uploads to names that begin with `prefix`, by name and age."""
        self._store.bucket(bucket)
        with self._store.index.reading() as tx:
            rows = tx.execute(
                "SELECT * FROM multipart_uploads WHERE bucket = ? ORDER BY name, started_us", bucket
            ).fetchall()
        return [
            MultipartUpload(
                upload_id=row["upload_id"],
                bucket=bucket,
                name=row["name"],
                started_us=row["started_us"],
            )
            for row in rows
            if row["name"].startswith(prefix)
        ]

    def complete(
        self, target: Version, upload_id: str, wanted: Sequence[tuple[int, str]]
    ) -> StoredObject:
        """Join the parts that the client names, by number and tag, into the object."""
        with ExitStack() as stack:
            with self._store.index.reading() as tx:
                row = _find(tx, target, upload_id)
                parts = _chosen(_parts(tx, upload_id), wanted)
                files = [
                    stack.enter_context(self._store.files.open(part.content.file_id))
                    for part in parts
                ]
            content = stack.enter_context(self._store.files.joined(files))
            tx = stack.enter_context(self._store.index.transaction())
            _find(tx, target, upload_id)
            if _chosen(_parts(tx, upload_id), wanted) != parts:
                raise Refused(Refusal.INVALID_PART, "a part was replaced meanwhile")
            _end(tx, target, upload_id)
            properties = json.loads(row["properties"])
            return self._store.place(tx, target, content, properties, len(parts))

    def abort(self, target: Version, upload_id: str) -> None:
        """Forget an upload and its parts."""
        with self._store.index.transaction() as tx:
            _end(tx, target, upload_id)


def _find(tx: Transaction, target: Version, upload_id: str) -> sqlite3.Row:
    row = tx.one(
        "SELECT * FROM multipart_uploads WHERE upload_id = ? AND bucket = ? AND name = ?",
        upload_id,
        target.bucket,
        target.name,
    )
    if row is None:
        raise Refused(Refusal.NO_SUCH_UPLOAD)
    return row


def _parts(tx: Transaction, upload_id: str) -> list[Part]:
    rows = tx.execute("SELECT * FROM parts WHERE upload_id = ? ORDER BY number", upload_id)
    return [
        Part(number=row["number"], updated_us=row["updated_us"], content=content_of(row))
        for row in rows
    ]


def _chosen(parts: Sequence[Part], wanted: Sequence[tuple[int, str]]) -> list[Part]:
    """Return the wanted parts in order. Raises: Refused, when they do not make an object."""
    numbers = [number for number, _ in wanted]
    if not numbers or numbers != sorted(set(numbers)):
        raise Refused(Refusal.INVALID_PART_ORDER)
    arrived = {(part.number, part.etag): part for part in parts}
    missing = [number for number, etag in wanted if (number, etag) not in arrived]
    if missing:
        raise Refused(Refusal.INVALID_PART, f"parts {missing}")
    chosen = [arrived[key] for key in wanted]
    for part in chosen[:-1]:
        if part.content.size_bytes < MIN_PART_BYTES:
            raise Refused(Refusal.TOO_SMALL, f"part {part.number} is below {MIN_PART_BYTES} bytes")
    return chosen


def _end(tx: Transaction, target: Version, upload_id: str) -> None:
    _find(tx, target, upload_id)
    for part in _parts(tx, upload_id):
        tx.discard(part.content.file_id)
    tx.execute("DELETE FROM parts WHERE upload_id = ?", upload_id)
    tx.execute("DELETE FROM multipart_uploads WHERE upload_id = ?", upload_id)
