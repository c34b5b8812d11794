"""Entries -> the same with what was read of them, in order, read ahead by threads within a bound of items and bytes."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from extractor.dump.counts import Counts
from extractor.dump.verb import Readable
from extractor.errors import ItemError
from extractor.items import as_bytes
from extractor.sources.entry import Content, Entry

THREADS = 4  # for disks and networks to wait in; reading itself costs next to nothing
RUN_ITEMS = 32  # read by one thread at a time
RUN_BYTES = 4 << 20  # whatever it has read then is handed on; the rest of its run is read next
RUN_S = 0.5  # and then
RUNS_AHEAD = 8


class _Run(NamedTuple):
    """What was read of a run, its bytes, and the seconds that it took."""

    found: list[Readable]
    n_bytes: int
    seconds: float


def read_ahead(
    entries: Iterable[Entry], *, max_bytes: int, counts: Counts, threads: int = THREADS
) -> Iterator[tuple[Entry, Readable]]:
    """Read entries.

    Parameters
    ----------
    entries : iterable of Entry
    max_bytes : int
        Of one item; what is larger is not read.
    counts : Counts
        Is told of bytes and time.
    threads : int, optional

    Yields
    ------
    Entry, bytes or ItemError
    """
    listed = _Listed(entries)
    ahead: deque[tuple[list[Entry], Future[_Run]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="dump-read") as pool:
        try:
            while True:
                while len(ahead) < RUNS_AHEAD and (run := listed.run()):
                    ahead.append((run, pool.submit(_read_run, run, max_bytes)))
                    if listed.slow:  # what is there is not to wait for what is not
                        break
                if not ahead:
                    break
                run, future = ahead.popleft()
                found, n_bytes, seconds = future.result()
                counts.read_bytes += n_bytes
                counts.read_s += seconds
                if rest := run[len(found) :]:
                    ahead.appendleft((rest, pool.submit(_read_run, rest, max_bytes)))
                yield from zip(run, found, strict=False)
                del run, future, found
        finally:
            for _, future in ahead:
                future.cancel()
    if listed.error is not None:
        raise listed.error


class _Listed:
    """A source as runs of entries; where listing fails, `error` is raised after what came before it.

    A run ends when it has taken long, as of paths that somebody types or a remote place that lists by pages: `slow`.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._stream = iter(entries)
        self.error: Exception | None = None
        self.slow = False

    def run(self) -> list[Entry]:
        """Return the next run; empty at the end."""
        run: list[Entry] = []
        due = time.monotonic() + RUN_S
        try:
            for entry in islice(self._stream if self.error is None else (), RUN_ITEMS):
                run.append(entry)  # what came before an error is kept
                if time.monotonic() >= due:
                    break
        except Exception as error:
            self.error = error
        self.slow = time.monotonic() >= due
        return run


def _read_run(run: list[Entry], max_bytes: int) -> _Run:
    """Read entries until they are many bytes, or took long; at least one."""
    begun = time.monotonic()
    found: list[Readable] = []
    n_bytes = 0
    for entry in run:
        one = _read(entry.content, max_bytes)
        found.append(one)
        n_bytes += 0 if isinstance(one, ItemError) else len(one)
        if n_bytes >= RUN_BYTES or time.monotonic() >= begun + RUN_S:
            break
    return _Run(found, n_bytes, time.monotonic() - begun)


def _read(content: Content, max_bytes: int) -> Readable:
    if isinstance(content, ItemError):
        return content
    try:
        return as_bytes(content, max_bytes=max_bytes) if isinstance(content, bytes | str) else content.read(max_bytes)
    except ItemError as error:
        return error
