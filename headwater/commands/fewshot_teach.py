"""`headwater fewshot add|remove|relabel|…`: what a task is taught, and what was changed."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from headwater.commands.counted import counted
from headwater.commands.embed import ItemColumnOption, LabelColumnOption
from headwater.commands.fewshot_server import Whom, asks
from headwater.commands.fewshot_words import (
    STDIN,
    FilesArgument,
    IfVersionOption,
    JsonOption,
    TaskArgument,
    TextOption,
    as_json,
    items_of,
    name_failures,
)
from headwater.console import err, out

if TYPE_CHECKING:
    from headwater.labelled import Columns, Labelled

MAX_NOTE_BYTES = 1000

LabelArgument = Annotated[str, typer.Argument(metavar="LABEL", help="Of the class.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Of examples: see `headwater fewshot examples`.")]


@asks
def add(
    whom: Whom,
    task: TaskArgument,
    data: FilesArgument = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Of all items. Without it, DATA is a folder with a folder a label, a `.csv`, `.jsonl` or `.parquet` "
            "with a label and a text or path, or `-` for JSON lines."
        ),
    ] = None,
    text: TextOption = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Let an example's id be a hash of its content: what was taught before is not taught again."
        ),
    ] = False,
    label_column: LabelColumnOption = "label",
    item_column: ItemColumnOption = None,
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Teach examples; a bad one is named, and the others are taught.

    Example: `headwater fewshot add birds --label wren wren1.jpg wren2.jpg`
    """
    from headwater.labelled import Columns

    labelled = _labelled(data or [], label, text or [], Columns(label_column, item_column))
    for note in labelled.notes:
        err.print(note, soft_wrap=True, markup=False)
    items, labels, names = _once(labelled) if once else (labelled.items, labelled.labels, labelled.names)
    ids = [_id_of(item) for item in items] if once else None
    with whom.task(task, embeds=True) as there, Bar(console=err, disable=not err.is_terminal) as bar:
        shown = bar.add_task("teaching", total=len(items))
        added = there.add(
            items,
            map(str, labels),
            ids=ids,
            notes=map(_note, names),
            if_version=if_version,
            progress=lambda n, _: bar.update(shown, completed=n),
        )
    failures = [(names[i] or _shown(items[i]), error) for i, error in added.failures.items()]
    if json_:
        errors = [{"item": name, "error": str(error)} for name, error in failures]
        typer.echo(as_json({"version": added.version, "n_new": added.n_new, "ids": added.ids, "errors": errors}))
    else:
        there_before = len(added.ids) - added.n_new
        known = f", {there_before:,} were there before" if there_before else ""
        taught = counted(added.n_new, "example")
        out.print(f"{taught} taught{known}; task {task} is at version {added.version}", markup=False)
    name_failures(failures, len(items))


@asks
def remove(
    whom: Whom, task: TaskArgument, ids: IdsArgument, if_version: IfVersionOption = None, json_: JsonOption = False
) -> None:
    """Remove examples by their ids: all of them, or none.

    Example: `headwater fewshot remove birds 6f1e… 77ab…`
    """
    with whom.task(task) as there:
        _tell(task, there.remove(ids, if_version=if_version), json_)


