"""Which columns of a table are the item, its label, and what is carried along; the rows of a table as entries."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extractor.errors import EmptyItem, ItemError, SourceInvalid, UnreadableItem
from extractor.sources.entry import Content, Entry, clean
from extractor.sources.places import Place, is_remote, place_of, shown

TEXT, PATH, LABEL = "text", "path", "label"
SEPARATOR = "|"  # between several labels
RESERVED = ("key", "embedding", "label", "error")


@dataclass(frozen=True)
class Options:
    """How a table is read.

    Parameters
    ----------
    item : str, optional
        The column of texts or bytes; by default `text`, or the one that holds bytes.
    path : str, optional
        The column of paths; by default `path`, where there is no `text`.
    label : str
        The column of labels; where there is none, there are no labels.
    carry_text : bool
        The text itself is carried along, as `text`.
    urls : bool
        Paths in a table or a list may be URLs.
    """

    item: str | None = None
    path: str | None = None
    label: str = LABEL
    carry_text: bool = False
    urls: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what decides which items there are, and what is carried along."""
        facts = {"item": self.item, "path": self.path, "label": self.label}
        return {**facts, "carry_text": True} if self.carry_text else facts


PLAIN = Options()


@dataclass(frozen=True)
class Layout:
    """The columns of one table, by what they are for.

    Parameters
    ----------
    item : str
    is_path : bool
        Items are paths, not texts.
    label : str, optional
    carried : mapping of str to str
        Columns of the table -> columns of the dump.
    """

    item: str
    is_path: bool
    label: str | None
    carried: Mapping[str, str]

    @classmethod
    def of(cls, names: Sequence[str], options: Options, where: str) -> "Layout":
        """Tell what the columns are for; raises SourceInvalid where none holds items."""
        asked = options.path or options.item
        item = asked or next((name for name in (TEXT, PATH) if name in names), None)
        if not names:
            raise SourceInvalid(f"{where} is empty; a table has a column {TEXT!r} or {PATH!r} at least: write it again")
        if item is None or item not in names:
            lacking = f"no column {asked!r}" if asked else f"neither a column {TEXT!r} nor {PATH!r}"
            raise SourceInvalid(
                f"{where} has {lacking}, only {', '.join(map(repr, names))}; "
                "name one with --item-column or --path-column"
            )
        label = options.label if options.label in names else None
        if label is None and options.label != LABEL:
            raise SourceInvalid(
                f"{where} has no column {options.label!r}, only {', '.join(map(repr, names))}; mend --label-column"
            )
        is_path = item == options.path or (asked is None and item == PATH)
        carried = {item: TEXT} if options.carry_text and not is_path else {}
        for name in sorted((name for name in names if name not in (item, label)), key=RESERVED.__contains__):
            carried[name] = _carried_as(name, {*RESERVED, *carried.values()})
        return cls(item, is_path, label, {name: carried[name] for name in names if name in carried})


def entry_of(row: Mapping[str, Any], number: int, layout: Layout, options: Options, place: Place) -> Entry:
    """Return the entry of a row: a text's key is its number, a path's the path."""
    value = row.get(layout.item)
    content: Content
    if value is None or value == "":
        key, content = str(number), EmptyItem(f"row {number} has nothing in its column {layout.item!r}")
    elif layout.is_path:
        key, content = str(value), file_of(str(value), place, urls=options.urls)
    else:
        key, content = str(number), value if isinstance(value, str) else _as_json(value)
    label = None if layout.label is None else label_of(row.get(layout.label))
    return Entry(clean(key), content, label, tuple(_carried(row, name, layout) for name in layout.carried))


def _carried(row: Mapping[str, Any], name: str, layout: Layout) -> Any:
    value = row.get(name)
    return clean(value) if name == layout.item and isinstance(value, str) else value


def file_of(path: str, place: Place, *, urls: bool) -> Content:
    """Return the file that a row names, or why it is not read."""
    if not is_remote(path):
        return place.file(path)
    if not urls:
        return UnreadableItem(f"{shown(path)} is a URL; where the list is trusted, read them with --urls")
    try:
        remote = place_of(path)
    except Exception as error:  # of a row, whose neighbours are well
        return error if isinstance(error, ItemError) else UnreadableItem(str(error))
    return remote.file("")


def label_of(value: Any) -> str | None:
    """Return a label as text; several are joined by `|`."""
    if value is None or value == "" or value != value:  # NaN, as pandas writes what is missing
        return None
    if isinstance(value, list | tuple):
        return clean(SEPARATOR.join(map(str, value)))
    return clean(str(value))


def as_text(value: Any) -> str | None:
    """Return what is carried along as text: what is none in JSON is written as JSON."""
    if value is None:
        return None
    return clean(value if isinstance(value, str) else _as_json(value))


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # a Parquet file has times and more


def _carried_as(name: str, taken: Container[str]) -> str:
    while name in taken:
        name = f"source_{name}"
    return name
