"""Durable records: JSON documents by kind and id in one SQLite file.

They survive kill -9 of the process (not a power cut: nothing is synced to the disk).
"""

import json
import sqlite3
from pathlib import Path
from typing import Any


class Records:
    """Documents put or dropped since the last `flush` are written by the next one, together."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, id TEXT, document TEXT,"
            " PRIMARY KEY (kind, id)) WITHOUT ROWID"
        )
        self._put: dict[tuple[str, str], dict[str, Any]] = {}
        self._dropped: set[tuple[str, str]] = set()

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return every document of `kind` by its id."""
        rows = self._connection.execute("SELECT id, document FROM records WHERE kind = ?", (kind,))
        return {id_: json.loads(document) for id_, document in rows}

    def put(self, kind: str, id_: str, document: dict[str, Any]) -> None:
        """Write `document` at the next flush, as it is then."""
        self._dropped.discard((kind, id_))
        self._put[kind, id_] = document

    def drop(self, kind: str, id_: str) -> None:
        """Remove the document at the next flush."""
        self._put.pop((kind, id_), None)
        self._dropped.add((kind, id_))

    def flush(self) -> None:
        """Write what has changed, in one transaction."""
        if not self._put and not self._dropped:
            return
        rows = [(*key, json.dumps(document)) for key, document in self._put.items()]
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
        self._connection.executemany(
            "DELETE FROM records WHERE kind = ? AND id = ?", list(self._dropped)
        )
        self._connection.execute("COMMIT")
        self._put.clear()
        self._dropped.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._put.clear()
        self._dropped.clear()
        self._connection.execute("DELETE FROM records")

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._connection.close()
