"""Entries -> the same with what was read of them, in order, read ahead by threads within a bound of items and bytes."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

from extractor.dump.counts import Counts
from extractor.dump.gather import Runs
from extractor.dump.verb import Readable
from extractor.errors import ItemError
from extractor.sources.entry import Content, Entry, bytes_of, held

THREADS = 4  # for disks and networks to wait in; reading itself costs next to nothing
LIST_S = 0.25  # what a slow source listed is read by then
RUN_ITEMS = 32  # read by one thread at a time; fewer where that would take long, so that all threads read
RUN_BYTES = 4 << 20  # listed with so many, or read, it is handed on; the rest of its run is read next
RUN_S = 0.5  # or read for so long
RUNS_AHEAD = 8
TINY_S = 1e-6


class _Read(NamedTuple):
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
    runs = Runs(entries, max_items=1, max_bytes=RUN_BYTES, max_s=LIST_S, size=_held)
    ahead: deque[tuple[list[Entry], Future[_Read]]] = deque()
    with closing(runs) as listed, ThreadPoolExecutor(threads, thread_name_prefix="dump-read") as pool:

        def begun(run: list[Entry]) -> tuple[list[Entry], Future[_Read]]:
            future = pool.submit(_read_run, run, max_bytes)
            future.add_done_callback(listed.look)
            return run, future

        try:
            while True:
                while len(ahead) < RUNS_AHEAD and (run := listed.take(unless=ahead[0][1].done if ahead else bool)):
                    ahead.append(begun(run))
                if not ahead:
                    listed.check()
                    return
                run, future = ahead.popleft()
                found, n_bytes, seconds = future.result()
                counts.read_bytes += n_bytes
                counts.read_s += seconds
                listed.max_items = min(RUN_ITEMS, RUN_S / 2 * len(found) / max(seconds, TINY_S))
                if rest := run[len(found) :]:
                    ahead.appendleft(begun(rest))
                yield from zip(run, found, strict=False)
                del run, future, found
        finally:
            for _, future in ahead:
                future.cancel()


def _held(entry: Entry) -> int:
    return held(entry.content) + held(entry.columns)


def _read_run(run: list[Entry], max_bytes: int) -> _Read:
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
    return _Read(found, n_bytes, time.monotonic() - begun)


def _read(content: Content, max_bytes: int) -> Readable:
    if isinstance(content, ItemError):
        return content
    try:
        return bytes_of(content, max_bytes)
    except ItemError as error:
        return error
