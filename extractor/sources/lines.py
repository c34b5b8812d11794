"""A CSV or JSONL file -> its rows, each with the number of the line that it ends on."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from extractor.errors import SourceInvalid

SUFFIXES = (".csv", ".jsonl", ".ndjson")
MAX_FIELD_CHARACTERS = 16 << 20  # of a CSV; Python's own limit is shorter than a text may be

BEYOND = "\0"  # what a row of a CSV has beyond its columns, none of which is called so

Row = dict[str, Any]


def is_csv(name: str) -> bool:
    """Tell a CSV from a file with an object a line, by its name."""
    return name.lower().endswith(".csv")


@contextmanager
def text_of(file: IO[bytes], where: str) -> Iterator[io.TextIOWrapper]:
    """Read a file as text, and close it; raises SourceInvalid where it is not UTF-8."""
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise SourceInvalid(f"{where} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def header_of(text: Iterable[str], where: str) -> list[str]:
    """Return the names of a CSV's columns; raises SourceInvalid."""
    with _understood(reader := _reader(text), where):
        names = list(reader.fieldnames or ())
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise SourceInvalid(f"{where} has several columns {', '.join(map(repr, twice))}; rename them")
    return names


def beyond_in(row: Row) -> str | None:
    """Take out of a row what it has beyond the columns, and say what is wrong with it."""
    cells = row.pop(BEYOND, ())
    if not any(cells):
        return None
    return f"has {len(cells)} cells more than there are columns; put quotes around a cell with commas"


def rows_of(text: Iterable[str], where: str) -> Iterator[tuple[int, Row]]:
    """Yield each row with its line's number, from 1; `where` names the file, in errors and by its suffix.

    Cells that a row has beyond the columns are in it as `BEYOND`.

    Raises
    ------
    SourceInvalid
        A line cannot be understood.
    """
    return (_csv if is_csv(where) else _jsonl)(text, where)


def _csv(text: Iterable[str], where: str) -> Iterator[tuple[int, Row]]:
    ended: list[bool] = []
    with _understood(reader := _reader(_telling(text, ended)), where):
        _, before = reader.fieldnames, reader.line_num
        for row in reader:
            if ended:  # a reader asks for a line after the last one only within quotes
                raise SourceInvalid(f"{where}, line {before + 1}: nothing closes a quote that the row opens; close it")
            yield reader.line_num, row
            before = reader.line_num


def _telling(text: Iterable[str], ended: list[bool]) -> Iterator[str]:
    """Yield lines, and note that there are no more once another is asked for."""
    yield from text
    ended.append(True)


def _reader(text: Iterable[str]) -> "csv.DictReader[str]":
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    return csv.DictReader(text, restkey=BEYOND)


@contextmanager
def _understood(reader: "csv.DictReader[str]", where: str) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise SourceInvalid(f"{where}, line {reader.line_num}: {error}; mend the line") from None


def _jsonl(text: Iterable[str], where: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceInvalid(f"{where}, line {number} is not JSON ({error}); mend the line") from None
        if not isinstance(row, dict):
            raise SourceInvalid(f"{where}, line {number} is no object; write one a line, with a text or path")
        yield number, row
