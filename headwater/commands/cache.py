"""`headwater cache stats|check|purge|export|import`: looks after the embeddings that are kept on disk or in Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headwater.commands.counted import counted
from headwater.console import err, out

if TYPE_CHECKING:
    from extractor.cache.store import Store
    from extractor.spec import Spec

cache = typer.Typer(
    help="Look after the embeddings that are kept: what there is, whether it is sound, and moving it elsewhere. "
    "Servers may use the cache meanwhile; what a running one finds in it is shown by `headwater top`.",
    no_args_is_help=True,
)

MIB = 1 << 20
UNKNOWN = "–"

Where = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="A folder, or `redis://HOST:PORT/0`. By default the user's cache folder.",
        envvar="HEADWATER_CACHE",
    ),
]
Bound = Annotated[
    int | None,
    typer.Option("--cache-mib", min=8, help="Its bound on disk (by default 8192).", envvar="HEADWATER_CACHE_MIB"),
]


@cache.command()
def stats(where: Where = None, max_mib: Bound = None) -> None:
    """Say how much is kept, against the bound, and of which backbones.

    Example: `headwater cache stats`
    """
    with _opened(where, max_mib=max_mib) as store:
        holdings, facts = store.holdings(), store.facts()
    names = {spec.fingerprint: spec.name for spec in _installed()}
    table = Table()
    for title in ("backbone", "fingerprint", "entries", "size"):
        table.add_column(title, overflow="fold", justify="right" if title in ("entries", "size") else "left")
    for one in holdings:
        name = escape(names.get(one.fingerprint, UNKNOWN))
        table.add_row(name, one.fingerprint, f"{one.n_entries:,}", _mib(one.n_bytes))
    if holdings:
        out.print(table)
    n_entries = sum(one.n_entries for one in holdings)
    n_bytes = sum(one.n_bytes for one in holdings) if facts.n_bytes is None else facts.n_bytes
    held = counted(n_entries, "entry", "entries")
    _say(f"{_shown(where)}: {held}, {_mib(n_bytes)}{_of_bound(n_bytes, facts.max_bytes)}")
    if facts.degraded:
        err.print(f"[yellow]degraded:[/] {escape(facts.degraded)}", soft_wrap=True)


@cache.command()
def check(where: Where = None) -> None:
    """Read every entry, and drop those that are not what was stored; exit code 1 if there were any.

    Example: `headwater cache check`
    """
    with _opened(where) as store, err.status("checking"):
        found = store.check()
    _say(f"{_shown(where)}: {counted(found.n_rows, 'entry', 'entries')} read, {found.n_spoilt:,} spoilt and dropped")
    if found.n_astray:
        _say(f"{found.n_astray:,} entries that the order of age did not have, or had without need, are mended")
    if found.n_spoilt or found.n_astray:
        raise typer.Exit(1)


@cache.command()
def purge(
    backbone: Annotated[str, typer.Argument(help="Name, folder or fingerprint: its entries are dropped.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Drop the entries of every backbone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    where: Where = None,
) -> None:
    """Drop the entries of a backbone, or all; they are computed anew when they are asked for.

    Example: `headwater cache purge minilm-l6`
    """
    if bool(backbone) == everything:
        raise typer.BadParameter("name one backbone, or say --all to drop everything")
    fingerprint = _fingerprint(backbone) if backbone else None
    what = f"the entries of {backbone}" if backbone else "every entry"
    with _opened(where) as store:
        if not yes:
            typer.confirm(f"Drop {what} in {_shown(where)}?", abort=True, err=True)
        with err.status("purging"):
            n_dropped = store.purge(fingerprint)
    _say(f"{_shown(where)}: {counted(n_dropped, 'entry', 'entries')} dropped")


@cache.command("export")
def export_entries(
    file: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    backbone: Annotated[str, typer.Option(help="Name, folder or fingerprint; by default all.")] = "",
    where: Where = None,
) -> None:
    """Write the entries to a Parquet file, for another machine.

    Example: `headwater cache export warm.parquet --backbone minilm-l6`
    """
    from extractor.cache import parquet

    fingerprint = _fingerprint(backbone) if backbone else None
    with _opened(where) as store, _progress("exporting") as progress:
        n_entries = _number_of(store, fingerprint)
        task = progress.add_task("exporting", total=n_entries)
        n_rows = parquet.write(store, file, fingerprint=fingerprint, told=lambda n: progress.advance(task, n))
    _say(f"{counted(n_rows, 'entry', 'entries')} in {file}, {_mib(file.stat().st_size)}")


@cache.command("import")
def import_entries(
    file: Annotated[Path, typer.Argument(help="A file that `headwater cache export` wrote.")],
    where: Where = None,
    max_mib: Bound = None,
) -> None:
    """Take in the entries of a Parquet file; those that are not what was exported are left out, and counted.

    Example: `headwater cache import warm.parquet`
    """
    from extractor.cache import parquet

    dims = {spec.fingerprint: spec.dim for spec in _installed()}
    n_rows = parquet.n_rows(file)
    with _opened(where, max_mib=max_mib, begin=True) as store, _progress("importing") as progress:
        task = progress.add_task("importing", total=n_rows)
        done = parquet.read(store, file, dims=dims, told=lambda n: progress.advance(task, n))
        facts = store.facts()
    _say(f"{_shown(where)}: {done.n_stored:,} of {counted(done.n_rows, 'entry', 'entries')} taken in")
    if facts.evicted:
        _say(f"{facts.evicted:,} older entries made room; more are kept with a larger --cache-mib")
    if done.n_malformed:
        err.print(f"{done.n_malformed:,} entries were malformed and are left out; export them again")
    if done.n_refused:
        err.print(f"{done.n_refused:,} entries were refused: {facts.degraded or 'there is no room'}", soft_wrap=True)
    if done.n_malformed or done.n_refused:
        raise typer.Exit(1)


@contextmanager
def _opened(where: str | None, *, max_mib: int | None = None, begin: bool = False) -> "Iterator[Store]":
    from extractor.cache.opened import disk_errors, open_store

    store = open_store(where, max_mib=max_mib, begin=begin)
    try:
        with disk_errors(where):
            yield store
    finally:
        store.close()


def _progress(what: str) -> Progress:
    return Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err)


def _number_of(store: "Store", fingerprint: str | None) -> int | None:
    if fingerprint is None:
        return store.facts().n_entries
    return sum(one.n_entries for one in store.holdings() if one.fingerprint == fingerprint)


def _fingerprint(backbone: str) -> str:
    """Return the fingerprint that was given, or that of the backbone that was named."""
    from extractor.shelf import find_backbone
    from extractor.spec import read_spec

    given = backbone.lower()
    if len(given) == 32 and not set(given) - set("0123456789abcdef"):
        return given
    return read_spec(find_backbone(backbone)).fingerprint


def _installed() -> "list[Spec]":
    """Return the facts of the installed backbones that can be read; the broken ones are for `headwater backbones`."""
    from extractor.errors import BackboneError
    from extractor.shelf import installed
    from extractor.spec import read_spec

    specs = []
    for folder in installed():
        try:
            specs.append(read_spec(folder))
        except BackboneError:
            continue
    return specs


def _shown(where: str | None) -> str:
    from extractor.cache.opened import shown

    return shown(where)


def _of_bound(n_bytes: int, max_bytes: int | None) -> str:
    return f" of {_mib(max_bytes)} ({n_bytes / max_bytes:.1%})" if max_bytes else ""


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / MIB:,.1f} MiB"


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)
