"""Parquet or Arrow files, one or a folder of them as Hugging Face `datasets` keeps them -> an entry a row.

The item is bytes, an image as `datasets` stores it (a struct of bytes and path), a text, or a path. Other columns are
carried along with their types; classes that `datasets` knows by number become labels by name. Files are read in the
order of their names, by batches of rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from extractor.errors import EmptyItem, SourceInvalid
from extractor.sources.columns import PLAIN, Layout, Options, entry_of, label_of
from extractor.sources.entry import Content, Entry, once_each
from extractor.sources.places import Place

PARQUET, ARROW = ".parquet", ".arrow"
BATCH_ROWS = 64  # read at once: rows may hold images
_UNREADABLE = (OSError, pa.ArrowException, ValueError)


class ColumnarSource:
    """The rows of one or several files of one schema.

    Parameters
    ----------
    place : Place
    files : sequence of str
        Paths in that folder.
    options : Options
    alone : bool
        The source is the one file, not the folder, to which others may come.

    Raises
    ------
    SourceInvalid
        There is no file, one cannot be read, or no column holds items.
    """

    def __init__(self, place: Place, files: Sequence[str], options: Options = PLAIN, *, alone: bool = False) -> None:
        if not files:
            raise SourceInvalid(f"{place} has no {PARQUET} or {ARROW} file; name a folder that has")
        self.place = place
        self.files = files
        self.options = options
        self._where = f"{place}/{files[0]}" if alone else str(place)
        with self._opened(files[0]) as (schema, _, _):
            self._schema = schema
        if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise SourceInvalid(f"{self._where} has several columns {', '.join(map(repr, twice))}; rename them")
        self._bytes = _bytes_column(schema, options)
        names = [name for name in schema.names if name != self._bytes]
        if self._bytes is None:
            self._layout = Layout.of(names, options, self._where)
        else:
            self._layout = Layout.of([*names, self._bytes], _with_item(options, self._bytes), self._where)
        types = {name: schema.field(name).type for name in schema.names}
        self.columns: Mapping[str, Any] = {to: types[name] for name, to in self._layout.carried.items()}
        self._classes = _class_names(schema, self._layout.label)

    @property
    def holds_bytes(self) -> bool:
        """Whether items are bytes, rather than texts or paths."""
        return self._bytes is not None

    @property
    def numbered(self) -> bool:
        """Rows are, but for those that name a path."""
        return self._bytes is not None or not self._layout.is_path

    def describe(self) -> dict[str, Any]:
        """Return what it is and where."""
        return {"kind": "columnar", "place": self._where, **self.options.describe()}

    def entries(self) -> Iterator[Entry]:
        """List the rows of all files."""
        entries = (self._entry(number, row) for number, row in enumerate(self._rows()))
        return entries if self.numbered else once_each(entries)

    def count(self) -> int | None:
        """Return how many rows there are."""
        total = 0
        for file in self.files:
            with self._opened(file) as (_, n_rows, _):
                if n_rows is None:
                    return None
                total += n_rows
        return total

    def _entry(self, number: int, row: dict[str, Any]) -> Entry:
        label = self._layout.label
        if label and isinstance(row[label], int) and 0 <= row[label] < len(self._classes):
            row = {**row, label: self._classes[row[label]]}
        if self._bytes is None:
            return entry_of(row, number, self._layout, self.options, self.place)
        carried = tuple(row.get(name) for name in self._layout.carried)
        content = self._content(row[self._bytes], number)
        return Entry(str(number), content, None if label is None else label_of(row[label]), carried)

    def _content(self, value: Any, number: int) -> Content:
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes")
            if value is None and path:  # `datasets` may leave a file where it is
                return self.place.file(path)
        if not value:
            return EmptyItem(f"row {number} has nothing in its column {self._bytes!r}")
        return bytes(value)

    def _rows(self) -> Iterator[dict[str, Any]]:
        wanted = [name for name in self._schema.names if name in self._wanted()]
        for file in self.files:
            with self._opened(file) as (schema, _, batches):
                if not set(wanted) <= set(schema.names):
                    lacking = sorted(set(wanted) - set(schema.names))
                    raise SourceInvalid(f"{self.place}/{file} lacks the columns {lacking}, which {self.files[0]} has")
                for batch in batches(wanted):
                    yield from batch.to_pylist()

    def _wanted(self) -> set[str]:
        return {self._layout.item, self._bytes or "", self._layout.label or "", *self._layout.carried}

    @contextmanager
    def _opened(self, file: str) -> Iterator[tuple[Any, int | None, Callable[[list[str]], Iterator[Any]]]]:
        """Give a file's schema, its number of rows where that is known, and a reader of its batches."""
        try:
            with self.place.open(file) as raw:
                yield _arrow(raw) if file.lower().endswith(ARROW) else _parquet(raw)
        except SourceInvalid:
            raise
        except _UNREADABLE as error:
            raise SourceInvalid(f"{self.place}/{file} cannot be read ({error}); write it again") from None


def _parquet(raw: IO[bytes]) -> tuple[Any, int, Callable[[list[str]], Iterator[Any]]]:
    file = pq.ParquetFile(raw)
    return file.schema_arrow, file.metadata.num_rows, lambda names: file.iter_batches(BATCH_ROWS, columns=names)


def _arrow(raw: IO[bytes]) -> tuple[Any, None, Callable[[list[str]], Iterator[Any]]]:
    reader = pa.ipc.open_stream(raw)
    slices = (batch.slice(start, BATCH_ROWS) for batch in reader for start in range(0, batch.num_rows, BATCH_ROWS))
    return reader.schema, None, lambda names: (batch.select(names) for batch in slices)


def _bytes_column(schema: Any, options: Options) -> str | None:
    """Return the column that holds bytes: the one that was named, or the only one there is."""
    holding = [field.name for field in schema if _holds_bytes(field.type)]
    if options.path is not None:
        return None
    if options.item is not None:
        return options.item if options.item in holding else None
    return holding[0] if len(holding) == 1 else None


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _with_item(options: Options, item: str) -> Options:
    return Options(item=item, label=options.label, urls=options.urls)


def _class_names(schema: Any, label: str | None) -> list[str]:
    """Return the names of the classes, as `datasets` writes them into a schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[label].get("names") or [])
    except (KeyError, ValueError, TypeError, AttributeError):
        return []
