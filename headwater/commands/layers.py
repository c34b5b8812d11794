"""`headwater layers`: a network -> a table of its layers and their shapes, for `headwater export --layer`."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from headwater.commands.export import read_facts
from headwater.console import out
from headwater.errors import DataInvalid


def layers(
    name: Annotated[
        str,
        typer.Argument(
            help="`onnx:FILE`, `torchvision:NAME`, `timm:NAME`, `hf:REPOSITORY_OR_FOLDER`, `torch:MODULE:FACTORY`."
        ),
    ],
    match: Annotated[str, typer.Option(help="Only those whose name, node or operator has this in it.")] = "",
    modality: Annotated[str | None, typer.Option(help="Where the network has several, or cannot tell.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="As `headwater export` takes it.")] = None,
    arguments: Annotated[str | None, typer.Option(help="As `headwater export` takes it.")] = None,
) -> None:
    """List the layers of a network, with their operators and the shapes of their outputs; its weights are not needed.

    Example: `headwater layers onnx:policy.onnx --match relu`

    Example: `headwater layers torchvision:resnet50 --match layer4`
    """
    from extractor import zoo
    from extractor.zoo.choice import Choice

    choice = Choice(
        modality=modality,
        preprocess=read_facts("--preprocess", preprocess),
        arguments=read_facts("--arguments", arguments),
    )
    table = Table()
    for title in ("layer", "node", "operator", "shape"):
        table.add_column(title, overflow="fold")
    found = zoo.layers(name, choice)
    for one in found:
        if match.lower() in f"{one.name} {one.node} {one.operator}".lower():
            shape = "?" if one.shape is None else " × ".join(map(str, one.shape)) or "one number"
            table.add_row(escape(one.name), escape(one.node), one.operator, escape(shape))
    if not table.row_count:
        raise DataInvalid(f"none of the {len(found)} layers of {name} has {match!r} in it; leave --match away for all")
    out.print(table)
