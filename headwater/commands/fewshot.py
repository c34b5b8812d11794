"""`headwater fewshot`: tasks that are taught by example: create, list, show, update, delete, export, import."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from headwater.commands.counted import counted
from headwater.commands.fewshot_ask import audit, classify, evaluate, suggest
from headwater.commands.fewshot_server import Whom, asks
from headwater.commands.fewshot_teach import (
    add,
    changes,
    examples,
    merge_classes,
    relabel,
    remove,
    remove_class,
    rename_class,
    undo,
)
from headwater.commands.fewshot_words import IfVersionOption, JsonOption, TaskArgument, as_json
from headwater.console import out

if TYPE_CHECKING:
    from headwater.fewshot import TaskInfo, TaskSettings
    from headwater.fewshot_calls import Choices

fewshot = typer.Typer(
    help="Few-shot tasks: teach by example, ask at once, and hear *unknown* for what is of none of the classes.",
    no_args_is_help=True,
)

MethodOption = Annotated[
    str | None,
    typer.Option(
        help="`auto`, `class-mean`, `knn`, `cached-keys`, `ridge`, `logistic` or `kernel-logistic`; at first `auto`."
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(help="Share of items of its classes that may be called unknown; 0: none is. At first 0.05."),
]
ZeroShotOption = Annotated[
    bool | None, typer.Option("--zero-shot/--no-zero-shot", help="Take names of classes as knowledge; texts only.")
]
TextsOption = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="LABEL=TEXT", help="What stands for a class's name there; several times."),
]


@fewshot.command()
@asks
def create(
    whom: Whom,
    task: TaskArgument,
    label: Annotated[list[str] | None, typer.Option(help="A class to begin with; several times.")] = None,
    keep_items: Annotated[
        bool, typer.Option("--keep-items", help="Keep items beside their embeddings, to be shown as evidence.")
    ] = False,
    method: MethodOption = None,
    false_alarm_rate: RateOption = None,
    zero_shot: ZeroShotOption = None,
    name: TextsOption = None,
    json_: JsonOption = False,
) -> None:
    """Make a task of a backbone, which is named by --backbone, or the only one.

    Example: `headwater fewshot create birds --backbone efficientnet-lite0 --keep-items`
    """
    from headwater.commands.embed import only_installed

    chosen = choices(method, false_alarm_rate, zero_shot, name)
    with whom.client(*([] if whom.server else [whom.backbone or only_installed()])) as client:
        backbone = whom.backbone if whom.server else ""  # a single one, which may have been named by its folder
        made = client.create_task(task, labels=label or (), backbone=backbone, keep_items=keep_items, **chosen)
        info = made.info()
    told(info, json_, f"task {info.name} of {info.backbone} {info.fingerprint}, version {info.version}")


@fewshot.command("list")
@asks
def list_tasks(whom: Whom, json_: JsonOption = False) -> None:
    """List the tasks.

    Example: `headwater fewshot list`
    """
    with whom.client() as client:
        tasks = client.tasks()
    if json_:
        for info in tasks:
            typer.echo(as_json({"name": info.name, "error": str(info.error)} if info.error else facts(info)))
        return
    if not tasks:
        out.print("there is no task yet; make one: [bold]headwater fewshot create NAME[/]")
        return
    table = Table(*("task", "backbone", "classes", "examples", "version", "method", "made"))
    for info in tasks:
        if info.error is None:
            table.add_row(*map(escape, _row(info)))
    out.print(table)
    for info in tasks:
        if info.error is not None:
            out.print(f"not usable: {info.name}: {info.error}", soft_wrap=True, markup=False)


@fewshot.command()
@asks
def show(whom: Whom, task: TaskArgument, json_: JsonOption = False) -> None:
    """Show a task: its classes, settings and version.

    Example: `headwater fewshot show birds`
    """
    with whom.client() as client:
        info = client.task(task).info()
    if json_:
        typer.echo(as_json(facts(info)))
        return
    out.print(
        f"task {info.name}: {_size(info)}, version {info.version}\n"
        f"{info.backbone} {info.fingerprint}, {info.dim}-d\n{_words(info.settings)}"
        + ("\nitems are kept" if info.keep_items else ""),
        soft_wrap=True,
        markup=False,
    )
    table = Table("class", "examples")
    for label, n in info.classes.items():
        table.add_row(escape(label), f"{n:,}")
    if info.classes:
        out.print(table)


@fewshot.command()
@asks
def update(
    whom: Whom,
    task: TaskArgument,
    method: MethodOption = None,
    false_alarm_rate: RateOption = None,
    zero_shot: ZeroShotOption = None,
    name: TextsOption = None,
    if_version: IfVersionOption = None,
    json_: JsonOption = False,
) -> None:
    """Change how a task classifies; its examples stay.

    Example: `headwater fewshot update birds --false-alarm-rate 0.1`
    """
    chosen = choices(method, false_alarm_rate, zero_shot, name)
    with whom.task(task, embeds=bool(zero_shot)) as there:
        info = there.update(if_version=if_version, **chosen)
    told(info, json_, f"task {info.name} is at version {info.version}: {_words(info.settings)}")


@fewshot.command()
@asks
def delete(whom: Whom, task: TaskArgument, if_version: IfVersionOption = None) -> None:
    """Delete a task and all that it holds; this cannot be undone.

    Example: `headwater fewshot delete birds`
    """
    with whom.client() as client:
        client.delete_task(task, if_version=if_version)
    out.print(f"task {task} is deleted", markup=False)


@fewshot.command()
@asks
def export(whom: Whom, task: TaskArgument, file: Annotated[Path, typer.Argument(help="To write.")]) -> None:
    """Write a task, its examples, items and history as one file.

    Example: `headwater fewshot export birds birds.sqlite`
    """
    from headwater.errors import OutputNotWritable

    with whom.task(task) as there:
        try:
            there.export(file)
        except OSError as error:
            raise OutputNotWritable.by(error, file) from None
    out.print(f"task {task} is in {file}", soft_wrap=True, markup=False)


@fewshot.command("import")
@asks
def import_(
    whom: Whom,
    file: Annotated[Path, typer.Argument(help="That `export` has written.")],
    name: Annotated[str, typer.Option(help="Of the task; by default the one that it had.")] = "",
    json_: JsonOption = False,
) -> None:
    """Make a task of a file; all of it is checked before the task appears.

    Example: `headwater fewshot import birds.sqlite --name more-birds`
    """
    from headwater.errors import DataInvalid

    with whom.client(*([whom.backbone] if whom.backbone and not whom.server else [])) as client:
        try:
            info = client.import_task(file, name=name).info()
        except OSError as error:
            raise DataInvalid(f"{file} cannot be read: {error.strerror}; name a file that `export` wrote") from None
    told(info, json_, f"task {info.name}: {_size(info)}")


for command in (add, classify, remove, relabel, undo, changes, examples, suggest, audit, evaluate):
    fewshot.command()(command)
for command in (rename_class, merge_classes, remove_class):
    fewshot.command(command.__name__.replace("_", "-"))(command)


def choices(
    method: str | None, false_alarm_rate: float | None, zero_shot: bool | None, names: list[str] | None
) -> "Choices":
    """Return what was chosen of how a task classifies; raises DataInvalid."""
    from headwater.errors import DataInvalid

    texts = {}
    for one in names or ():
        label, equals, text = one.partition("=")
        if not equals:
            raise DataInvalid(f"--name is {one!r}; give LABEL=TEXT")
        texts[label] = text
    given = {"method": method, "false_alarm_rate": false_alarm_rate, "zero_shot": zero_shot, "texts": texts or None}
    return {name: value for name, value in given.items() if value is not None}  # type: ignore[return-value]


def told(info: "TaskInfo", json_: bool, words: str) -> None:
    """Print a task's facts, or some words."""
    if json_:
        typer.echo(as_json(facts(info)))
    else:
        out.print(words, soft_wrap=True, markup=False)


