"""`headwater top`: the metrics of a running server -> a live view in the terminal."""

import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headwater.console import out
from headwater.errors import MetricsUnreachable
from headwater.exposure import is_loopback
from headwater.top import CacheRow, Scrape, backbone_rows, cache_rows, method_rows, parse, server_facts

PORT = 9464
TIMEOUT_S = 5.0
MAX_BYTES = 16 << 20
NONE = "–"


def top(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="`host:port` of `--metrics-port`, or its URL. [default: 127.0.0.1:9464]"),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(min=1, max=65535, help="On this machine, without TARGET.", envvar="HEADWATER_METRICS_PORT")
    ] = PORT,
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view, of one interval, and end.")] = False,
) -> None:
    """Show what a server does now, read from its metrics port; Ctrl-C ends it.

    Example: `headwater serve --metrics-port 9464`, and beside it `headwater top`
    """
    url = _url(target or f"127.0.0.1:{metrics_port}")
    if once:
        before = _scrape(url)
        time.sleep(interval_s)
        out.print(_view(before, _scrape(url)))
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        for view in views(url):
            live.update(view, refresh=True)
            time.sleep(interval_s)


def views(url: str) -> Iterator[RenderableType]:
    """Scrape at each step and yield what there is to see; a server that is not there is a line, and tried again."""
    before: Scrape | None = None
    while True:
        try:
            after = _scrape(url)
        except MetricsUnreachable as error:
            before = None
            yield Text(f"{error}; trying again")
            continue
        yield _view(before, after) if before else Text(f"measuring {url}")
        before = after


def _url(target: str) -> str:
    url = target if "://" in target else f"http://{target}/metrics"
    if not url.startswith(("http://", "https://")):
        raise MetricsUnreachable(f"{target!r} is neither host:port nor an http:// or https:// URL")
    return url


def _scrape(url: str) -> Scrape:
    try:
        here = is_loopback(urlsplit(url).hostname or "")  # no proxy stands between this machine and itself
        opener = build_opener(*([ProxyHandler({})] if here else []))
        with opener.open(url, timeout=TIMEOUT_S) as reply:
            scrape = parse(reply.read(MAX_BYTES).decode(), time.monotonic())
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise MetricsUnreachable(
            f"no metrics at {url} ({reason}): is the server up, with `headwater serve --metrics-port`?"
        ) from None
    if "headwater_running_calls" not in scrape.samples:
        raise MetricsUnreachable(f"{url} answers, but is no Headwater server's metrics; see what its start printed")
    return scrape


def _view(before: Scrape, after: Scrape) -> RenderableType:
    tiers = cache_rows(before, after)
    trouble = [Text(f"{row.tier} cache degraded: {row.degraded}", "yellow") for row in tiers if row.degraded]
    cache = [_cache(tiers)] if tiers else []
    return Group(_backbones(before, after), _methods(before, after), *cache, *trouble, _footer(after))


def _backbones(before: Scrape, after: Scrape) -> Table:
    table = _table("backbone", "state", "items/s", "cached", "err/s", "queue", "oldest", "batch", "padding")
    for row in backbone_rows(before, after):
        table.add_row(
            row.backbone,
            "ok" if row.serving else "[bold red]DOWN[/]",
            f"{row.items_per_s:,.1f}",
            _percent(row.cached_share),
            f"{row.errors_per_s:,.1f}",
            f"{row.queue_items:,}",
            _time(row.queue_oldest_s),
            NONE if row.batch_mean is None else f"{row.batch_mean:.1f}",
            _percent(row.padding_share),
        )
    return table


def _methods(before: Scrape, after: Scrape) -> Table:
    table = _table("method", "calls/s", "failed/s", "p50", "p99")
    for row in method_rows(before, after):
        rates = (f"{row.calls_per_s:,.1f}", f"{row.failed_per_s:,.1f}")
        table.add_row(row.method, *rates, _time(row.p50_s), _time(row.p99_s))
    return table


def _cache(rows: list[CacheRow]) -> Table:
    table = _table("cache", "state", "entries", "MiB", "of", "look-ups/s", "hits", "dropped/s")
    for row in rows:
        table.add_row(
            row.tier,
            "[bold yellow]degraded[/]" if row.degraded else "ok",
            NONE if row.entries is None else f"{row.entries:,}",
            _mib(row.n_bytes),
            _mib(row.max_bytes),
            f"{row.look_ups_per_s:,.1f}",
            _percent(row.hit_share),
            f"{row.dropped_per_s:,.1f}",
        )
    return table


def _footer(after: Scrape) -> Text:
    facts = server_facts(after)
    return Text(f"{facts.running_calls:,} calls run, {_mib(facts.memory_bytes)} MiB of memory")


def _mib(n_bytes: float | None) -> str:
    return NONE if n_bytes is None else f"{n_bytes / (1 << 20):,.1f}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)  # so that a row fits 80 columns
    table.add_column(first, overflow="fold", min_width=16)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.0%}"