@asks
def relabel(
    whom: Whom,
    task: TaskArgument,
    label: LabelArgument,
    ids: IdsArgument,
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Give examples another label: all of them, or none.

    Example: `headwater fewshot relabel birds robin 6f1e…`
    """
    with whom.task(task) as there:
        _tell(task, there.relabel(dict.fromkeys(ids, label), if_version=if_version), json_)


@asks
def rename_class(
    whom: Whom,
    task: TaskArgument,
    label: LabelArgument,
    to: Annotated[str, typer.Argument(metavar="NEW", help="That no other class has.")],
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Give a class another label.

    Example: `headwater fewshot rename-class birds wren 'house wren'`
    """
    with whom.task(task) as there:
        _tell(task, there.rename_class(label, to, if_version=if_version), json_)


@asks
def merge_classes(
    whom: Whom,
    task: TaskArgument,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL", help="Of the classes.")],
    into: Annotated[str, typer.Option(help="The class that has all their examples then.")],
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Put the examples of classes into another one, and remove the classes.

    Example: `headwater fewshot merge-classes birds 'house wren' 'marsh wren' --into wren`
    """
    with whom.task(task) as there:
        _tell(task, there.merge_classes(labels, into, if_version=if_version), json_)


@asks
def remove_class(
    whom: Whom, task: TaskArgument, label: LabelArgument, if_version: IfVersionOption = None, json_: JsonOption = False
) -> None:
    """Remove a class and its examples.

    Example: `headwater fewshot remove-class birds wren`
    """
    with whom.task(task) as there:
        _tell(task, there.remove_class(label, if_version=if_version), json_)


@asks
def undo(
    whom: Whom,
    task: TaskArgument,
    n: Annotated[int, typer.Argument(metavar="[N]", min=1, help="How many changes.")] = 1,
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Take back the last changes that are not taken back yet.

    Example: `headwater fewshot undo birds`
    """
    with whom.task(task) as there:
        _tell(task, there.undo(n, if_version=if_version), json_)


@asks
def changes(
    whom: Whom,
    task: TaskArgument,
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many.")] = 20,
    json_: JsonOption = False,
) -> None:
    """List the last changes, the newest first.

    Example: `headwater fewshot changes birds`
    """
    with whom.task(task) as there:
        found = there.changes(n)
    if json_:
        for one in found:
            typer.echo(as_json(one))
        return
    table = Table("version", "change", "examples", "when", "", "what")
    for one in found:
        state = f"undone by {one.undone_by}" if one.undone_by else "can be undone" if one.can_be_undone else ""
        what = as_json(one.detail) if one.detail else ""
        when = f"{one.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(str(one.version), one.kind, f"{one.n_examples:,}", when, state, escape(_short(what)))
    out.print(table)


@asks
def examples(
    whom: Whom,
    task: TaskArgument,
    label: Annotated[str, typer.Option(help="Only those of a class.")] = "",
    json_: JsonOption = False,
) -> None:
    """List examples, with their ids, in the order in which they came.

    Example: `headwater fewshot examples birds --label wren`
    """
    with whom.task(task) as there:
        for one in there.examples(label=label):
            if json_:
                told = {"id": one.id, "label": one.label, "note": one.note, "created_at": one.created_at}
                typer.echo(as_json(told))
            else:
                out.print(f"{one.id}  {one.label}  {one.note}".rstrip(), soft_wrap=True, markup=False)


def _labelled(data: list[Path], label: str | None, texts: list[str], columns: "Columns") -> "Labelled":
    """Return the items that a person names, with the one label, or with their own."""
    from headwater.errors import DataInvalid
    from headwater.labelled import Labelled, read_labelled

    if label is not None:
        items = items_of(data, texts)
        return Labelled(items, [label] * len(items), ["" if isinstance(item, str) else str(item) for item in items])
    if texts:
        raise DataInvalid("a text needs its label; add --label LABEL")
    if not data:
        raise DataInvalid(
            "there is nothing to teach; name a folder with a folder a label, a table, or files and --label"
        )
    several = [_from_stdin(columns) if one == STDIN else read_labelled(one, columns=columns) for one in data]
    notes = [f"{path}: {note}" for path, one in zip(data, several, strict=True) for note in one.notes]
    return Labelled(
        [item for one in several for item in one.items],
        [label for one in several for label in one.labels],
        [name for one in several for name in one.names],
        notes=notes,
    )


def _from_stdin(columns: "Columns") -> "Labelled":
    from headwater.labelled import read_labelled

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stdin.jsonl"
        file.write_text(sys.stdin.read(), encoding="utf-8")
        return read_labelled(file, columns=columns)


def _once(labelled: "Labelled") -> tuple[list[Any], list[Any], list[str]]:
    """Return the items' bytes, labels and names, without those that are there twice with the same label."""
    from extractor.errors import ItemError
    from extractor.items import as_bytes
    from headwater.commands.embed import MAX_BYTES

    found: dict[tuple[Any, Any], str] = {}
    for item, label, name in zip(labelled.items, labelled.labels, labelled.names, strict=True):
        try:
            found.setdefault((as_bytes(item, max_bytes=MAX_BYTES), label), name)
        except ItemError:
            found.setdefault((item, label), name)  # the client names it
    return [item for item, _ in found], [label for _, label in found], list(found.values())


def _id_of(item: Any) -> str:
    from hashlib import blake2b

    return blake2b(item if isinstance(item, bytes) else os.fsencode(item), digest_size=16).hexdigest()


def _note(name: str) -> str:
    """Return where an item came from as a note can have it; it is never the text itself: a task keeps that if asked."""
    return name.encode(errors="replace")[:MAX_NOTE_BYTES].decode(errors="ignore")


def _shown(item: Any) -> str:
    return _short(item.decode(errors="replace") if isinstance(item, bytes) else str(item))


def _tell(task: str, version: int, json_: bool) -> None:
    if json_:
        typer.echo(as_json({"version": version}))
    else:
        out.print(f"task {task} is at version {version}", markup=False)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
