"""`headwater keys add|list|revoke`: who may call a server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from headwater.commands.counted import counted
from headwater.console import err, out
from headwater.keys import Role

if TYPE_CHECKING:
    from headwater.keys import Key

keys = typer.Typer(help="Say who may call a server: add, list and revoke API keys.", no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Option("--file", help="The file of keys; by default `HEADWATER_HOME/keys.json`.", envvar="HEADWATER_KEYS"),
]


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Who will hold it.")],
    role: Annotated[list[Role] | None, typer.Option(help="What it is for; may be given several times.")] = None,
    weight: Annotated[float, typer.Option(help="Share of a busy server beside the other keys.")] = 1.0,
    items_per_s: Annotated[float | None, typer.Option(help="Items a second in the long run; by default any.")] = None,
    burst: Annotated[
        int | None, typer.Option(help="Items at once after a rest; by default one second's, at least 64.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(help="Calls at once; by default any.")] = None,
    expires_days: Annotated[float | None, typer.Option(min=0.001, max=36_500, help="Days until it is refused.")] = None,
    file: File = None,
) -> None:
    """Make a key and print it: this once, for only its hash is kept.

    Example: `headwater keys add alice --role extract --role classify --items-per-s 200`
    """
    from headwater.keys import add as make

    path = file or _default_file()
    key = make(
        path,
        name,
        role or [],
        expires_in=timedelta(days=expires_days) if expires_days is not None else None,
        weight=weight,
        items_per_s=items_per_s,
        burst=burst,
        max_calls=max_calls,
    )
    out.print(key, soft_wrap=True, markup=False)
    err.print(
        f"key of {name} in {path}; it is shown this once\nserve with it: headwater serve --keys {path}",
        soft_wrap=True,
        markup=False,
    )


@keys.command("list")
def list_keys(file: File = None) -> None:
    """List the keys, with what each may do; no secret is kept, and so none is shown.

    Example: `headwater keys list`
    """
    from headwater.keys import read_keys

    table = Table()
    for title in ("name", "id", "roles", "state", "bounds", "created", "expires"):
        table.add_column(title, overflow="fold")
    for key in read_keys(file or _default_file()):
        table.add_row(*map(escape, _row(key)))
    out.print(table)


@keys.command()
def revoke(name_or_id: Annotated[str, typer.Argument(metavar="NAME-OR-ID")], file: File = None) -> None:
    """Refuse a key from now on; running servers see it within about a second.

    Example: `headwater keys revoke alice`
    """
    from headwater.keys import revoke as mark

    key = mark(file or _default_file(), name_or_id)
    err.print(f"the key {escape(key.name)} ({key.id}) is revoked")


def _default_file() -> Path:
    from extractor.home import home

    return home() / "keys.json"


def _row(key: "Key") -> tuple[str, ...]:
    return (
        key.name,
        key.id,
        " ".join(sorted(key.roles)),
        key.state(datetime.now(UTC)),
        _bounds(key),
        f"{key.created:%Y-%m-%d}",
        f"{key.expires:%Y-%m-%d}" if key.expires else "",
    )


def _bounds(key: "Key") -> str:
    bounds = [f"weight {key.weight:g}"]
    if key.items_per_s:
        bounds.append(f"{key.items_per_s:g} items/s, {key.bucket_size:,} at once")
    if key.max_calls:
        bounds.append(counted(key.max_calls, "call"))
    return "; ".join(bounds)
