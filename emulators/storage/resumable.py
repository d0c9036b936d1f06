"""Resumable uploads: a file that grows over several requests and becomes an object at its end.

What has arrived survives a restart. As at the provider, an unfinished upload keeps whole quanta only.
"""

import fcntl
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO

from emulators.storage.content import ANYTHING, Content, Expected, write_all
from emulators.storage.errors import Refusal, Refused
from emulators.storage.index import Transaction
from emulators.storage.objects import Conditions, Properties, StoredObject
from emulators.storage.state import Store, Version

QUANTUM_BYTES = 256 * 1024
LIFETIME_US = 7 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A request's share of an upload: where its bytes begin, and how many all of them are.

    `total` None: more will follow. `is_whole`: these bytes, however many, are all there is.
    """

    offset: int = 0
    total: int | None = None
    is_whole: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumableUpload:
    """One upload as the index knows it; `generation` is set once it is finished."""

    target: Version
    properties: Properties
    expected: Expected
    file_id: str
    generation: int | None


class ResumableUploads:
    """All resumable uploads. An upload's id is the only credential that it needs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forget_expired()

    def start(self, target: Version, properties: Properties, expected: Expected = ANYTHING) -> str:
        """Open an upload to `target` and return its id."""
        self._store.admit(target)
        upload_id = uuid.uuid4().hex
        file_id = self._store.files.create()
        with self._store.index.transaction() as tx:
            tx.insert(
                "resumable_uploads",
                upload_id=upload_id,
                bucket=target.bucket,
                name=target.name,
                properties=json.dumps(properties),
                conditions=json.dumps(asdict(target.conditions)),
                expected=json.dumps(asdict(expected)),
                file_id=file_id,
                generation=None,
                started_us=self._store.now_us(),
            )
        return upload_id

    def target(self, upload_id: str) -> Version:
        """Return where an upload goes. Raises: Refused, when there is no such upload."""
        return self._find(upload_id).target

    def progress(self, upload_id: str, total: int | None) -> StoredObject | int:
        """Return the object of a finished upload, else how many bytes are kept.

        An upload of which all `total` bytes are here is finished by asking.
        """
        with self._held(upload_id) as (upload, file):
            if upload.generation is not None:
                return self._finished(upload)
            size_bytes = file.seek(0, 2)
            if total == size_bytes:
                return self._finish(upload_id, upload, ANYTHING)
            return _kept(size_bytes)

    def append(
        self, upload_id: str, piece: Piece, blocks: Iterable[bytes], expected: Expected = ANYTHING
    ) -> StoredObject | int:
        """Add the bytes of `piece`; return as `progress` does. Bytes already kept are skipped.

        `expected` is what the last request says of all bytes. Raises: Refused.
        """
        with self._held(upload_id) as (upload, file):
            if upload.generation is not None:
                return self._finished(upload)
            kept = _kept(file.seek(0, 2))
            if piece.offset > kept:
                return kept  # there is a gap: the client goes on from where we are
            file.seek(kept)
            file.truncate()
            _write(file, _without_first(kept - piece.offset, blocks), upload.expected)
            size_bytes = file.tell()
            if piece.total is not None and size_bytes > piece.total:
                raise Refused(Refusal.INVALID_ARGUMENT, "more bytes than Content-Range announced")
            if piece.is_whole or size_bytes == piece.total:
                return self._finish(upload_id, upload, expected)
            file.truncate(_kept(size_bytes))
            return _kept(size_bytes)

    def cancel(self, upload_id: str) -> None:
        """Forget an upload and what has arrived of it."""
        upload = self._find(upload_id)
        with self._store.index.transaction() as tx:
            self._forget(tx, upload_id, upload)

    def _find(self, upload_id: str) -> ResumableUpload:
        with self._store.index.reading() as tx:
            row = tx.one("SELECT * FROM resumable_uploads WHERE upload_id = ?", upload_id)
        if row is None:
            raise Refused(Refusal.NO_SUCH_UPLOAD)
        conditions = Conditions(**json.loads(row["conditions"]))
        return ResumableUpload(
            target=Version(bucket=row["bucket"], name=row["name"], conditions=conditions),
            properties=json.loads(row["properties"]),
            expected=Expected(**json.loads(row["expected"])),
            file_id=row["file_id"],
            generation=row["generation"],
        )

    @contextmanager
    def _held(self, upload_id: str) -> Iterator[tuple[ResumableUpload, BinaryIO]]:
        """Yield an upload and its file; other requests for the same upload wait meanwhile."""
        path = self._store.files.path(self._find(upload_id).file_id)
        try:
            file = path.open("r+b", buffering=0)
        except FileNotFoundError as exc:  # finished, and the object replaced or deleted since
            raise Refused(Refusal.NO_SUCH_UPLOAD) from exc
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self._find(upload_id), file

    def _finish(self, upload_id: str, upload: ResumableUpload, expected: Expected) -> StoredObject:
        """Make the file an object; an upload whose bytes are refused is forgotten."""
        content: Content = self._store.files.measure(upload.file_id)
        try:
            upload.expected.check(content)
            expected.check(content)
            with self._store.index.transaction() as tx:
                stored = self._store.place(tx, upload.target, content, upload.properties)
                marked = tx.execute(
                    "UPDATE resumable_uploads SET generation = ? WHERE upload_id = ?",
                    stored.generation,
                    upload_id,
                )
                if marked.rowcount == 0:  # cancelled while the last bytes came
                    raise Refused(Refusal.NO_SUCH_UPLOAD)
        except Refused:
            with self._store.index.transaction() as tx:
                self._forget(tx, upload_id, upload)
            raise
        return stored

    def _finished(self, upload: ResumableUpload) -> StoredObject:
        made = replace(upload.target, generation=upload.generation, conditions=Conditions())
        return self._store.get(made)

    def _forget(self, tx: Transaction, upload_id: str, upload: ResumableUpload) -> None:
        tx.execute("DELETE FROM resumable_uploads WHERE upload_id = ?", upload_id)
        if upload.generation is None:
            tx.discard(upload.file_id)

    def _forget_expired(self) -> None:
        oldest_us = self._store.now_us() - LIFETIME_US
        with self._store.index.transaction() as tx:
            expired = "FROM resumable_uploads WHERE started_us < ?"
            unfinished = f"SELECT file_id {expired} AND generation IS NULL"
            for row in tx.execute(unfinished, oldest_us).fetchall():
                tx.discard(row["file_id"])
            tx.execute(f"DELETE {expired}", oldest_us)


def _kept(size_bytes: int) -> int:
    return size_bytes - size_bytes % QUANTUM_BYTES


def _without_first(skipped_bytes: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield block[skipped_bytes:]
        skipped_bytes = max(0, skipped_bytes - len(block))


def _write(file: BinaryIO, blocks: Iterable[bytes], expected: Expected) -> None:
    for block in blocks:
        write_all(file, block)
        expected.check_size(file.tell())
