"""What people have labelled -> items and labels: a folder of folders, or a CSV or JSONL file."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import DataInvalid

TEXT, PATH, LABEL = "text", "path", "label"
TABLES = (".csv", ".jsonl")
MAX_FIELD_CHARACTERS = 16 << 20  # of a CSV; Python's own limit is shorter than a text may be


@dataclass(frozen=True)
class Labelled:
    """Items with a label each.

    Parameters
    ----------
    items : list of str or Path
        A text, or the path of a file.
    labels : list of str
    names : list of str
        What people call each item: its path, or the line that it stands on.
    """

    items: list[str | Path]
    labels: list[str]
    names: list[str]


def read_labelled(data: Path, *, label_column: str = LABEL, item_column: str | None = None) -> Labelled:
    """Read labelled items.

    Parameters
    ----------
    data : Path
        A folder with a folder for each label, whose files are its items; or a `.csv` with a header or a `.jsonl` with
        an object a line, each with a label and either a text or the path of a file, which starts at the table's folder.
    label_column : str
    item_column : str, optional
        By default `text` or `path`, whichever is there; another one is taken for texts.

    Raises
    ------
    DataInvalid
        There is nothing labelled, or a line lacks its label or its item.
    """
    rows = list(_folder(data) if data.is_dir() else _table(data, label_column, item_column))
    if not rows:
        raise DataInvalid(
            f"{data} has no labelled item; give a folder with a folder a label, or a table of {' or '.join(TABLES)}"
        )
    items, labels, names = zip(*rows, strict=True)
    return Labelled(list(items), list(labels), list(names))


def _folder(data: Path) -> Iterator[tuple[Path, str, str]]:
    for label in sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for file in sorted(path for path in label.iterdir() if path.is_file() and not path.name.startswith(".")):
            yield file, label.name, str(file.relative_to(data))


def _table(data: Path, label_column: str, item_column: str | None) -> Iterator[tuple[str | Path, str, str]]:
    lines = {".csv": _csv, ".jsonl": _jsonl}.get(data.suffix.lower())
    if lines is None:
        raise DataInvalid(f"{data} is neither a folder nor a table of {' or '.join(TABLES)}; name one of these")
    try:
        with data.open(encoding="utf-8-sig", newline="") as file:
            for number, row in lines(file, data):
                column = item_column or (PATH if PATH in row and TEXT not in row else TEXT)
                item, label = row.get(column), row.get(label_column)
                if item in (None, "") or label in (None, ""):
                    wanted = label_column if label in (None, "") else column
                    raise DataInvalid(
                        f"{data}, line {number} has no {wanted!r}, only {', '.join(map(repr, row)) or 'nothing'}; "
                        "mend it, or name the columns with --label-column and --item-column"
                    )
                yield data.parent / str(item) if column == PATH else str(item), str(label), f"{data.name}:{number}"
    except OSError as error:
        raise DataInvalid(f"{data} cannot be read: {error.strerror}; name a folder or a table that is there") from None
    except UnicodeDecodeError as error:
        raise DataInvalid(f"{data} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _csv(file: Iterable[str], data: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    reader = csv.DictReader(file)
    try:
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if name is not None}
    except csv.Error as error:
        raise DataInvalid(f"{data}, line {reader.line_num}: {error}; mend the line") from None


def _jsonl(file: Iterable[str], data: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataInvalid(f"{data}, line {number} is not JSON ({error}); mend the line") from None
        if not isinstance(row, dict):
            raise DataInvalid(f"{data}, line {number} is no object; write one a line, with a label and a text or path")
        yield number, row
