"""Entries of a source, and the dump that there is of it -> the entries that are not in it yet."""

from collections.abc import Container, Iterable, Iterator
from itertools import chain, islice

from blake3 import blake3

from extractor.dump.counts import Counts
from extractor.dump.folder import DumpFolder
from extractor.dump.manifest import Shard
from extractor.dump.row import digest_of, mark_of
from extractor.errors import DumpRefused
from extractor.sources.entry import Entry
from extractor.sources.places import LocalFile

CLOCK_S = 0.01  # by which a file's time of change may be behind the clock


def not_yet_dumped(entries: Iterable[Entry], folder: DumpFolder, counts: Counts, *, numbered: bool) -> Iterator[Entry]:
    """Leave out what is committed.

    As long as source and dump have the same keys, one is held beside the other. From the first difference on, the keys
    that the dump still has are remembered (about 150 MB a million), and what is not among them is yielded.

    Parameters
    ----------
    entries : iterable of Entry
    folder : DumpFolder
    counts : Counts
        Is told of what is left out, of what of that has changed since, and of what the source has no longer.
    numbered : bool
        Keys are row numbers: of each shard, the rows are compared as far as they tell without being read.

    Raises
    ------
    DumpRefused
        A numbered source is not the one that was dumped.
    DumpSpoilt
    """
    stream = iter(entries)
    return _after_rows(stream, folder, counts) if numbered else _after_keys(stream, folder, counts)


def rows_by_shard(
    stream: Iterator[Entry], folder: DumpFolder, *, keep: Container[str] = ()
) -> Iterator[tuple[int, list[Entry]]]:
    """Read of a numbered source the rows of each shard, and compare them; yield how many there are, and those to keep.

    Raises
    ------
    DumpRefused
        They are not the ones that were dumped.
    """
    for shard in folder.manifest.shards:
        marks, kept = [], []
        for entry in islice(stream, shard.rows):
            marks.append(mark_of(entry))
            if entry.key in keep:
                kept.append(entry)
        if marks and digest_of(marks) != shard.digest:  # or it ends within them, and any may be gone
            raise DumpRefused(
                f"the source is not what {folder.path} has as {_rows_of(shard)}: it was changed within; dump it to "
                "another folder"
            )
        yield len(marks), kept


def _rows_of(shard: Shard) -> str:
    last = shard.start + shard.rows - 1
    return f"row {last:,}" if shard.rows == 1 else f"rows {shard.start:,} to {last:,}"


def _after_rows(stream: Iterator[Entry], folder: DumpFolder, counts: Counts) -> Iterator[Entry]:
    for n_rows, _ in rows_by_shard(stream, folder):
        counts.skipped += n_rows
    counts.vanished = folder.manifest.rows - counts.skipped
    yield from stream


def _after_keys(stream: Iterator[Entry], folder: DumpFolder, counts: Counts) -> Iterator[Entry]:
    keys = folder.keys()
    for key, listed_at in keys:
        entry = next(stream, None)
        if entry is None or entry.key != key:
            left = {_short(one): time for one, time in chain([(key, listed_at)], keys)}
            yield from _others(stream if entry is None else chain([entry], stream), left, counts)
            return
        _skip(entry, listed_at, counts)
    yield from stream


def _others(entries: Iterator[Entry], left: dict[bytes, float], counts: Counts) -> Iterator[Entry]:
    for entry in entries:
        listed_at = left.pop(_short(entry.key), None)
        if listed_at is None:
            yield entry
        else:
            _skip(entry, listed_at, counts)
    counts.vanished = len(left)


def _skip(entry: Entry, listed_at: float, counts: Counts) -> None:
    counts.skipped += 1
    if isinstance(entry.content, LocalFile) and entry.content.changed_at() > listed_at - CLOCK_S:
        counts.changed += 1
        counts.first_changed = counts.first_changed or entry.key


def _short(key: str) -> bytes:
    return blake3(key.encode()).digest(16)
