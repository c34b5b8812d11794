"""`headwater heads`: a table of what was trained; which version is in production; and away with one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from headwater.console import out

if TYPE_CHECKING:
    from headwater.shelf import Version

MEASURES = {"single": "accuracy", "multi": "macro_f1", "regression": "r2"}

heads = typer.Typer(help="Trained heads: list, activate, delete.", invoke_without_command=True)

VersionArgument = Annotated[str, typer.Argument(help="`NAME@3`, or `NAME@ALIAS`.", metavar="NAME@VERSION")]


@heads.callback()
def show(context: typer.Context) -> None:
    """List the heads under HEADWATER_HOME, their versions, and whether each can be used.

    Example: `headwater heads`
    """
    if not context.invoked_subcommand:
        _list()


@heads.command()
def activate(
    version: VersionArgument,
    alias: Annotated[str, typer.Option(help="What shall stand for the version.")] = "production",
) -> None:
    """Let a name alone mean this version from now on; so an older one is rolled back to.

    Example: `headwater heads activate pets@2`
    """
    from classifiers.persist import load_head
    from headwater.shelf import activate as activate_version
    from headwater.shelf import find_version

    found = find_version(version)
    load_head(found.folder)  # what cannot be used is not put in production
    with _writing():
        activate_version(found, alias)
    out.print(f"{found} is {alias}", markup=False)


@heads.command()
def delete(
    head: Annotated[str, typer.Argument(help="`NAME` for all its versions, or `NAME@3`.", metavar="NAME[@VERSION]")],
) -> None:
    """Delete a head, or one of its versions.

    Example: `headwater heads delete pets@1`
    """
    from headwater.shelf import delete_head, delete_version, find_version

    with _writing():
        if "@" in head:
            delete_version(find_version(head))
        else:
            delete_head(head)
    out.print(f"{head} is deleted", markup=False)


@contextmanager
def _writing() -> Iterator[None]:
    """Say what could not be changed, and why."""
    from extractor.home import heads_folder
    from headwater.errors import OutputNotWritable

    try:
        yield
    except OSError as error:
        raise OutputNotWritable.by(error, heads_folder()) from None


def _list() -> None:
    from headwater.shelf import head_names, versions

    found = [version for name in head_names() for version in versions(name)]
    if not found:
        out.print("there is no head yet; make one: [bold]headwater train DATA --name NAME[/]")
        return
    told = [_facts(version) for version in found]
    rows = [row for row in told if isinstance(row, list)]
    if rows:
        table = Table(*("head", "", "backbone", "classes", "examples", "measured", "made"))
        for row in rows:
            table.add_row(*row)
        out.print(table)
    for error in (one for one in told if isinstance(one, str)):
        out.print(f"not usable: {error}", soft_wrap=True, markup=False)


def _facts(version: "Version") -> list[str] | str:
    """Return a version's row of the table, or why it cannot be used."""
    from classifiers.errors import HeadInvalid
    from classifiers.persist import load_head
    from headwater.errors import HeadNotFound
    from headwater.shelf import aliases

    try:
        head, manifest = load_head(version.folder)
        standing = aliases(version.name)
    except (HeadInvalid, HeadNotFound) as error:
        return str(error)
    marks = [alias for alias, number in sorted(standing.items()) if number == version.number]
    return [
        str(version),
        ", ".join(marks),
        manifest.backbone,
        str(len(head.classes_)),
        f"{len(manifest.items):,}",
        _measured(head.kind, manifest.metrics),
        manifest.created[:10],
    ]


def _measured(kind: str, metrics: Mapping[str, float]) -> str:
    """Return a head's first measure, of test examples where there were some."""
    name = MEASURES[kind]
    found = [metrics[key] for key in (f"test_{name}", f"cv_{name}") if key in metrics]
    return f"{name.replace('_', ' ')} {found[0]:.3f}" if found else ""
