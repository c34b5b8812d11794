"""`headwater dump`: a folder, table, archive or data set -> Parquet shards of embeddings, resumable."""

import re
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress import Progress as Bar
from typer.core import TyperCommand

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.counted import counted
from headwater.commands.dumped import told
from headwater.commands.embed import CacheOption, installed_for, only_installed
from headwater.commands.given import check_access, given, refuse, refuse_all_but
from headwater.console import err, out

if TYPE_CHECKING:
    from extractor.dump.counts import Counts
    from extractor.dump.manifest import Manifest, Origin
    from extractor.dump.verb import StreamingVerb
    from extractor.sources import Source

LOG_S = 30.0  # between two lines where there is no terminal
MIB = 1 << 20
LOCAL_RAY = "local"
RAY_ADDRESS = re.compile(rf"{LOCAL_RAY}|auto|(ray://)?[^/]+:\d+")
OF_SOURCE = ("--pattern", "--item-column", "--path-column", "--label-column", "--carry-text")
DTYPES = ("float32", "float16")
MAX_SAID = 300  # characters of an item's error
URL = re.compile(r"[A-Za-z][\w+.-]+:/")  # of whose slashes a Path leaves one
_SIGNALLED = 128  # and the signal's number: what a shell gives for a program that a signal ended


class DumpCommand(TyperCommand):
    """Lets `--ray` stand without an address, wherever it stands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare `--ray` the address of a Ray that is started here."""
        following = [*args[1:], ""]
        given = (
            f"{arg}={LOCAL_RAY}" if arg == "--ray" and not RAY_ADDRESS.fullmatch(after) else arg
            for arg, after in zip(args, following, strict=True)
        )
        return super().parse_args(ctx, list(given))


