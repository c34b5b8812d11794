"""What commands that need embeddings share: items -> outcomes, made here or by a server, with a bar on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from rich.progress import Progress as Bar

from headwater.console import err

if TYPE_CHECKING:
    from classifiers.embedding_set import EmbeddingSet
    from classifiers.persist import Manifest
    from classifiers.shards import DumpFacts
    from extractor.outcome import Outcome
    from headwater.examples import Examples
    from headwater.labelled import Columns, Labelled

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


RemoteOption = Annotated[bool, typer.Option(help="The head is the server's, not one under HEADWATER_HOME here.")]
LabelColumnOption = Annotated[str, typer.Option(help="Of a table.")]
ItemColumnOption = Annotated[str | None, typer.Option(help="Of a table; by default `text` or `path`.")]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="Of a dump: a `.csv`, `.jsonl` or `.parquet` with `key` and `label`, in place of its own."),
]
GroupColumnOption = Annotated[
    str | None, typer.Option(help="Of a table: of what belongs together, so that no fold divides it.")
]

MAX_BYTES = 1 << 30  # what a backbone has read is within its own limit


class Embedder(NamedTuple):
    """What makes embeddings: a backbone's name, fingerprint, dim and modality, and how it is asked for outcomes."""

    name: str
    fingerprint: str
    dim: int
    modality: str
    outcomes: "Callable[[Sequence[str | Path]], Iterator[Outcome]]"


class Embedded(NamedTuple):
    """Labelled embeddings, their items' keys in hexadecimal digits, and how many items failed and were left out."""

    examples: "Examples"
    keys: list[str]
    n_failed: int


@contextmanager
def embedder(backbone: str, server: str | None, access: dict[str, Any], cache: str | None) -> Iterator[Embedder]:
    """Open a backbone here, or a client of a server; what it does shows on a terminal."""
    with Bar(console=err, disable=not err.is_terminal) as bar:
        if server:
            from headwater.client import Client

            with Client(server, backbone=backbone, **access) as client:
                info = client.describe()
                facts = (info.name, info.fingerprint, info.dim, info.modality)
                yield Embedder(*facts, lambda items: _asked(client, items, bar))
        else:
            from extractor.pipeline import Extractor

            with Extractor.load(backbone or only_installed(), cache=cache) as own:
                facts = (own.spec.name, own.fingerprint, own.dim, own.spec.modality)
                yield Embedder(*facts, lambda items: _made(own, items, bar))


def embedded(source: Embedder, labelled: "Labelled") -> Embedded:
    """Embed labelled items; those that fail are named and left out."""
    import numpy as np

    from extractor.outcome import stack
    from headwater.examples import Examples

    outcomes = list(source.outcomes(labelled.items))
    good = [i for i, outcome in enumerate(outcomes) if _is_good(outcome, labelled.names[i])]
    X = stack([outcomes[i] for i in good], source.dim)
    every = Examples(np.arange(len(outcomes)), labelled.labels, labelled.items, labelled.names, labelled.groups)
    keys = [_key(source.fingerprint, labelled.items[i]) for i in good]
    return Embedded(replace(every.at(np.array(good, np.int64)), X=X), keys, len(outcomes) - len(good))


def dumped(path: Path, columns: "Columns", labels: Path | None, kind: str) -> tuple[Embedded, "DumpFacts"]:
    """Read labelled embeddings of a dump, with labels of their own or from a later file.

    Raises
    ------
    DumpInvalid
        It is no dump, or has no embedding.
    DataInvalid
        No row has a label, or one has none of its kind.
    InvalidLabels
        A row has no group.
    """
    from headwater import dumps
    from headwater.errors import DumpInvalid
    from headwater.examples import Examples
    from headwater.labelled import label_of

    facts, found = dumps.facts(path), dumps.opened(path)
    if not len(found):
        raise DumpInvalid(f"the dump {path} has no embedding; look at its column 'error', and dump it again")
    unnamed: frozenset[str] = frozenset()
    if labels is not None:
        found, unnamed = _joined(found, path, labels)
    found = _labelled(found, path, columns.label, kind, unnamed)
    groups = None if columns.group is None else found.groups(columns.group)
    keys = found.keys.tolist()
    cells = zip(found.column(columns.label).tolist(), keys, strict=True)
    every = [label_of(cell, kind, f"{path}, item {key!r},") for cell, key in cells]
    names = keys if found.has_keys else []
    return Embedded(Examples(found.X, every, names=names or None, groups=groups), names, len(found.errors)), facts


