"""`headwater predict`: a head and files or texts -> labels."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.counted import counted
from headwater.commands.embed import CacheOption, RemoteOption, ServerOption, check_origin, embedder
from headwater.console import err, out

if TYPE_CHECKING:
    from headwater.prediction import Prediction

Items = Sequence[str | Path]


def predict(
    head: Annotated[str, typer.Argument(help="`NAME`, `NAME@3`, `NAME@ALIAS`, or a folder.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Images, sounds, `.npy` arrays, or files of one text each.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text itself; may be given several times.")] = None,
    backbone: Annotated[
        str, typer.Option(help="Name or folder; by default the name of the one that it was trained on.")
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=100, help="Labels to show for each item, the likeliest first.")] = 1,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="An object a line, for programs: `label`, null where unknown; of several labels `labels`, "
            "those more likely than not; `ranking`, `score`, `head`; or `values`, or `error`.",
        ),
    ] = False,
    remote: RemoteOption = False,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Tell the labels of files or texts, or that they are unknown; a bad file is named, and the others are done.

    Example: `headwater predict pets cat.jpg dog.jpg --top 3`
    """
    from headwater.errors import DataInvalid

    items: Items = [*(files or []), *(text or [])]
    if not items:
        raise DataInvalid("there is nothing to predict; name files, or give a text with --text")
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    if remote:
        told = _asked(head, items, top, backbone, server, access)
    else:
        told = _made(head, items, top, backbone, server, access, cache)
    n_failed = 0
    for item, prediction in zip(items, told, strict=True):
        n_failed += prediction.error is not None
        if as_json:
            typer.echo(json.dumps({"item": str(item), **_facts(prediction)}, ensure_ascii=False))
        elif prediction.error is not None:
            err.print(f"[bold red]{escape(str(item))}:[/] {escape(str(prediction.error))}", soft_wrap=True)
        else:
            out.print(f"{item}: {_words(prediction)}", soft_wrap=True, markup=False)
    if n_failed:
        err.print(f"{n_failed} of {counted(len(items), 'item')} failed")
        raise typer.Exit(1)


def _made(
    head: str, items: Items, top: int, backbone: str, server: str | None, access: dict[str, Any], cache: str | None
) -> "Iterator[Prediction]":
    """Predict here, with embeddings that are made here or by a server."""
    import numpy as np

    from classifiers.persist import load_head
    from headwater.prediction import Prediction, predict
    from headwater.shelf import find_head, title

    folder = find_head(head)
    model, manifest = load_head(folder)
    with embedder(backbone or manifest.backbone, server, access, cache) as source:
        check_origin(source.name, source.fingerprint, manifest, title(folder))
        for outcome in source.outcomes(items):
            if outcome.embedding is None:
                yield Prediction(error=outcome.error)
            else:
                yield from predict(model, outcome.embedding[np.newaxis], top=top, title=title(folder))


def _asked(
    head: str, items: Items, top: int, backbone: str, server: str | None, access: dict[str, Any]
) -> "Iterator[Prediction]":
    """Have a server predict by a head of its own."""
    from headwater.client import Client
    from headwater.commands.embed import required

    with Client(required(server), **access) as client:
        yield from client.iter_predictions(head, items, top=top, backbone=backbone)


def _words(prediction: "Prediction") -> str:
    if prediction.values:
        return ", ".join(f"{value:g}" for value in prediction.values)
    shown = ", ".join(f"{one.label} {one.probability:.3f}" for one in prediction.ranking)
    return f"unknown ({shown})" if prediction.unknown else shown


def _facts(prediction: "Prediction") -> dict[str, Any]:
    if prediction.error is not None:
        return {"error": str(prediction.error)}
    if prediction.values:
        return {"values": list(prediction.values), "head": prediction.head}
    return {
        "label": prediction.label,
        "unknown": prediction.unknown,
        "score": prediction.score,
        "labels": prediction.labels,
        "ranking": [{"label": one.label, "probability": one.probability} for one in prediction.ranking],
        "head": prediction.head,
    }
