"""`headwater predict`: a head and files or texts -> labels."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.embed import CacheOption, ServerOption, check_origin, embedder
from headwater.console import err, out


def predict(
    head: Annotated[str, typer.Argument(help="`NAME`, `NAME@3`, `NAME@ALIAS`, or a folder.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Images, or files that hold one text each.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text itself; may be given several times.")] = None,
    backbone: Annotated[
        str, typer.Option(help="Name or folder; by default the name of the one that it was trained on.")
    ] = "",
    top: Annotated[int, typer.Option(min=1, help="Labels to show for each item, the likeliest first.")] = 1,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Tell the labels of files or texts, with their probabilities; a bad file is named, and the others are done.

    Example: `headwater predict pets cat.jpg dog.jpg --top 3`
    """
    import numpy as np

    from classifiers.persist import load_head
    from headwater.errors import DataInvalid
    from headwater.shelf import find_head

    model, manifest = load_head(find_head(head))
    items: list[str | Path] = [*(files or []), *(text or [])]
    if not items:
        raise DataInvalid("there is nothing to predict; name files, or give a text with --text")
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    with embedder(backbone or manifest.backbone, server, access, cache) as source:
        check_origin(source, manifest, head)
        outcomes = list(source.outcomes(items))
    n_failed = 0
    for item, outcome in zip(items, outcomes, strict=True):
        if outcome.embedding is None:
            n_failed += 1
            err.print(f"[bold red]{escape(str(item))}:[/] {escape(str(outcome.error))}", soft_wrap=True)
            continue
        (probabilities,) = model.predict_proba(outcome.embedding[np.newaxis])
        best = np.argsort(-probabilities, kind="stable")[:top]
        labels = ", ".join(f"{model.classes_[i]} {probabilities[i]:.3f}" for i in best)
        out.print(f"{item}: {labels}", soft_wrap=True, markup=False)
    if n_failed:
        err.print(f"{n_failed} of {len(items)} items failed")
        raise typer.Exit(1)
