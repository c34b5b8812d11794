"""What commands that need embeddings share: items -> outcomes, made here or by a server, with a bar on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.progress import Progress as Bar

from headwater.console import err

if TYPE_CHECKING:
    from extractor.outcome import Outcome

ServerOption = Annotated[
    str | None, typer.Option(help="`host:port` of a running server to ask.", envvar="HEADWATER_SERVER")
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        help="Where embeddings made here are kept: `off`, `memory`, a folder, `redis://HOST:PORT/0`. "
        "By default the user's cache folder.",
        envvar="HEADWATER_CACHE",
    ),
]


class Embedder(NamedTuple):
    """The backbone that makes embeddings: its name, fingerprint and dim, and how it is asked for outcomes, in order."""

    name: str
    fingerprint: str
    dim: int
    outcomes: "Callable[[Sequence[str | Path]], Iterator[Outcome]]"


@contextmanager
def embedder(backbone: str, server: str | None, access: dict[str, Any], cache: str | None) -> Iterator[Embedder]:
    """Open a backbone here, or a client of a server; what it does shows on a terminal."""
    with Bar(console=err, disable=not err.is_terminal) as bar:
        if server:
            from headwater.client import Client

            with Client(server, backbone=backbone, **access) as client:
                info = client.describe()
                yield Embedder(info.name, info.fingerprint, info.dim, lambda items: _asked(client, items, bar))
        else:
            from extractor.pipeline import Extractor

            with Extractor.load(backbone or _only_installed(), cache=cache) as own:
                yield Embedder(own.spec.name, own.fingerprint, own.dim, lambda items: _made(own, items, bar))


def _asked(client: Any, items: Sequence[str | Path], bar: Bar) -> "Iterator[Outcome]":
    task = bar.add_task("extracting", total=len(items))
    return client.iter_outcomes(items, progress=lambda n, _: bar.update(task, completed=n))  # type: ignore[no-any-return]


def _made(extractor: Any, items: Sequence[str | Path], bar: Bar) -> "Iterator[Outcome]":
    return iter(bar.track(extractor.iter_outcomes(items), total=len(items), description="extracting"))


def _only_installed() -> str:
    from extractor.errors import BackboneNotNamed
    from extractor.shelf import installed

    names = [folder.name for folder in installed()]
    if len(names) == 1:
        return names[0]
    if names:
        raise BackboneNotNamed(f"several backbones are installed: {', '.join(names)}; name one with --backbone")
    raise BackboneNotNamed("no backbone is installed; make one: headwater export efficientnet-lite0")
