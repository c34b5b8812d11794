"""Rows, in order -> shards, by a thread of its own: one at least every few seconds, none of too many rows or bytes."""

import time
from collections.abc import Sequence
from queue import Empty, Queue
from threading import Thread

from extractor.dump.counts import Counts
from extractor.dump.folder import DumpFolder
from extractor.dump.row import Row
from extractor.sources.entry import held

COMMIT_S = 4.0  # from a shard's first row until its commit begins: what a kill may cost
MAX_ROWS = 16_384
MAX_BYTES = 32 << 20  # of embeddings and what is carried along, about
HANDED_OVER = 64  # lists of rows that wait for the writer


class Writer:
    """Commits rows.

    Parameters
    ----------
    folder : DumpFolder
    columns : sequence of str
        Names of the rows' own columns.
    counts : Counts
        Is told of what is committed.
    commit_s : float, optional
    max_rows : int, optional
    """

    def __init__(
        self,
        folder: DumpFolder,
        columns: Sequence[str],
        counts: Counts,
        *,
        commit_s: float = COMMIT_S,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._folder = folder
        self._columns = columns
        self._counts = counts
        self._commit_s = commit_s
        self._max_rows = max_rows
        self._handed: Queue[list[Row] | None] = Queue(HANDED_OVER)
        self._error: Exception | None = None
        self._closing = False  # nothing more will be handed over
        self._thread = Thread(target=self._run, name="dump-write", daemon=True)
        self._thread.start()

    def put(self, rows: list[Row]) -> None:
        """Hand over the next rows; waits while the disk is behind, and raises what the writer met."""
        if self._error is not None:
            raise self._error
        self._handed.put(rows)

    def close(self) -> None:
        """Commit what was handed over; raises what the writer met."""
        self._handed.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:  # for whoever hands over, who must not wait for ever
            self._error = error
            while not self._closing:
                self._closing = self._handed.get() is None

    def _write(self) -> None:
        rows: list[Row] = []
        n_bytes, due = 0, 0.0
        while (more := self._next(due if rows else None)) is not None:
            if more and not rows:
                due = time.monotonic() + self._commit_s
            rows.extend(more)
            n_bytes += sum(map(_size, more))
            if rows and (time.monotonic() >= due or len(rows) >= self._max_rows or n_bytes >= MAX_BYTES):
                self._commit(rows)
                rows, n_bytes = [], 0
        if rows:
            self._commit(rows)

    def _next(self, due: float | None) -> list[Row] | None:
        """Return the next rows; none when the time has come."""
        try:
            rows = self._handed.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except Empty:
            return []
        self._closing = rows is None
        return rows

    def _commit(self, rows: list[Row]) -> None:
        begun, n_failed = time.monotonic(), sum(row.error is not None for row in rows)
        written = self._folder.commit(rows, self._columns)
        self._counts.write_s += time.monotonic() - begun
        self._counts.overflowed += written.errors - n_failed
        self._counts.committed += written.rows
        self._counts.shards += 1
        self._counts.written_bytes += written.bytes


def _size(row: Row) -> int:
    return held(row.columns) + (0 if row.embedding is None else row.embedding.nbytes)