def dump(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a `.csv`, `.jsonl`, `.parquet` or `.tar`, a folder of `.tar`, `.parquet` or `.arrow`, "
            "a URL of one (`s3://…`), or `-` for a list of paths on stdin.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="The dump's folder; with --check and --retry-errors alone it stands first."),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="Name or folder; by default that of OUT, or the only one.", envvar="HEADWATER_BACKBONE")
    ] = "",
    dtype: Annotated[
        str | None, typer.Option(help="`float32` or `float16`; by default as in OUT already, else `float32`.")
    ] = None,
    pattern: Annotated[str, typer.Option(help="Of a folder's files, where they are the items: `*.jpg`.")] = "*",
    item_column: Annotated[
        str | None, typer.Option(help="Of a table: of texts or bytes; by default `text`, or the one of bytes.")
    ] = None,
    path_column: Annotated[
        str | None, typer.Option(help="Of a table: of paths; by default `path`, where there is no `text`.")
    ] = None,
    label_column: Annotated[str, typer.Option(help="Of a table, where there is one.")] = "label",
    carry_text: Annotated[
        bool, typer.Option("--carry-text", help="Of a table of texts: keep them beside their embeddings.")
    ] = False,
    urls: Annotated[
        bool, typer.Option("--urls", help="Read the URLs that a table or a list names: where it is trusted.")
    ] = False,
    npy: Annotated[
        bool, typer.Option("--npy", help="Also write `embeddings.npy` and `embeddings.jsonl`, its keys and labels.")
    ] = False,
    moved: Annotated[bool, typer.Option("--moved", help="SOURCE is what was dumped, at another place now.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify OUT, and change nothing.")] = False,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Ask again for the items that failed.")] = False,
    server: Annotated[
        list[str] | None,
        typer.Option(help="`host:port` of a running server to ask; several share the work.", envvar="HEADWATER_SERVER"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Embed on a Ray cluster: `auto`, `host:port`; without an address on a Ray that is started here.",
        ),
    ] = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Embed every item of SOURCE into Parquet files in OUT; run it again to go on where it stopped, or for new items.

    A failed item is a row with its error. What is done is committed every few seconds, and by SIGINT and SIGTERM, after
    which the exit code is 130 or 143. The source is never written to. A file that has changed since it was dumped is
    told of and not done again; a table that has is refused, unless rows were only added.

    Example: `headwater dump photos/ embedded/ --backbone efficientnet-lite0`
    """
    if dtype not in (None, *DTYPES):
        raise typer.BadParameter(f"--dtype is {dtype!r}; take {' or '.join(DTYPES)}")
    if target is None and not (check or retry_errors):
        raise typer.BadParameter("name SOURCE and OUT")
    _check_apart({"--check": check, "--retry-errors": retry_errors}, "the one changes nothing")
    servers = _asked(context, server or [], ray)
    _check_apart({"a server": bool(servers), "Ray": bool(ray)}, "either does the work")
    _check_apart({"--item-column": item_column is not None, "--path-column": path_column is not None}, "one has items")
    _check_used(context, servers, check=check, retry=retry_errors, alone=target is None)
    path = Path(source) if target is None else target
    if URL.match(str(path)):
        raise typer.BadParameter(f"OUT is {path}, and a dump is written to a folder of this machine; name one")
    if check:
        _check(path)
        return
    there = _origin_of(path, must_be=retry_errors)
    from extractor.dump.npy import write_npy
    from extractor.sources import Options, open_source

    options = Options(item=item_column, path=path_column, label=label_column, carry_text=carry_text, urls=urls)
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    with _told_of_signals() as signals:
        with _verb(backbone, there, servers, ray, cache, access) as verb:
            if target is None:
                items = _source_of(path, verb.modality, urls=urls)
            else:
                items = open_source(source, options=options, pattern=pattern, modality=verb.modality)
            signals.take()
            signals.at_work = True
            counts = _run(items, path, verb, signals.stop, dtype=dtype, moved=moved, retry=retry_errors)
        _tell(path, counts, retried=retry_errors)
    _check_any(path)
    if npy:
        for file in write_npy(path):
            out.print(str(file), soft_wrap=True, markup=False)


def _asked(context: typer.Context, servers: list[str], ray: str | None) -> list[str]:
    """Return the servers that are meant: those of the environment are for other commands as well, and yield to Ray."""
    return servers if ray is None or "--server" in given(context) else []


def _check_apart(given: dict[str, bool], why: str) -> None:
    if all(given.values()):
        raise typer.BadParameter(f"name {' or '.join(given)}, not both: {why}")


def _check_used(context: typer.Context, servers: list[str], *, check: bool, retry: bool, alone: bool) -> None:
    """Refuse options that would be ignored."""
    if check:
        refuse_all_but(context, "--check", because="--check reads OUT alone")
    if retry:
        refuse(context, "--dtype", because="--retry-errors keeps the precision of OUT")
    if retry and alone:
        refuse(context, *OF_SOURCE, because="OUT says how its source is read")
        refuse(context, "--moved", because="no SOURCE is named that could be elsewhere now")
    check_access(context, servers)


@contextmanager
def _verb(
    backbone: str,
    there: "Origin | None",
    servers: list[str],
    ray: str | None,
    cache: str | None,
    access: dict[str, Any],
) -> "Iterator[StreamingVerb]":
    """Open a backbone here or on Ray, by default that of OUT, or clients of servers."""
    with ExitStack() as stack:
        if servers:
            from headwater.client import Client
            from headwater.spread import Spread

            yield Spread([stack.enter_context(Client(one, backbone=backbone, **access)) for one in servers])
            return
        name = backbone or (installed_for(there.backbone) if there else only_installed())
        if ray:
            from extractor.dump.on_ray import RayVerb

            yield stack.enter_context(RayVerb(name, address=ray, cache=cache))
        else:
            from extractor.dump.verb import LocalVerb
            from extractor.pipeline import Extractor

            yield LocalVerb(stack.enter_context(Extractor.load(name, cache=cache)))


class _Signals:
    """SIGINT and SIGTERM: the first stops a dump at work, or ends what comes before it; the second ends all."""

    def __init__(self) -> None:
        self.stop = Event()
        self.at_work = False
        self.by: signal.Signals | None = None
        self._former: dict[int, Any] = {}

    def take(self) -> None:
        """Have them told to this, whoever took them meanwhile, as Ray does when it starts."""
        for one in (signal.SIGINT, signal.SIGTERM):
            self._former.setdefault(one, signal.signal(one, self._on_signal))

    def give_back(self) -> None:
        """Have them told to whoever had them before."""
        for one, former in self._former.items():
            signal.signal(one, former)

    def _on_signal(self, number: int, _: object) -> None:
        self.by = signal.Signals(number)
        self.stop.set()
        signal.alarm(0)  # a Ray that is just starting has had SIGTERM before, and would abort the process after 3 s
        self.give_back()
        if not self.at_work:
            raise KeyboardInterrupt


@contextmanager
def _told_of_signals() -> Iterator[_Signals]:
    """Say at the end which signal it was, with the exit code that a shell gives for it."""
    signals = _Signals()
    signals.take()
    try:
        yield signals
    except KeyboardInterrupt:
        if signals.by is None or signals.at_work:  # it is the second
            raise
    except SystemExit as ended:
        if ended.code != signal.SIGTERM:
            raise
        signals.by = signal.SIGTERM  # which Ray took, between its start and ours
    finally:
        signals.give_back()
    if signals.by is not None:
        err.print(f"stopped by {signals.by.name}: what was done is committed; run it again to go on", soft_wrap=True)
        raise typer.Exit(_SIGNALLED + signals.by)


def _origin_of(path: Path, *, must_be: bool) -> "Origin | None":
    """Return what a dump is of; None where there is no dump yet."""
    from extractor.dump.manifest import read_manifest
    from extractor.errors import DumpSpoilt

    try:
        return read_manifest(path).origin
    except FileNotFoundError:
        if not must_be:
            return None
        said = "has no manifest.json" if path.exists() else "is not there"
        raise DumpSpoilt(f"{path} {said}; name the folder of a dump") from None


def _retry_of(path: Path, source: Mapping[str, Any]) -> str:
    """Return the command that asks again for what failed."""
    if source["kind"] == "list":
        return f"headwater dump --retry-errors - {shlex.quote(str(path))}, with the list on stdin"
    return f"headwater dump --retry-errors {shlex.quote(str(path))}"


def _source_of(path: Path, modality: str, *, urls: bool) -> "Source":
    """Return the source that a dump says it is of."""
    from extractor.dump.manifest import read_manifest
    from extractor.errors import SourceInvalid
    from extractor.sources import Options, open_source
    from extractor.sources.folder import EVERY

    facts = read_manifest(path).source
    if facts["kind"] == "list":
        raise SourceInvalid(f"the dump in {path} is of a list on stdin; give it again: {_retry_of(path, facts)}")
    options = Options(
        item=facts.get("item"),
        path=facts.get("path"),
        label=facts.get("label", "label"),
        carry_text=facts.get("carry_text", False),
        urls=urls,
    )
    return open_source(facts["place"], options=options, pattern=facts.get("pattern", EVERY), modality=modality)


def _run(
    items: "Source", path: Path, verb: "StreamingVerb", stop: Event, *, dtype: str | None, moved: bool, retry: bool
) -> "Counts":
    from extractor.dump.retry import retry_errors
    from extractor.dump.run import dump as run

    with _shown() as told:
        if retry:
            return retry_errors(items, path, verb, moved=moved, stop=stop, told=told)
        return run(items, path, verb, dtype=dtype, moved=moved, stop=stop, told=told)


@contextmanager
def _shown() -> Iterator[Any]:
    """Give what shows counts: a bar on a terminal, else a line now and then."""
    if not err.is_terminal:
        yield _Log().show
        return
    columns = (TextColumn("dumping"), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda counts: _update(bar, task, counts)


def _update(bar: Bar, task: Any, counts: "Counts") -> None:
    bar.update(task, completed=counts.skipped + counts.done, total=counts.total, description=_line(counts))


class _Log:
    """Writes a line to stderr every now and then."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def show(self, counts: "Counts") -> None:
        """Write one if it is time."""
        if time.monotonic() - self._at >= LOG_S:
            self._at = time.monotonic()
            err.print(_line(counts), soft_wrap=True, markup=False)


