"""What people have labelled -> items and labels: a folder of folders, or a CSV, JSONL or Parquet file."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from extractor.errors import SourceInvalid
from extractor.sources import lines
from headwater.errors import DataInvalid

TEXT, PATH, LABEL = "text", "path", "label"
PARQUET = ".parquet"
TABLES = (*lines.SUFFIXES, PARQUET)
SINGLE, MULTI, REGRESSION = "single", "multi", "regression"
SEPARATOR = "|"  # between several labels in one cell of a CSV

Label = str | tuple[str, ...] | float


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Parameters
    ----------
    label : str
    item : str, optional
        By default `text` or `path`, whichever is there; another one is taken for texts.
    group : str, optional
        Of what belongs together, such as the photos of one camera: no fold divides it.
    """

    label: str = LABEL
    item: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Labelled:
    """Items with a label each.

    Parameters
    ----------
    items : list of str or Path
        A text, or the path of a file.
    labels : list of str, tuple of str, or float
        The one label, the several, or the number.
    names : list of str
        What people call each item: its path, or the line that it stands on.
    groups : list of str, optional
    notes : list of str
        What a person may have meant for labelled, and is not.
    """

    items: list[str | Path]
    labels: list[Label]
    names: list[str]
    groups: list[str] | None = None
    notes: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """One item of a source."""

    item: str | Path
    label: Label
    name: str
    group: str | None = None


def read_labelled(data: Path, *, kind: str = SINGLE, columns: Columns = Columns()) -> Labelled:
    """Read labelled items.

    Parameters
    ----------
    data : Path
        A folder with a folder for each label, whose files are its items; or a `.csv` with a header, a `.jsonl` with
        an object a line or a `.parquet`, each with a label and either a text or the path of a file, which starts at
        the table's folder.
    kind : {'single', 'multi', 'regression'}
        One label an item; any number, a list or in a CSV a cell of them with `|` between; a number.
    columns : Columns

    Raises
    ------
    DataInvalid
        There is nothing labelled, a line lacks its label or its item, or a label is none of its kind.
    """
    if data.is_dir() and kind != SINGLE:
        raise DataInvalid(f"a folder such as {data} gives one label an item; {kind} needs a table of {_tables()}")
    if data.is_dir() and columns.group is not None:
        raise DataInvalid(
            f"a folder such as {data} has no column {columns.group!r}; groups need a table of {_tables()}"
        )
    rows = list(_folder(data) if data.is_dir() else _table(data, kind, columns))
    if not rows:
        raise DataInvalid(
            f"{data} has no labelled item; give a folder with a folder a label, or a table of {_tables()}"
        )
    groups = None if columns.group is None else [str(row.group) for row in rows]
    items, labels, names, _ = map(list, zip(*rows, strict=True))
    return Labelled(items, labels, names, groups, _left_out(data) if data.is_dir() else [])


def rows_of(data: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a table: each row with the number of its line, or in a Parquet file of its row from 1.

    Raises
    ------
    DataInvalid
        It is no table, cannot be read, or a line cannot be understood.
    """
    try:
        if data.suffix.lower() == PARQUET:
            yield from _parquet(data)
        elif data.suffix.lower() not in TABLES:
            raise DataInvalid(f"{data} is neither a folder nor a table of {_tables()}; name one of these")
        else:
            with lines.text_of(data.open("rb"), str(data)) as text:
                yield from _whole(lines.rows_of(text, str(data)), data)
    except OSError as error:
        raise DataInvalid(f"{data} cannot be read: {error.strerror}; name a folder or a table that is there") from None
    except SourceInvalid as error:
        raise DataInvalid(str(error)) from None


def _tables() -> str:
    return " or ".join(TABLES)


def _folder(data: Path) -> Iterator[Row]:
    for folder in _entries(data, Path.is_dir):
        label = _name(folder.name, str(data))
        for file in _entries(folder, Path.is_file):
            yield Row(file, label, str(file.relative_to(data)))


def _entries(folder: Path, are: Callable[[Path], bool]) -> list[Path]:
    """Return the files, or the folders, of a folder, but for hidden ones, in the order of their names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and are(path))
    except OSError as error:
        raise DataInvalid(f"{folder} cannot be read: {error.strerror}; make it readable, or move it away") from None


def _left_out(data: Path) -> list[str]:
    """Say which folders are no labels, and which stand too deep."""
    labels = _entries(data, Path.is_dir)
    empty = [folder.name for folder in labels if not _entries(folder, Path.is_file)]
    deeper = [str(path.relative_to(data)) for folder in labels for path in _entries(folder, Path.is_dir)]
    told = {"without a file, which are no labels": empty, "within those of labels, which were left out": deeper}
    return [f"folders {what}: {_few(names)}" for what, names in told.items() if names]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _table(data: Path, kind: str, columns: Columns) -> Iterator[Row]:
    for number, row in rows_of(data):
        where = f"{data}, line {number}"
        item_column = columns.item or (PATH if PATH in row and TEXT not in row else TEXT)
        item = str(_cell(row, item_column, where))
        # No label at all is an answer where there may be several.
        label = label_of(_cell(row, columns.label, where, may_be_empty=kind == MULTI), kind, where)
        group = str(_cell(row, columns.group, where)) if columns.group else None
        yield Row(data.parent / item if item_column == PATH else item, label, f"{data.name}:{number}", group)


def _cell(row: dict[str, Any], column: str, where: str, *, may_be_empty: bool = False) -> Any:
    empty = row.get(column) in (None, "") or row[column] != row[column]  # NaN, as pandas writes what is missing
    if column in row and empty and not may_be_empty:
        raise DataInvalid(f"{where} has nothing in its column {column!r}; give it something, or leave the line out")
    if column not in row:
        raise DataInvalid(
            f"{where} has no {column!r}, only {', '.join(map(repr, row)) or 'nothing'}; "
            "mend it, or name the columns with --label-column, --item-column and --group-column"
        )
    return "" if empty else row[column]


def _whole(rows: Iterator[tuple[int, dict[str, Any]]], data: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows that have no more cells than there are columns."""
    for number, row in rows:
        if wrong := lines.beyond_in(row):
            raise DataInvalid(f"{data}, line {number} {wrong}")
        yield number, row


def label_of(value: Any, kind: str, where: str) -> Label:
    """Return what a cell says: the one label, the several, or the number.

    Raises
    ------
    DataInvalid
        It is none of its kind.
    """
    if kind == MULTI:
        several = value if isinstance(value, list) else str(value or "").split(SEPARATOR)
        return tuple(dict.fromkeys(_name(str(one).strip(), where) for one in several if str(one).strip()))
    if kind == SINGLE and isinstance(value, list | dict):
        raise DataInvalid(f"{where} has several labels, {value!r}; take --kind multi, or give it one")
    if kind == SINGLE:
        return _name(str(value), where)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataInvalid(f"{where} has the label {value!r}, and a regression needs a finite number; mend it")
    return number


def _name(label: str, where: str) -> str:
    """Return a label that a head can keep."""
    try:
        label.encode()
    except UnicodeEncodeError:
        raise DataInvalid(f"{where} has the label {label!r}, which is no text in UTF-8; rename it") from None
    return label


def _parquet(data: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(data) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from enumerate(rows, 1)
    except ArrowInvalid as error:
        raise DataInvalid(f"{data} is no Parquet file ({error}); write it again") from None
