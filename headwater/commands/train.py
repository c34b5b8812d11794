"""`headwater train`: labelled files or texts -> a head."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.embed import CacheOption, ServerOption, embedder
from headwater.console import err, out

if TYPE_CHECKING:
    from extractor.outcome import Outcome

MAX_BYTES = 1 << 30  # what a backbone has read is within its own limit


def train(
    data: Annotated[
        Path,
        typer.Argument(help="A folder with a folder a label, or a `.csv` or `.jsonl` with a label and a text or path."),
    ],
    name: Annotated[str, typer.Option(help="Of the head; where there is one of that name, this is its next version.")],
    backbone: Annotated[
        str, typer.Option(help="Name or folder; may be left out where there is only one.", envvar="HEADWATER_BACKBONE")
    ] = "",
    label_column: Annotated[str, typer.Option(help="Of a table.")] = "label",
    item_column: Annotated[str | None, typer.Option(help="Of a table; by default `text` or `path`.")] = None,
    activate: Annotated[bool, typer.Option(help="Let the name alone mean this version from now on.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="The same number gives the same head.")] = 0,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Train a logistic-regression head on labelled files or texts, and keep it under HEADWATER_HOME/heads.

    Example: `headwater train pets/ --name pets --backbone efficientnet-lite0`
    """
    from collections import Counter

    from extractor.outcome import stack
    from headwater.errors import OutputNotWritable
    from headwater.labelled import Columns, read_labelled
    from headwater.shelf import activate as activate_version
    from headwater.shelf import add_version, check_name, staging
    from headwater.training import Options, Origin, train_head

    check_name(name)
    labelled = read_labelled(data, columns=Columns(label_column, item_column))
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    with embedder(backbone, server, access, cache) as source:
        outcomes = list(source.outcomes(labelled.items))
    good = [i for i, outcome in enumerate(outcomes) if _is_good(outcome, labelled.names[i])]
    labels = [labelled.labels[i] for i in good]
    X = stack([outcomes[i] for i in good], source.dim)
    keys = [_key(source.fingerprint, labelled.items[i]) for i in good]
    origin = Origin(backbone=source.name, fingerprint=source.fingerprint, items=keys)
    try:
        with err.status("training …"), staging() as folder:
            manifest = train_head(folder, X, labels, origin, Options(seed=seed))
            version = add_version(name, folder)
        if activate:
            activate_version(version)
    except OSError as error:
        raise OutputNotWritable(f"cannot write {error.filename}: {error.strerror}; make it writable") from None
    counts = Counter(labels)
    out.print(
        f"head {version}: {len(counts)} classes, {len(labels)} examples, {source.name}", soft_wrap=True, markup=False
    )
    if "cv_accuracy" in manifest.metrics:
        accuracy, folds = manifest.metrics["cv_accuracy"], manifest.metrics["cv_folds"]
        out.print(f"accuracy on held-out examples: {accuracy:.1%} ({folds:.0f} folds)")
    else:
        out.print("accuracy is not known: a class has a single example; add more of each")
    out.print(f"use it: headwater predict {name} FILE …", markup=False)
    if len(good) < len(outcomes):
        err.print(f"{len(outcomes) - len(good)} of {len(outcomes)} items failed and were left out")


def _key(fingerprint: str, item: str | Path) -> str:
    from extractor.cache import item_key
    from extractor.items import as_bytes

    return item_key(fingerprint, as_bytes(item, max_bytes=MAX_BYTES)).hex()


def _is_good(outcome: "Outcome", name: str) -> bool:
    if outcome.error is not None:
        err.print(f"[bold red]{escape(name)}:[/] {escape(str(outcome.error))}", soft_wrap=True)
    return outcome.error is None
