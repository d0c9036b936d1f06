"""The rules of buckets and objects, without HTTP.

An object appears whole or not at all: its file is complete before the index names it.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO

from emulators.storage.content import Content
from emulators.storage.errors import Refusal, Refused
from emulators.storage.index import Index, Transaction
from emulators.storage.objects import (
    UNCONDITIONAL,
    WRITABLE,
    Bucket,
    Conditions,
    Properties,
    StoredObject,
    bucket_of,
    merged,
    object_of,
    writable,
)

MAX_NAME_BYTES = 1024
MAX_COMPOSED = 32
UNNAMEABLE = re.compile("[\r\n\ud800-\udfff]")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def microseconds() -> int:
    """Return the time of day in microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One object as a client names it: generation None means the live one, whatever it is."""

    bucket: str
    name: str
    generation: int | None = None
    conditions: Conditions = UNCONDITIONAL


class Store:
    """Buckets and objects. Safe for many threads."""

    def __init__(self, index: Index, now_us: Callable[[], int] = microseconds) -> None:
        self.index = index
        self.files = index.files
        self.now_us = now_us
        with index.reading() as tx:
            row = tx.one("SELECT max(generation) AS newest FROM objects")
            self._newest = (row and row["newest"]) or 0

    # Buckets

    def create_bucket(self, name: str, properties: Properties) -> Bucket:
        """Make an empty bucket. Raises: Refused, when there is one of this name."""
        if not BUCKET_NAME.fullmatch(name):
            raise Refused(Refusal.INVALID_ARGUMENT, f"Invalid bucket name: '{name}'")
        now = self.now_us()
        bucket = Bucket(
            name=name, properties=properties, metageneration=1, created_us=now, updated_us=now
        )
        with self.index.transaction() as tx:
            if tx.one("SELECT 1 FROM buckets WHERE name = ?", name):
                raise Refused(Refusal.BUCKET_EXISTS)
            _save_bucket(tx, bucket)
        return bucket

    def bucket(self, name: str) -> Bucket:
        """Return one bucket. Raises: Refused, 404."""
        with self.index.reading() as tx:
            return _find_bucket(tx, name)

    def buckets(self, prefix: str = "") -> list[Bucket]:
        """Return the buckets whose names begin with `prefix`, by name."""
        with self.index.reading() as tx:
            rows = tx.execute("SELECT * FROM buckets ORDER BY name").fetchall()
        return [bucket_of(row) for row in rows if row["name"].startswith(prefix)]

    def patch_bucket(self, name: str, changes: Properties) -> Bucket:
        """Merge `changes` into a bucket's properties."""
        with self.index.transaction() as tx:
            bucket = _find_bucket(tx, name)
            bucket = replace(
                bucket,
                properties=merged(bucket.properties, changes),
                metageneration=bucket.metageneration + 1,
                updated_us=self.now_us(),
            )
            _save_bucket(tx, bucket)
        return bucket

    def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket. Raises: Refused, when it holds an object."""
        with self.index.transaction() as tx:
            _find_bucket(tx, name)
            if tx.one("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", name):
                raise Refused(Refusal.BUCKET_NOT_EMPTY)
            tx.execute("DELETE FROM buckets WHERE name = ?", name)

    # Objects

    def admit(self, target: Version) -> None:
        """Raises: Refused, where a `put` to `target` would be refused if it came now."""
        with self.index.reading() as tx:
            _admit(tx, target)

    def put(
        self,
        target: Version,
        content: Content,
        properties: Properties,
        components: int | None = None,
    ) -> StoredObject:
        """Make `content` the live object of this name, if the target's conditions hold."""
        with self.index.transaction() as tx:
            return self.place(tx, target, content, properties, components)

    def place(
        self,
        tx: Transaction,
        target: Version,
        content: Content,
        properties: Properties,
        components: int | None = None,
    ) -> StoredObject:
        """Do what `put` does, as a part of a larger transaction."""
        current = _admit(tx, target)
        self._newest = max(self._newest + 1, self.now_us())
        stored = StoredObject(
            bucket=target.bucket,
            name=target.name,
            generation=self._newest,
            metageneration=1,
            updated_us=self._newest,
            content=content,
            component_count=components,
            properties={"contentType": "application/octet-stream", **writable(properties)},
        )
        _save_object(tx, stored)
        if current is not None:
            tx.discard(current.content.file_id)
        return stored

    def get(self, version: Version) -> StoredObject:
        """Return one object. Raises: Refused, 404, 412 or 304."""
        with self.index.reading() as tx:
            return _read(tx, version)

    def open(self, version: Version) -> tuple[StoredObject, BinaryIO]:
        """Return one object and its bytes, which outlive a replacement. Raises: Refused."""
        with self.index.reading() as tx:
            stored = _read(tx, version)
            return stored, self.files.open(stored.content.file_id)

    def patch(self, version: Version, changes: Properties, *, whole: bool = False) -> StoredObject:
        """Merge `changes` into an object's metadata, or with `whole` put them in its place."""
        allowed = {key: value for key, value in changes.items() if key in WRITABLE}
        with self.index.transaction() as tx:
            stored = _writable_object(tx, version)
            stored = replace(
                stored,
                properties=merged({} if whole else stored.properties, allowed),
                metageneration=stored.metageneration + 1,
                updated_us=self.now_us(),
            )
            _save_object(tx, stored)
        return stored

    def delete(self, version: Version) -> None:
        """Remove one object. Raises: Refused, 404 or 412."""
        with self.index.transaction() as tx:
            stored = _writable_object(tx, version)
            tx.execute(
                "DELETE FROM objects WHERE bucket = ? AND name = ?", version.bucket, version.name
            )
            tx.discard(stored.content.file_id)

    def copy(self, source: Version, target: Version, properties: Properties) -> StoredObject:
        """Make `target` the same bytes as `source`; `properties` override its metadata."""
        with self.index.transaction() as tx:
            found = _writable_object(tx, source)
            with self.files.linked(found.content) as content:
                properties = {**found.properties, **writable(properties)}
                return self.place(tx, target, content, properties, found.component_count)

    def compose(
        self, sources: Sequence[Version], target: Version, properties: Properties
    ) -> StoredObject:
        """Make `target` the bytes of all `sources`, in order; it has no MD5."""
        if not 1 <= len(sources) <= MAX_COMPOSED:
            details = f"The number of source components must be 1 to {MAX_COMPOSED}."
            raise Refused(Refusal.INVALID_ARGUMENT, details)
        with ExitStack() as stack:
            with self.index.reading() as tx:
                found = [_writable_object(tx, source) for source in sources]
                files = [
                    stack.enter_context(self.files.open(part.content.file_id)) for part in found
                ]
            components = sum(part.component_count or 1 for part in found)
            with self.files.joined(files) as content:
                return self.put(target, content, properties, components)