def _joined(found: "EmbeddingSet", path: Path, labels: Path) -> "tuple[EmbeddingSet, frozenset[str]]":
    """Join labels that came later, and return the keys that they do not name as well."""
    from classifiers.embedding_set import few

    found, without, unknown = found.join(labels)
    for keys, what in (
        (without, f"items of {path} are not in {labels}"),
        (unknown, f"keys of {labels} are in no row"),
    ):
        if keys:
            err.print(f"{len(keys):,} {what}: {few(keys)}", soft_wrap=True, markup=False)
    return found, frozenset(without)


def _labelled(found: "EmbeddingSet", path: Path, column: str, kind: str, unnamed: frozenset[str]) -> "EmbeddingSet":
    """Return the rows that are labelled; no label is an answer where there may be several, as it is in a table.

    Not so of a row that later labels do not name.
    """
    from headwater.errors import DataInvalid
    from headwater.labelled import MULTI

    none = (None,) if kind == MULTI else (None, "")
    there = [cell not in none for cell in found.column(column).tolist()]
    if not any(there):
        raise DataInvalid(f"no row of {path} has a {column!r}; give labels, by key, with --labels FILE")
    if kind == MULTI:
        n_labelled = sum(there)
        there = [one or key not in unnamed for one, key in zip(there, found.keys.tolist(), strict=True)]
        if n := sum(there) - n_labelled:
            err.print(f"{n:,} rows of {path} have no label, and are examples of none", soft_wrap=True, markup=False)
    if all(there):
        return found
    err.print(f"{there.count(False):,} rows of {path} have no label and are left out", soft_wrap=True, markup=False)
    return found.at([row for row, one in enumerate(there) if one])


def check_no_labels(labels: Path | None, data: Path) -> None:
    """Refuse labels for what is no dump."""
    from headwater.errors import DataInvalid

    if labels is not None:
        raise DataInvalid(f"--labels are for a dump that is read here, and {data} is none; leave them away")


def required(server: str | None) -> str:
    """Return the server's address, which `--remote` cannot do without."""
    from headwater.errors import DataInvalid

    if not server:
        raise DataInvalid("--remote asks a server, and none is named; add --server HOST:PORT")
    return server


def check_origin(backbone: str, fingerprint: str, manifest: "Manifest", head: str) -> None:
    """Refuse embeddings of another backbone than a head was trained on."""
    from extractor.errors import BackboneChanged

    if fingerprint != manifest.fingerprint:
        raise BackboneChanged(
            f"head {head!r} was trained on {manifest.backbone} {manifest.fingerprint}, and {backbone} is "
            f"{fingerprint} here; use the backbone that it was trained on, or train it again"
        )


def _key(fingerprint: str, item: str | Path) -> str:
    from extractor.cache import item_key
    from extractor.items import as_bytes

    return item_key(fingerprint, as_bytes(item, max_bytes=MAX_BYTES)).hex()


def _is_good(outcome: "Outcome", name: str) -> bool:
    if outcome.error is not None:
        err.print(f"[bold red]{escape(name)}:[/] {escape(str(outcome.error))}", soft_wrap=True)
    return outcome.error is None


def _asked(client: Any, items: Sequence[str | Path], bar: Bar) -> "Iterator[Outcome]":
    task = bar.add_task("extracting", total=len(items))
    return client.iter_outcomes(items, progress=lambda n, _: bar.update(task, completed=n))  # type: ignore[no-any-return]


def _made(extractor: Any, items: Sequence[str | Path], bar: Bar) -> "Iterator[Outcome]":
    return iter(bar.track(extractor.iter_outcomes(items), total=len(items), description="extracting"))


def installed_for(backbone: str) -> str:
    """Return the backbone here that may be the one of a dump: that of its name, or the only one.

    Raises
    ------
    BackboneNotFound
        There is none of its name.
    """
    from extractor.errors import BackboneNotFound
    from extractor.shelf import installed

    names = [folder.name for folder in installed()]
    if backbone in names:
        return backbone
    if len(names) == 1:  # by another name perhaps: its fingerprint tells
        return names[0]
    raise BackboneNotFound(
        f"the dump is of the backbone {backbone!r}, which is not installed here, only {', '.join(names) or 'none'}; "
        "name its folder with --backbone, or a server that has it with --server"
    )


def only_installed() -> str:
    """Return the name of the backbone here; raises BackboneNotNamed unless there is one alone."""
    from extractor.errors import BackboneNotNamed
    from extractor.shelf import installed

    names = [folder.name for folder in installed()]
    if len(names) == 1:
        return names[0]
    if names:
        raise BackboneNotNamed(f"several backbones are installed: {', '.join(names)}; name one with --backbone")
    raise BackboneNotNamed("no backbone is installed; make one: headwater export efficientnet-lite0")
