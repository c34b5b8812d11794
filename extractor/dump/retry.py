"""A dump with errors, and its source -> the same with those items asked for again, in shards that supersede theirs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from extractor.dump import shard as shards
from extractor.dump.counts import Counts
from extractor.dump.flow import Flow, Told
from extractor.dump.folder import DumpFolder
from extractor.dump.manifest import Shard
from extractor.dump.resume import rows_by_shard
from extractor.dump.row import Row, listed_of, times_of
from extractor.dump.run import as_source, as_verb, counts_of, opened
from extractor.dump.verb import StreamingVerb
from extractor.pipeline import Extractor
from extractor.sources import Entry, Source


def retry_errors(
    source: Source | str | Path,
    out: str | Path,
    extractor: Extractor | StreamingVerb,
    *,
    moved: bool = False,
    stop: Event | None = None,
    told: Told = bool,
) -> Counts:
    """Ask again for the items of a dump that have an error; the shards that they are in are superseded.

    Parameters
    ----------
    source, out, extractor, moved, stop, told
        As for `dump`.

    Returns
    -------
    Counts
        `done` items were asked for again, `errors` of them failed again, and `vanished` are in the source no longer.

    Raises
    ------
    SourceInvalid, DumpRefused, DumpNotWritten, DumpSpoilt, ExtractorError
        As by `dump`.
    """
    verb = as_verb(extractor)
    items = as_source(source, verb)
    counts = counts_of(verb)
    with opened(items, Path(out), verb, dtype=None, moved=moved) as folder:
        repairs = Repairs(folder, list(items.columns), counts)
        counts.total = len(repairs.wanted)
        if repairs.wanted:
            entries = _wanted(items, folder, repairs.wanted)
            try:
                reached_end = Flow(entries, verb, repairs, counts, numbered=items.numbered).run(stop or Event(), told)
            finally:
                repairs.close()
            counts.vanished = len(repairs.wanted) if reached_end else 0
    return counts


class Repairs:
    """Takes rows that were asked for again, and supersedes each shard when all of its own are there.

    Parameters
    ----------
    folder : DumpFolder
    columns : sequence of str
        Names of the rows' own columns.
    counts : Counts
    """

    def __init__(self, folder: DumpFolder, columns: Sequence[str], counts: Counts) -> None:
        self._folder = folder
        self._columns = columns
        self._counts = counts
        self._shards = {one.number: one for one in folder.manifest.shards if one.errors}
        self._found: dict[int, dict[int, Row]] = {number: {} for number in self._shards}
        self.wanted: dict[str, tuple[int, int]] = {}  # key -> number of the shard, place in it
        for shard in self._shards.values():
            self.wanted.update((key, (shard.number, place)) for place, key in _failed(folder.path / shard.file))

    def put(self, rows: list[Row]) -> None:
        """Take rows."""
        for row in rows:
            number, place = self.wanted.pop(row.key)
            self._found[number][place] = row
            if len(self._found[number]) == self._shards[number].errors:
                self._supersede(number)

    def close(self) -> None:
        """Supersede the shards of which not all came."""
        for number in list(self._found):
            self._supersede(number)

    def _supersede(self, number: int) -> None:
        shard, rows = self._shards[number], self._found.pop(number)
        n_good = sum(row.error is None for row in rows.values())
        again = shards.table_of(list(rows.values()), self._folder.schema, self._columns)
        n_mended = sum(row.error is None for row in rows.values())
        self._counts.overflowed += n_good - n_mended  # what the type of numbers cannot hold is an error by now
        if not n_mended:
            return
        table = self._table(shard, list(rows), again)
        times = dict(enumerate(times_of(shard.listed))) | {place: row.listed_at for place, row in rows.items()}
        n_failed = table.num_rows - table.column(shards.ERROR).null_count
        written = self._folder.supersede(shard, table, n_failed, listed_of(times.values()))
        self._counts.committed += n_mended
        self._counts.shards += 1
        self._counts.written_bytes += written.bytes

    def _table(self, shard: Shard, places: list[int], again: pa.Table) -> pa.Table:
        """Return a shard's rows, those in some places taken from another table."""
        path = self._folder.path / shard.file
        try:
            former = pq.read_table(path).replace_schema_metadata(self._folder.schema.metadata)
        except shards.UNREADABLE as error:
            raise shards.spoilt(path, error) from None
        taken = np.arange(former.num_rows)
        taken[places] = former.num_rows + np.arange(len(places))
        return pa.concat_tables([former, again]).take(pa.array(taken)).combine_chunks()


def _failed(path: Path) -> Iterator[tuple[int, str]]:
    """Yield places and keys of the rows of a shard that have an error."""
    start = 0
    for batch in shards.batches(path, [shards.KEY, shards.ERROR]):
        has_error = batch.column(1).is_valid().to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(has_error).tolist():
            yield start + place, batch.column(0)[place].as_py()
        start += batch.num_rows


def _wanted(source: Source, folder: DumpFolder, wanted: Iterable[str]) -> Iterator[Entry]:
    keys = frozenset(wanted)
    if not source.numbered:
        return (entry for entry in source.entries() if entry.key in keys)
    shards_rows = rows_by_shard(iter(source.entries()), folder, keep=keys)
    return (entry for _, kept in shards_rows for entry in kept)