def _line(counts: "Counts") -> str:
    of = f" of {counts.total:,}" if counts.total is not None else ""
    left = "" if counts.left_s is None else f", {_duration(counts.left_s)} left"
    return (
        f"{counts.skipped + counts.done:,}{of} items, {counts.rate:,.0f}/s{left}, {counted(counts.errors, 'error')}, "
        f"{counts.cached:,} cached, {counts.read_bytes / MIB:,.1f} MiB"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _tell(path: Path, counts: "Counts", *, retried: bool) -> None:
    """Say what was done, what was not, and where the time went."""
    from extractor.dump.manifest import read_manifest

    lines = [_asked_again(path, counts)] if retried else _embedded(path, counts)
    lines += _noted(path, counts, read_manifest(path))
    lines.append(f"{counts.rate:,.0f} items/s; {counts.where_time_went()}")
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)


def _asked_again(path: Path, counts: "Counts") -> str:
    if not counts.total:
        return f"no row of {path} has an error, so there is nothing to ask for again"
    n_failed = counts.errors + counts.overflowed
    n_good = counts.done - n_failed
    has = counted(n_good, "has", "have")
    return f"{counted(counts.done, 'item')} asked for again: {has} an embedding now, {n_failed:,} failed again"


def _embedded(path: Path, counts: "Counts") -> list[str]:
    before = f", {counted(counts.skipped, 'was', 'were')} there before" if counts.skipped else ""
    n_failed = counts.errors + counts.overflowed
    good = counted(counts.done - n_failed, "embedding")
    return [
        f"{counted(counts.committed, 'row')} in {counted(counts.shards, 'shard')} in {path}, "
        f"{counts.written_bytes / MIB:,.1f} MiB{before}",
        f"{good} ({counts.cached:,} from the cache) and {counted(n_failed, 'error')}",
    ]


