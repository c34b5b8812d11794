"""Entries of a source, and the dump that there is of it -> the entries that are not in it yet."""

from collections.abc import Container, Iterable, Iterator
from itertools import chain, islice

from blake3 import blake3

from extractor.dump.counts import Counts
from extractor.dump.folder import DumpFolder
from extractor.dump.row import digest_of, mark_of
from extractor.errors import DumpRefused
from extractor.sources.entry import Entry


def not_yet_dumped(entries: Iterable[Entry], folder: DumpFolder, counts: Counts, *, numbered: bool) -> Iterator[Entry]:
    """Leave out what is committed.

    As long as source and dump have the same keys, one is held beside the other. From the first difference on, the keys
    that the dump still has are remembered (about 100 MB a million), and what is not among them is yielded.

    Parameters
    ----------
    entries : iterable of Entry
    folder : DumpFolder
    counts : Counts
        Is told of what is left out, and of what the source has no longer.
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
        if len(marks) == shard.rows and digest_of(marks) != shard.digest:
            raise DumpRefused(
                f"rows {shard.start:,} to {shard.start + shard.rows - 1:,} of the source are not those in "
                f"{folder.path}: it was changed within; dump it to another folder"
            )
        yield len(marks), kept


def _after_rows(stream: Iterator[Entry], folder: DumpFolder, counts: Counts) -> Iterator[Entry]:
    for n_rows, _ in rows_by_shard(stream, folder):
        counts.skipped += n_rows
    counts.vanished = folder.manifest.rows - counts.skipped
    yield from stream


def _after_keys(stream: Iterator[Entry], folder: DumpFolder, counts: Counts) -> Iterator[Entry]:
    keys = folder.keys()
    for key in keys:
        entry = next(stream, None)
        if entry is None or entry.key != key:
            left = {_short(key), *map(_short, keys)}
            yield from _others(stream if entry is None else chain([entry], stream), left, counts)
            return
        counts.skipped += 1
    yield from stream


def _others(entries: Iterator[Entry], left: set[bytes], counts: Counts) -> Iterator[Entry]:
    for entry in entries:
        short = _short(entry.key)
        if short in left:
            left.remove(short)
            counts.skipped += 1
        else:
            yield entry
    counts.vanished = len(left)


def _short(key: str) -> bytes:
    return blake3(key.encode()).digest(16)