def facts(info: "TaskInfo") -> dict[str, Any]:
    """Return what programs are told of a task."""
    return {
        "name": info.name,
        "backbone": info.backbone,
        "fingerprint": info.fingerprint,
        "dim": info.dim,
        "version": info.version,
        "n_examples": info.n_examples,
        "n_classes": info.n_classes,
        **({"classes": dict(info.classes)} if info.classes or not info.n_classes else {}),
        "keep_items": info.keep_items,
        "settings": {**vars(info.settings), "texts": dict(info.settings.texts)},
        "created_at": info.created_at,
    }


def _row(info: "TaskInfo") -> tuple[str, ...]:
    made = f"{info.created_at:%Y-%m-%d}" if info.created_at else ""
    counts = (f"{info.n_classes:,}", f"{info.n_examples:,}", str(info.version))
    return info.name, info.backbone, *counts, info.settings.method, made


def _size(info: "TaskInfo") -> str:
    return f"{counted(info.n_examples, 'example')} of {counted(info.n_classes, 'class', 'classes')}"


def _words(settings: "TaskSettings") -> str:
    rate = settings.false_alarm_rate
    unknown = f"at most {rate:.1%} of known items unknown" if rate else "nothing is unknown"
    names = ", names of classes as knowledge" if settings.zero_shot else ""
    return f"method {settings.method}, {unknown}{names}"
