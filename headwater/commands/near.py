"""`headwater near`: a dump and a file, a text or one of its items -> the nearest items of the dump."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.dumped import TEXT, DumpArgument, facts_of, name_of, opened, show, told, write_json
from headwater.commands.embed import CacheOption, ServerOption, embedder, installed_for
from headwater.commands.given import ACCESS, check_access, refuse
from headwater.console import err, out

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from classifiers.embedding_set import EmbeddingSet
    from headwater.commands.embed import Embedder

SPARE = 16  # rows that an index gives beyond what is asked, for the embeddings themselves decide the order


def near(
    context: typer.Context,
    dump: DumpArgument,
    query: Annotated[
        Path | None, typer.Argument(metavar="QUERY", help="An image, or a file that holds one text.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text itself.")] = None,
    item: Annotated[
        str | None, typer.Option(help="The key of an item of the dump; it is not its own neighbour.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, max=10_000, help="How many.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object a line, for programs: `key`, `label`, `row`, `cosine`.")
    ] = False,
    backbone: Annotated[str, typer.Option(help="Name or folder; by default the name of the dump's.")] = "",
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Find the items of a dump that are nearest to a file, a text, or one of them, by cosine; all are compared.

    Example: `headwater near embedded/ cat.jpg -k 5`
    """
    if sum(one is not None for one in (query, text, item)) != 1:
        raise typer.BadParameter("there must be one query; name a file, or give --text or --item")
    if item is not None:
        refuse(context, "--backbone", "--server", "--cache", *ACCESS, because="the embedding of --item is in the dump")
    check_access(context, server)
    if query is not None:
        _check_file(query)
    found = opened(dump)
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    if item is not None:
        row = _row_of(found, item)
        rows, cosines = _nearest(dump, found, found.matrix[found.rows[row]], k + 1)
        kept = rows != row
        rows, cosines = rows[kept][:k], cosines[kept][:k]
    else:
        asked = str(text) if query is None else query
        rows, cosines = _nearest(dump, found, _embedded(dump, found, asked, backbone, server, access, cache), k)
    hits = [
        {**facts_of(found, row), "cosine": cosine} for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True)
    ]
    if as_json:
        for hit in hits:
            write_json(hit)
        return
    if not hits:
        out.print(f"{dump} has no other item", soft_wrap=True, markup=False)
        return
    show(
        ("cosine", "label", "item", "row"),
        [(f"{hit['cosine']:.4f}", hit.get("label"), name_of(hit), f"{hit['row']:,}") for hit in hits],
        right=("cosine", "row"),
    )


def _check_file(query: Path) -> None:
    """Say that a text is not named as a file is."""
    from headwater.errors import DataInvalid

    if not query.is_file():
        said = "a folder" if query.is_dir() else "not there"
        raise DataInvalid(f"the file {str(query)!r} is {said}; name a file, or say --text for a text itself")


def _check_modality(source: "Embedder", query: str | Path) -> None:
    """Refuse a text where the dump is not of texts, and a picture or sound where it is."""
    from headwater.errors import DataInvalid

    of = f"the dump is of {source.name}, whose items are of modality {source.modality}"
    if isinstance(query, str) and source.modality != TEXT:
        raise DataInvalid(f"{of}, and --text is a text; name a file of such an item, or give --item KEY")
    if isinstance(query, Path) and source.modality == TEXT and not _is_text(query):
        raise DataInvalid(
            f"{of}, and the file {str(query)!r} holds no text in UTF-8; name one that does, or give --text"
        )


def _is_text(file: Path) -> bool:
    try:
        file.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _row_of(found: "EmbeddingSet", key: str) -> int:
    import numpy as np

    from headwater.errors import DataInvalid

    places = np.flatnonzero(found.keys == key)
    if len(places):
        return int(places[0])
    if key in found.errors:
        raise DataInvalid(f"the item {key!r} failed, and has no embedding: {found.errors[key]}; name another")
    raise DataInvalid(f"the dump has no item {key!r}; its first are {', '.join(map(repr, found.keys[:3].tolist()))}")


def _embedded(
    dump: Path,
    found: "EmbeddingSet",
    query: str | Path,
    backbone: str,
    server: str | None,
    access: dict[str, Any],
    cache: str | None,
) -> "NDArray[np.float32]":
    """Embed a query by the backbone that the dump is of."""
    from extractor.errors import BackboneChanged, ItemError
    from headwater.errors import DataInvalid

    if not found.fingerprint and not backbone:
        raise DataInvalid(f"{dump} does not say which backbone it is of; name it with --backbone")
    own = found.backbone if backbone or server else installed_for(found.backbone)
    with embedder(backbone or own, server, access, cache) as source:
        if found.fingerprint and source.fingerprint != found.fingerprint:
            raise BackboneChanged(
                f"the dump is of {found.backbone} {found.fingerprint}, and {source.name} is {source.fingerprint} here; "
                "name the backbone that it is of with --backbone, or dump it anew"
            )
        _check_modality(source, query)
        named = repr(str(told(query))) if isinstance(query, str) else query
        (outcome,) = source.outcomes([query])
        if isinstance(outcome.error, ItemError):
            raise DataInvalid(f"the query {named} has no embedding: {outcome.error}; take another")
        if outcome.embedding is None:
            raise outcome.error or DataInvalid(f"the query {named} has no embedding; take another")
        return outcome.embedding


def _nearest(
    dump: Path, found: "EmbeddingSet", query: "NDArray[np.float32]", k: int
) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
    """Return positions in the set and cosines, from the dump's index where there is one of what is there now."""
    import numpy as np

    from classifiers.vector_index import INDEX, VectorIndex, nearest

    if (dump / INDEX).is_file():
        index = VectorIndex.open(dump)
        if index.is_of(found.X, found.numbers, found.fingerprint):
            numbers, _ = index.search(query[np.newaxis], k + SPARE, fingerprint=found.fingerprint)
            rows = np.sort(np.searchsorted(found.numbers, numbers[0]))
            best, cosines = nearest(found.X[rows], query[np.newaxis], k)
            return rows[best[0]], cosines[0]
        told = f"the index is not of what {dump} holds now; make it anew: headwater index {shlex.quote(str(dump))}"
        err.print(told, soft_wrap=True, markup=False)
    rows, cosines = nearest(found.X, query[np.newaxis], k)
    return rows[0], cosines[0]
