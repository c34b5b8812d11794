"""A CSV or JSONL file -> an entry a row: a text, or a path that starts at the table's folder.

Everything else that a row has is carried along as text: a column of numbers here and words there has one type.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from extractor.errors import SourceInvalid, UnreadableItem
from extractor.sources.columns import PLAIN, Layout, Options, as_text, entry_of
from extractor.sources.entry import Entry, once_each
from extractor.sources.lines import Row, beyond_in, header_of, is_csv, rows_of, text_of
from extractor.sources.places import Place, stamp_of

PEEKED = 1000  # rows of a JSONL file, whose columns are those of the file
_BLOCK = 1 << 20


class TableSource:
    """The rows of a table.

    Parameters
    ----------
    place : Place
        The table's folder.
    name : str
    options : Options

    Raises
    ------
    SourceInvalid
        It cannot be read, or none of its columns holds items.
    """

    def __init__(self, place: Place, name: str, options: Options = PLAIN) -> None:
        self.place = place
        self.name = name
        self.options = options
        self._layout = Layout.of(self._names(), options, self._where)
        self.columns: Mapping[str, Any] = dict.fromkeys(self._layout.carried.values(), pa.string())

    @property
    def numbered(self) -> bool:
        """Texts are; paths have names."""
        return not self._layout.is_path

    @property
    def _where(self) -> str:
        return f"{self.place}/{self.name}"

    def describe(self) -> dict[str, Any]:
        """Return what it is and where."""
        return {"kind": "table", "place": self._where, **self.options.describe()}

    def entries(self) -> Iterator[Entry]:
        """List the rows."""
        entries = (self._entry(number, row) for number, row in enumerate(self._rows()))
        return once_each(entries) if self._layout.is_path else entries

    def count(self) -> int | None:
        """Return how many lines there are, about; what is far away is read once only."""
        if self.place.local_path(self.name) is None:
            return None
        with self.place.open(self.name) as file:
            n_lines = sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
        return max(0, n_lines - is_csv(self.name))

    def _entry(self, number: int, row: Row) -> Entry:
        wrong = beyond_in(row)
        texts = {name: value if self._is_as_it_is(name, value) else as_text(value) for name, value in row.items()}
        entry = entry_of(texts, number, self._layout, self.options, self.place)
        return entry if wrong is None else entry._replace(content=UnreadableItem(f"row {number} {wrong}"))

    def _is_as_it_is(self, name: str, value: Any) -> bool:
        """Tell what stays as it is: a label, and an item that is a text, whose own error tells of half a character."""
        return name == self._layout.label or (name == self._layout.item and isinstance(value, str))

    def _names(self) -> list[str]:
        if is_csv(self.name):
            with self._opened() as file:
                return header_of(file, self._where)
        return list(dict.fromkeys(chain.from_iterable(islice(self._rows(), PEEKED))))

    def _rows(self) -> Iterator[Row]:
        with self._opened() as file:
            descriptor = None if self.place.local_path(self.name) is None else file.fileno()
            yield from _whole((row for _, row in rows_of(file, self._where)), descriptor, self._where)

    @contextmanager
    def _opened(self) -> Iterator[io.TextIOWrapper]:
        try:
            with text_of(self.place.open(self.name), self._where) as file:
                yield file
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SourceInvalid(f"{self._where} cannot be read: {why}; name a table that is there") from None


def _whole(rows: Iterator[Row], descriptor: int | None, where: str) -> Iterator[Row]:
    """Yield rows, the last one only where nobody has written to the file meanwhile: it might be half of one."""
    before = descriptor and stamp_of(descriptor)
    broken: SourceInvalid | None = None
    last: list[Row] = []
    try:
        for row in rows:
            yield from last
            last = [row]
    except SourceInvalid as error:  # of the row that follows the last
        broken = error
    if before != (descriptor and stamp_of(descriptor)):
        raise SourceInvalid(f"{where} was changed while it was read; run it again for what is in it now")
    yield from last
    if broken is not None:
        raise broken
