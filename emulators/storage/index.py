"""The sqlite index: which buckets, objects and unfinished uploads exist, and their files.

Write-ahead logging without a sync per commit: a killed process loses nothing that it had answered,
a machine that loses power may lose the last moments.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulators.storage.content import ContentFiles

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, properties TEXT NOT NULL, metageneration INTEGER NOT NULL,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
    metageneration INTEGER NOT NULL, updated_us INTEGER NOT NULL, properties TEXT NOT NULL,
    component_count INTEGER, file_id TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    crc32c TEXT NOT NULL, md5 TEXT, PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resumable_uploads (
    upload_id TEXT PRIMARY KEY, bucket TEXT NOT NULL, name TEXT NOT NULL,
    properties TEXT NOT NULL, conditions TEXT NOT NULL, expected TEXT NOT NULL,
    file_id TEXT NOT NULL, generation INTEGER, started_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS multipart_uploads (
    upload_id TEXT PRIMARY KEY, bucket TEXT NOT NULL, name TEXT NOT NULL,
    properties TEXT NOT NULL, started_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    upload_id TEXT NOT NULL, number INTEGER NOT NULL, updated_us INTEGER NOT NULL,
    file_id TEXT NOT NULL, size_bytes INTEGER NOT NULL, crc32c TEXT NOT NULL, md5 TEXT NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;
"""
TABLES = ("buckets", "objects", "resumable_uploads", "multipart_uploads", "parts")
NAMED_FILES = """
SELECT file_id FROM objects UNION SELECT file_id FROM parts
UNION SELECT file_id FROM resumable_uploads WHERE generation IS NULL
"""


class InUse(Exception):
    """Another process keeps this data directory."""


class Transaction:
    """Statements that happen together, and the files that go when they have happened."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.discarded: list[str] = []

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run one statement; its rows are read by column name."""
        return self._connection.execute(statement, values)

    def one(self, statement: str, *values: object) -> sqlite3.Row | None:
        """Return the first row, if any."""
        row: sqlite3.Row | None = self.execute(statement, *values).fetchone()
        return row

    def insert(self, table: str, **columns: object) -> None:
        """Insert a row, or replace the one with its key."""
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        self._connection.execute(statement, tuple(columns.values()))

    def discard(self, file_id: str) -> None:
        """Remove a file once this transaction is committed."""
        self.discarded.append(file_id)


class Index:
    """The database of one data directory, for this process alone."""

    def __init__(self, root: Path) -> None:
        """Open the directory and clean up after a killed process. Raises: InUse."""
        root.mkdir(parents=True, exist_ok=True)
        self._guard = (root / "lock").open("w")
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._guard.close()
            raise InUse(f"{root} is in use by another process") from exc
        self.files = ContentFiles(root / "content")
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            root / "index.sqlite", isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(SCHEMA)
        self.files.sweep({row["file_id"] for row in self._connection.execute(NAMED_FILES)})

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Run a block of changes as one; they are undone if it raises."""
        with self._lock:
            transaction = Transaction(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield transaction
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        for file_id in transaction.discarded:
            self.files.remove(file_id)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Run a block that sees one state of everything; files it finds it may open."""
        with self._lock:
            yield Transaction(self._connection)

    def reset(self) -> None:
        """Forget everything. A body still on its way finds no bucket when it arrives."""
        with self.transaction() as tx:
            for row in tx.execute(NAMED_FILES).fetchall():
                tx.discard(row["file_id"])
            for table in TABLES:
                tx.execute(f"DELETE FROM {table}")

    def close(self) -> None:
        """Let another process open the directory; nothing of this one gets in any more."""
        self._lock.acquire()
        self._connection.close()
        self._guard.close()
