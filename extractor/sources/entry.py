"""What a source lists: an entry for each item, whose bytes are read later, by several threads."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from extractor.errors import ItemError
from extractor.items import as_bytes

NUMBER_BYTES = 8
_NESTED = (str, bytes, dict, list, tuple)
_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")


class Stored(Protocol):
    """Content that is somewhere else."""

    def read(self, max_bytes: int) -> bytes:
        """Return the bytes; raises ItemTooLarge, UnreadableItem. For any thread."""
        ...


Content = bytes | str | Stored | ItemError  # the last: it is clear already that there is none


class Entry(NamedTuple):
    """One item of a source.

    Parameters
    ----------
    key : str
        What it is called, once in a source.
    content : bytes, str, Stored or ItemError
    label : str, optional
    columns : tuple
        What is carried along, in the order of the source's `columns`.
    """

    key: str
    content: Content
    label: str | None = None
    columns: tuple[Any, ...] = ()


class Source(Protocol):
    """Lists items, in the same order each time, and in memory that does not grow with them."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Names and Arrow types of what is carried along."""
        ...

    @property
    def numbered(self) -> bool:
        """Whether keys are row numbers, which say nothing of what is in the row."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what it is and where, for JSON; `place` is the where."""
        ...

    def entries(self) -> Iterator[Entry]:
        """List the items; raises SourceInvalid."""
        ...

    def count(self) -> int | None:
        """Return about how many items there are; None where only listing them tells."""
        ...


def once_each(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Give each entry a key of its own: the second of one key is followed by `#2`, the third by `#3`.

    It is the place among its like that counts, so that what comes before them later leaves them as they are. Remembers
    64 bits a key (about 70 MB a million; twice that of keys that come again). Where two keys share them, the second is
    numbered without need, which harms nothing.
    """
    seen: set[int] = set()
    times: dict[int, int] = {}  # of the keys that came more than once
    for entry in entries:
        own = mark = _mark(entry.key)
        key = entry.key
        while mark in seen:
            times[own] = times.get(own, 1) + 1
            key = f"{entry.key}#{times[own]}"
            mark = _mark(key)
        seen.add(mark)
        yield entry if key == entry.key else entry._replace(key=key)


def _mark(key: str) -> int:
    from blake3 import blake3

    return int.from_bytes(blake3(key.encode()).digest(8))


def held(value: object) -> int:
    """Return about how many bytes a value takes: content that is here already, or what is carried along."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):  # as `datasets` keeps another image
        return sum(map(held, value.values()))
    if isinstance(value, list) and not (value and isinstance(value[0], _NESTED)):  # of numbers: one look suffices
        return NUMBER_BYTES * len(value)
    return sum(map(held, value)) if isinstance(value, list | tuple) else 0


def bytes_of(content: bytes | str | Stored, max_bytes: int) -> bytes:
    """Return the bytes of content, wherever they are; raises ItemTooLarge, UnreadableItem."""
    return as_bytes(content, max_bytes=max_bytes) if isinstance(content, bytes | str) else content.read(max_bytes)


def clean(text: str) -> str:
    """Return text that Parquet holds: JSON may have half of a surrogate pair, which UTF-8 has not."""
    return text.encode("utf-8", "replace").decode()


def printable(name: str) -> str:
    r"""Return a file's name as text that Parquet holds: bytes that are no UTF-8 as `\xff`.

    No two names become one: where a name has such text already, its backslashes are `\x5c`.
    """
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return clean(name)
    if _ESCAPE.search(found := data.decode("utf-8", "backslashreplace")):
        found = data.replace(b"\\", rb"\x5c").decode("utf-8", "backslashreplace")
    return found
