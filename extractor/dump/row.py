"""An entry and its outcome -> a row of a dump."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from blake3 import blake3

from extractor.outcome import Embedding, Outcome
from extractor.sources.entry import Entry

LISTED_S = 1.0  # rows that were listed within it have one time, that of the first


@dataclass(slots=True, eq=False)
class Row:
    """One row; what was read for it is let go of.

    Parameters
    ----------
    key : str
    label : str, optional
    columns : tuple
        What is carried along, in the order of the source's columns.
    mark : bytes
        See `mark_of`.
    listed_at : float
        When its entry was listed, before it was read (Unix time).
    embedding : ndarray of shape (dim,), float32, optional
    error : str, optional
    outcome : Outcome, optional
        What the two are of, until the row is handed on.
    """

    key: str
    label: str | None = None
    columns: tuple[Any, ...] = ()
    mark: bytes = b""
    listed_at: float = 0.0
    embedding: Embedding | None = None
    error: str | None = None
    outcome: Outcome | None = None


def row_of(entry: Entry, listed_at: float, *, numbered: bool) -> Row:
    """Return the row of an entry, whose outcome is not known yet."""
    return Row(entry.key, entry.label, entry.columns, mark_of(entry) if numbered else b"", listed_at)


def mark_of(entry: Entry) -> bytes:
    """Return 8 bytes that tell what stands in a row of a numbered source: its label and text, or its number of bytes.

    A number says nothing of the row, so this is what tells whether a table is the one that was dumped. Images are not
    read for it.
    """
    content = entry.content
    said = content if isinstance(content, str) else len(content) if isinstance(content, bytes) else ""
    return blake3(f"{entry.key}\0{entry.label}\0{said}".encode(errors="surrogatepass")).digest(8)


def listed_of(times: Iterable[float]) -> list[list[float]]:
    """Return when rows were listed, as numbers of rows and times; a time is that of its first row, to the ms below."""
    runs: list[list[float]] = []
    for time in times:
        if runs and 0 <= time - runs[-1][1] <= LISTED_S:
            runs[-1][0] += 1
        else:
            runs.append([1, math.floor(time * 1000) / 1000])
    return runs


def times_of(listed: Iterable[Sequence[float]]) -> Iterator[float]:
    """Yield the time of each row."""
    for n_rows, time in listed:
        yield from repeat(time, int(n_rows))


def digest_of(marks: Iterable[bytes]) -> str:
    """Return the digest of the rows of a shard; empty where they have no marks."""
    joined = b"".join(marks)
    return blake3(joined).hexdigest(16) if joined else ""
