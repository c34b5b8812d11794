"""What the commands after a dump share: how they open it, and how they show its items, which strangers have named."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from headwater.commands.counted import counted
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.embedding_set import EmbeddingSet

DumpArgument = Annotated[
    Path, typer.Argument(metavar="OUT", help="A dump: the folder that `headwater dump` wrote, or an `X.npy`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
TEXT = "text"  # the column in which a dump carries texts along
MAX_CHARACTERS = 60


def opened(path: Path) -> "EmbeddingSet":
    """Open a dump, and say how many of its items failed.

    Raises
    ------
    DumpInvalid
        It is none, or has no embedding.
    """
    from headwater.dumps import opened
    from headwater.errors import DumpInvalid

    found = opened(path)
    if not len(found):
        raise DumpInvalid(f"the dump {path} has no embedding; look at its column 'error', and dump it again")
    if found.errors:
        n_items = len(found) + len(found.errors)
        failed = f"{len(found.errors):,} of {counted(n_items, 'item')} failed"
        err.print(f"{path}: {failed} and are left out", soft_wrap=True, markup=False)
    return found


def facts_of(found: "EmbeddingSet", row: int) -> dict[str, Any]:
    """Return what a row is, for people and programs: key, label, the row of the dump, and its text, where carried."""
    values = {
        name: as_text(found.table.column(name)[row].as_py())
        for name in ("label", TEXT)
        if name in found.table.column_names
    }
    key = found.table.column("key")[row].as_py() if found.has_keys else str(found.numbers[row])
    return {"key": key, **values, "row": int(found.numbers[row])}


def as_text(value: object) -> str | None:
    """Return a value as text: a column that is called `text` may be of numbers, lists or times."""
    return None if value is None else str(value)


def name_of(facts: dict[str, Any]) -> str:
    """Return what people know an item by: its text, or its key."""
    return str(facts.get(TEXT) or facts["key"])


def told(value: object, most: int = MAX_CHARACTERS) -> Text:
    """Return a value as a cell: in one line, short, and free of what a terminal would obey."""
    text = "" if value is None else "".join(one if one.isprintable() else " " for one in str(value))
    return Text(text if len(text) <= most else f"{text[: most - 1]}…")


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; a name, label or text in it is only ever shown."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(told, row))
    out.print(table)


def write_json(value: object) -> None:
    """Print a value as a line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))