def _check_any(path: Path) -> None:
    """Fail where all rows are errors, for what was to come after it."""
    from extractor.dump.manifest import read_manifest

    manifest = read_manifest(path)
    if 0 < manifest.rows == manifest.errors:
        err.print(
            f"no row of {path} has an embedding; is it the backbone that was meant?", soft_wrap=True, markup=False
        )
        raise typer.Exit(1)


def _noted(path: Path, counts: "Counts", manifest: "Manifest") -> list[str]:
    """Return a line for each thing that a person should know of."""
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(counts.kinds.items()))
    changed = told(counts.first_changed)
    key, said = counts.first_error or ("", "")
    former = manifest.errors - counts.errors - counts.overflowed
    before = counted(former, "row that was there before has", "rows that were there before have")
    truncated = counted(counts.truncated, "item was longer", "items were longer")
    vanished = counted(counts.vanished, "row is of an item", "rows are of items")
    files = counted(counts.changed, "file has changed since it was", "files have changed since they were")
    return [
        line
        for n, line in (
            (
                manifest.complete and not manifest.rows,
                f"{_named(manifest.source)} has no item; is it what was meant?",
            ),
            (counts.errors, f"errors: {kinds}; the first is {told(key)}: {told(said, MAX_SAID)}"),
            (former > 0, f"{before} an error"),
            (manifest.errors, f"see column `error`; ask again for them: {_retry_of(path, manifest.source)}"),
            (
                counts.overflowed,
                f"{counted(counts.overflowed, 'embedding has', 'embeddings have')} values that float16 cannot hold; "
                "dump float32 to have them",
            ),
            (counts.truncated, f"{truncated} than the backbone reads, and the end was left out"),
            (counts.vanished, f"{vanished} that the source no longer has; what is dumped stays"),
            (
                counts.changed,
                f"{files} dumped, the first is {changed}; what is dumped stays as it was: "
                "dump to another folder for new rows",
            ),
        )
        if n
    ]


def _named(source: Mapping[str, Any]) -> str:
    """Return what a source is called, with what its files' names have to be like."""
    pattern = source.get("pattern", "*")
    if source["kind"] == "list":
        return "the list on stdin"
    return f"{source['place']}{'' if pattern == '*' else f', of files that are like {pattern!r},'}"


def _check(path: Path) -> None:
    from extractor.dump.verify import check

    with err.status("checking"):
        found = check(path)
    for problem in found.problems:
        err.print(problem, soft_wrap=True, markup=False)
    manifest = found.manifest
    whole = "complete" if manifest.complete else "not complete: run the dump again to go on"
    out.print(
        f"{path}: {counted(manifest.rows, 'row')}, {counted(manifest.errors, 'error')} among them, in "
        f"{counted(len(manifest.shards), 'shard')}, "
        f"{manifest.origin.backbone} {manifest.origin.fingerprint}; {whole}",
        soft_wrap=True,
        markup=False,
    )
    if found.at_work:
        out.print("a dump is at work there; what it had committed was checked")
    if found.problems:
        err.print(counted(len(found.problems), "problem"))
        raise typer.Exit(1)
