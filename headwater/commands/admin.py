"""`headwater admin`: changes to a running server: load, unload, replace, drain, log-level, status."""

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from headwater.admin_client import AdminClient
from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.console import err, out
from headwater.v1 import admin_pb2 as pb

admin = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="BACKBONE", help="Its name; it is installed on the server's machine.")]
Server = Annotated[str, typer.Option(help="`host:port` of the running server.", envvar="HEADWATER_SERVER")]
LOCAL = "127.0.0.1:50051"
NONE = "–"


@admin.callback()
def access(
    context: typer.Context,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Change what a running server serves, without dropping a request.

    Example: `headwater admin load minilm-l6 --server 127.0.0.1:50051`
    """
    context.obj = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}


@admin.command()
def load(context: typer.Context, name: Name, server: Server = LOCAL) -> None:
    """Serve an installed backbone beside the others.

    Example: `headwater admin load minilm-l6`
    """
    with AdminClient(server, **context.obj) as client:
        backbone = client.load(name)
    _say(f"{server} now serves {name}: {backbone.provider}, fingerprint {backbone.fingerprint}")


@admin.command()
def unload(context: typer.Context, name: Name, server: Server = LOCAL) -> None:
    """Serve a backbone no longer; the requests that run on it are finished.

    Example: `headwater admin unload minilm-l6`
    """
    with AdminClient(server, **context.obj) as client:
        users = client.unload(name)
    _say(f"{server} no longer serves {name}; requests that still run on it: {users}")


@admin.command()
def replace(
    context: typer.Context,
    name: Name,
    server: Server = LOCAL,
    expected_fingerprint: Annotated[
        str, typer.Option(help="What the new one must have; by default what the old one has.")
    ] = "",
    allow_new_fingerprint: Annotated[
        bool, typer.Option("--allow-new-fingerprint", help="Take any: embeddings made before do not match new ones.")
    ] = False,
) -> None:
    """Load a served backbone anew from its folder, and swap once it has proved itself.

    Example: `headwater admin replace minilm-l6`
    """
    with AdminClient(server, **context.obj) as client:
        done = client.replace(
            name, expected_fingerprint=expected_fingerprint, allow_new_fingerprint=allow_new_fingerprint
        )
    new = done.backbone.fingerprint
    _say(
        f"{server} replaced {name}, fingerprint {new}"
        + (f", before {done.old_fingerprint}" * (new != done.old_fingerprint))
    )


@admin.command()
def drain(
    context: typer.Context,
    server: Server = LOCAL,
    timeout_s: Annotated[
        float | None, typer.Option(min=0, help="Seconds that running calls have; by default the server's --drain-s.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End the server's process afterwards.")] = False,
) -> None:
    """Let a server take no more work, and wait until that which runs has ended.

    Example: `headwater admin drain --stop`
    """
    with AdminClient(server, **context.obj) as client:
        done = client.drain(timeout_s=timeout_s, stop=stop)
    end = "and stops" if stop else "and stays up; it takes no more work until it is started again"
    if done.quiet:
        _say(f"{server} is quiet {end}")
        return
    err.print(f"{server} is drained {end}; calls that did not finish in time: {done.running_calls}", soft_wrap=True)
    raise typer.Exit(1)


@admin.command()
def log_level(
    context: typer.Context,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="debug, info, warning or error.")],
    server: Server = LOCAL,
    logger: Annotated[str, typer.Option(help="`extractor.batcher`, say; by default all of Headwater's.")] = "",
) -> None:
    """Set the level of a server's log, until it ends.

    Example: `headwater admin log-level debug --logger headwater`
    """
    with AdminClient(server, **context.obj) as client:
        old = client.set_log_level(level, logger=logger)
    _say(f"{server} logs {logger or 'everything'} at {level.lower()}, before at {old}")


@admin.command()
def status(context: typer.Context, server: Server = LOCAL) -> None:
    """Say how a server and each of its backbones are.

    Example: `headwater admin status`
    """
    with AdminClient(server, **context.obj) as client:
        found = client.status()
    table = Table()
    for title in ("name", "state", "provider", "fingerprint", "loaded", "requests", "queued", "longest"):
        table.add_column(title, overflow="fold")
    for one in found.backbones:
        loaded = datetime.fromtimestamp(one.loaded_at.seconds).astimezone().isoformat(sep=" ", timespec="seconds")
        state = "serving" if one.serving else "not serving"
        table.add_row(
            one.name,
            state,
            one.provider,
            one.fingerprint,
            loaded,
            str(one.users),
            str(one.queued_items),
            f"{one.longest_s:.1f} s",
        )
    out.print(table)
    if found.cache_tiers:
        out.print(_cache_table(found))
    state = "draining" if found.draining else "up"
    _say(f"{server}: headwater {found.version}, {state}; running calls: {found.running_calls}")
    for tier in found.cache_tiers:
        if tier.degraded:
            _say(f"the cache's {tier.tier} tier is degraded: {tier.degraded}")
    if found.changing or found.leaving:
        _say(f"changing: {', '.join(found.changing) or 'none'}; replaced or unloaded, still finishing: {found.leaving}")


def _cache_table(found: pb.GetServerStatusResponse) -> Table:
    table = Table()
    for title in ("cache", "state", "entries", "size", "bound", "hits", "misses", "stored", "dropped"):
        table.add_column(title, overflow="fold")
    for one in found.cache_tiers:
        table.add_row(
            one.tier,
            "degraded" if one.degraded else "ok",
            f"{one.entries:,}" if one.HasField("entries") else NONE,
            _mib(one.bytes) if one.HasField("bytes") else NONE,
            _mib(one.max_bytes) if one.HasField("max_bytes") else NONE,
            *(f"{number:,}" for number in (one.hits, one.misses, one.stored, one.dropped)),
        )
    return table


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 20):,.1f} MiB"


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)