def _check_name(name: str) -> None:
    """Raises: Refused, for a name that no object may have."""
    size = len(name.encode(errors="replace"))
    if not 1 <= size <= MAX_NAME_BYTES or name in (".", "..") or UNNAMEABLE.search(name):
        raise Refused(Refusal.INVALID_ARGUMENT, "Invalid object name")


def _admit(tx: Transaction, target: Version) -> StoredObject | None:
    """Return the object that `target` would replace. Raises: Refused."""
    _check_name(target.name)
    _find_bucket(tx, target.bucket)
    current = _find(tx, target.bucket, target.name)
    target.conditions.check(current)
    return current


def _find_bucket(tx: Transaction, name: str) -> Bucket:
    row = tx.one("SELECT * FROM buckets WHERE name = ?", name)
    if row is None:
        raise Refused(Refusal.NO_SUCH_BUCKET)
    return bucket_of(row)


def _find(tx: Transaction, bucket: str, name: str) -> StoredObject | None:
    row = tx.one("SELECT * FROM objects WHERE bucket = ? AND name = ?", bucket, name)
    return None if row is None else object_of(row)


def _read(tx: Transaction, version: Version, *, reading: bool = True) -> StoredObject:
    """Return what `version` names, when its conditions hold."""
    found = _find(tx, version.bucket, version.name)
    if found is None or version.generation not in (None, found.generation):
        _find_bucket(tx, version.bucket)
        details = f"No such object: {version.bucket}/{version.name}"
        raise Refused(Refusal.NO_SUCH_OBJECT, details)
    version.conditions.check(found, reading=reading)
    return found


def _writable_object(tx: Transaction, version: Version) -> StoredObject:
    return _read(tx, version, reading=False)


def _save_bucket(tx: Transaction, bucket: Bucket) -> None:
    tx.insert(
        "buckets",
        name=bucket.name,
        properties=json.dumps(bucket.properties),
        metageneration=bucket.metageneration,
        created_us=bucket.created_us,
        updated_us=bucket.updated_us,
    )


def _save_object(tx: Transaction, stored: StoredObject) -> None:
    tx.insert(
        "objects",
        bucket=stored.bucket,
        name=stored.name,
        generation=stored.generation,
        metageneration=stored.metageneration,
        updated_us=stored.updated_us,
        properties=json.dumps(stored.properties),
        component_count=stored.component_count,
        file_id=stored.content.file_id,
        size_bytes=stored.content.size_bytes,
        crc32c=stored.content.crc32c,
        md5=stored.content.md5,
    )
