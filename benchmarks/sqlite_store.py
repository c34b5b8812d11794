"""The peer of the disk tier: SQLite, the way a trial found it fastest, behind the same writer and with the same rows.

A table with a rowid and an index on the key, write-ahead log, memory-mapped, a connection a thread, one commit a bulk.
It keeps no order of age and evicts nothing, which is to its advantage.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extractor.cache import CacheFacts, Entry, row
from extractor.outcome import Embedded

MAP_BYTES = 16 << 30
WAIT_S = 60.0


class SqliteStore:
    """Keeps embeddings in a SQLite file; as much of `extractor.cache.store.Store` as is measured.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        with self._connection() as connection:
            connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)")

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, value FROM rows WHERE key IN ({marks})"  # noqa: S608  # of question marks
        found = {key: row.decode(key, raw) for key, raw in self._connection().execute(query, keys)}
        return [found.get(key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> int:
        """Store entries in one commit."""
        rows = [(key, row.encode(key, entry)) for key, entry in entries]
        with self._connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO rows (key, value) VALUES (?, ?)", rows)
        return len(rows)

    def facts(self) -> CacheFacts:
        """Say what it is."""
        return CacheFacts("sqlite")

    def close(self) -> None:
        """Leave the connections to their threads."""

    def _connection(self) -> sqlite3.Connection:
        found: Any = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = sqlite3.connect(self._path, timeout=WAIT_S)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = NORMAL")
            found.execute(f"PRAGMA mmap_size = {MAP_BYTES}")
        return found
