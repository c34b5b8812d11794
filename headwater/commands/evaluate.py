"""`headwater evaluate`: a head and labelled files or texts -> how good it is on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.counted import counted
from headwater.commands.embed import (
    CacheOption,
    ItemColumnOption,
    LabelColumnOption,
    LabelsOption,
    ServerOption,
    check_no_labels,
    check_origin,
    dumped,
    embedded,
    embedder,
)
from headwater.commands.given import check_access, refuse_for_dump
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.head import Head
    from classifiers.measures import Measures, OpenSetMeasures
    from headwater.examples import Examples


def evaluate(
    context: typer.Context,
    head: Annotated[str, typer.Argument(help="`NAME`, `NAME@3`, `NAME@ALIAS`, or a folder.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder a label, a `.csv`, `.jsonl` or `.parquet` with a label and a text or path, or "
            "a dump. Labels that the head does not have are out of its scope."
        ),
    ],
    backbone: Annotated[
        str, typer.Option(help="Name or folder; by default the name of the one that it was trained on.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="A folder to write `report.html` and `report.json` into.")] = None,
    label_column: LabelColumnOption = "label",
    item_column: ItemColumnOption = None,
    labels: LabelsOption = None,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Measure a head on labelled files or texts that it did not learn from, each number with its 95 % interval.

    Example: `headwater evaluate pets more-pets/ --report pets-report`
    """
    from classifiers.persist import load_head
    from headwater.dumps import is_dump
    from headwater.errors import OutputNotWritable
    from headwater.evaluation import evaluate_head
    from headwater.labelled import Columns, read_labelled
    from headwater.shelf import find_head, title

    folder = find_head(head)
    model, manifest = load_head(folder)
    columns = Columns(label_column, item_column)
    if is_dump(data):
        refuse_for_dump(context)
        found, facts = dumped(data, columns, labels, model.kind)
        check_origin(facts.backbone, facts.fingerprint, manifest, title(folder))
    else:
        check_no_labels(labels, data)
        check_access(context, server)
        labelled = read_labelled(data, kind=model.kind, columns=columns)
        for note in labelled.notes:
            err.print(f"{data}: {note}", soft_wrap=True, markup=False)
        access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
        with embedder(backbone or manifest.backbone, server, access, cache) as source:
            check_origin(source.name, source.fingerprint, manifest, title(folder))
            found = embedded(source, labelled)
    try:
        with err.status("measuring …"):
            measures, opened = evaluate_head(model, manifest, found.examples, name=title(folder), folder=report)
    except OSError as error:
        raise OutputNotWritable.by(error, report) from None
    _tell(title(folder), model, found.examples, measures, opened)
    if report:
        out.print(f"report: {report / 'report.html'}", soft_wrap=True, markup=False)
    if found.n_failed:
        n_items = found.n_failed + len(found.examples.labels)
        err.print(f"{found.n_failed:,} of {counted(n_items, 'item')} failed and were left out")
        raise typer.Exit(1)


def _tell(
    head: str, model: "Head", examples: "Examples", measures: "Measures", opened: "OpenSetMeasures | None"
) -> None:
    from headwater.evaluation import few, strange_labels, summary

    out.print(f"head {head} on {counted(measures.n, 'example')}:", markup=False)
    for name, (value, low, high) in {**summary(measures), **(summary(opened) if opened else {})}.items():
        out.print(f"  {name.replace('_', ' ')}: {value:.4f} ({low:.4f} to {high:.4f})", markup=False)
    strange = sorted(strange_labels(model, examples))
    if strange:
        fate = "left out" if opened is None else "out of its scope"
        out.print(f"  labels that it does not have, {fate}: {few(strange)}", soft_wrap=True, markup=False)
    if opened:
        out.print(f"  AUROC of telling {opened.n_out_of_scope:,} out of scope: {opened.auroc:.4f}", markup=False)
