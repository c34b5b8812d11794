"""What the commands for few-shot tasks share: arguments, items that a person names, and words for programs."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from headwater.commands.counted import counted
from headwater.console import err

STDIN = Path("-")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Its name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: an object, or of several things one a line.")]
IfVersionOption = Annotated[int | None, typer.Option(help="Refuse unless the task is at this version.")]
TextOption = Annotated[list[str] | None, typer.Option(help="A text itself; may be given several times.")]
FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Files, folders of files, or `-` for texts from standard input, one a line."),
]


def items_of(files: Sequence[Path] | None, texts: Sequence[str] | None) -> list[str | Path]:
    """Return the items that a person names: files, those in folders, lines of standard input, and texts.

    Raises
    ------
    DataInvalid
        There is none.
    """
    from headwater.errors import DataInvalid

    items: list[str | Path] = [one for path in files or () for one in _items_in(path)]
    items += texts or ()
    if not items:
        raise DataInvalid("there is no item; name files or a folder of some, or give a text with --text")
    return items


def lines() -> list[str]:
    """Return the lines of standard input that are not empty."""
    return [line for line in sys.stdin.read().splitlines() if line.strip()]


def _items_in(path: Path) -> Iterator[str | Path]:
    if path == STDIN:
        yield from lines()
    elif path.is_dir():
        yield from sorted(one for one in path.rglob("*") if one.is_file() and not _is_hidden(one, path))
    else:
        yield path


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def as_json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def name_failures(failures: Sequence[tuple[str, Exception]], n: int) -> None:
    """Name the items that failed, of n, and end with exit code 1 if there are any."""
    for name, error in failures:
        err.print(f"[bold red]{escape(name)}:[/] {escape(str(error))}", soft_wrap=True)
    if failures:
        err.print(f"{len(failures)} of {counted(n, 'item')} failed")
        raise typer.Exit(1)
