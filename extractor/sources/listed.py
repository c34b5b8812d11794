"""A list on stdin, a path a line -> an entry a line, whose key is the line."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from extractor.sources.columns import file_of
from extractor.sources.entry import Entry, once_each, printable
from extractor.sources.places import Local

_BLOCK = 1 << 16


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


def lines_of(descriptor: int) -> Iterator[str]:
    """Yield the lines of a file that is open, as they come.

    Not by Python's own file: who waits in one holds its lock, and a program that is told to stop could not end.
    """
    rest = b""
    while block := os.read(descriptor, _BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        yield from map(os.fsdecode, lines)
    yield os.fsdecode(rest)
