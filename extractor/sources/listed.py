"""A list on stdin, a path a line -> an entry a line, whose key is the line."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from extractor.sources.columns import file_of
from extractor.sources.entry import Entry, once_each, printable
from extractor.sources.places import Local


class ListSource:
    """The files that a list names.

    Parameters
    ----------
    lines : iterable of str
        Read once, as it comes; empty lines are left out.
    folder : Local
        Where relative paths start.
    urls : bool
        Lines may be URLs.
    """

    numbered = False

    def __init__(self, lines: Iterable[str], folder: Local, *, urls: bool = False) -> None:
        self._lines = lines
        self._folder = folder
        self._urls = urls
        self.columns: Mapping[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """Return what it is."""
        return {"kind": "list", "place": "-"}

    def entries(self) -> Iterator[Entry]:
        """List the lines."""
        names = (line.rstrip("\r\n") for line in self._lines)
        return once_each(
            Entry(printable(name), file_of(name, self._folder, urls=self._urls)) for name in names if name.strip()
        )

    def count(self) -> None:
        """Return None: only reading tells."""
