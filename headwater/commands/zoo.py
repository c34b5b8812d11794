"""`headwater zoo`: a table of the networks that can be brought; `--try NAME` exports one, checks it and tells."""

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from headwater.commands.export import export_with_progress
from headwater.console import out
from headwater.errors import DataInvalid

if TYPE_CHECKING:
    from extractor.zoo.table import Row


def zoo(
    tried: Annotated[
        str | None,
        typer.Option("--try", help="Export this one into a folder that is thrown away, and check it.", metavar="NAME"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="With `--try`: a file of weights, of vectors for Word2Vec, GloVe and fastText; or `random`, which "
            "tries the architecture without any."
        ),
    ] = None,
) -> None:
    """List the pretrained networks that the literature names, and what each gives and needs.

    Example: `headwater zoo --try resnet50 --weights random`
    """
    from extractor.zoo.table import TABLE, VENDOR_ONLY, row_of

    if tried is not None:
        _try(row_of(tried), weights)
        return
    if weights is not None:
        raise DataInvalid("--weights are of the network that is tried; name it with --try")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("name, network\n  headwater export …", overflow="fold")
    for title in ("dim", "MB", "licence", "needs"):
        table.add_column(title, overflow="fold", vertical="top")
    for modality, rows in itertools.groupby(TABLE, lambda row: row.modality):
        table.add_section()
        table.add_row(f"[italic]{modality}[/]")
        for row in rows:
            table.add_row(*_cells(row))
    out.print(table)
    out.print(
        "A recipe is a small network of that kind, since no package has the architecture: it shows how to bring one's "
        f"own.\n{VENDOR_ONLY}\n"
        "Anything else: onnx:FILE, torch:MODULE:FACTORY, timm:NAME, hf:REPOSITORY, torchvision:NAME.",
        soft_wrap=True,
        markup=False,
    )


def _cells(row: "Row") -> list[str]:
    network = f"{row.network} (recipe)" if row.recipe else row.network
    name = f"[bold]{escape(row.key)}[/] {escape(network)}\n  {escape(row.name)}"
    return [name, str(row.dim), f"{row.megabytes:,.4g}", *map(escape, (row.licence, _needs(row)))]


def _needs(row: "Row") -> str:
    """Return what is still needed here: packages that are missing, and weights; or that it is installed."""
    from extractor.errors import BackboneError
    from extractor.shelf import find_backbone
    from extractor.zoo import missing

    try:
        find_backbone(row.made)
        return "installed"
    except BackboneError:
        absent = missing(row.source)
    return f"{', '.join(absent)}: {row.source.brought_by}" if absent else row.needs


def _try(row: "Row", weights: str | None) -> None:
    from extractor.spec import graph_bytes, read_spec
    from extractor.zoo.table import target

    name, choice = target(row, weights)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = export_with_progress(name, Path(folder) / row.key, choice)
        spec, megabytes = read_spec(made), graph_bytes(made) / 1e6
    out.print(
        f"{row.key}: {spec.modality}, dim {spec.dim}, {megabytes:,.1f} MB, proved equal in "
        f"{time.monotonic() - begun:.0f} s; nothing was kept\nsource: {spec.source}\nlicence: {spec.licence}",
        soft_wrap=True,
        markup=False,
    )
