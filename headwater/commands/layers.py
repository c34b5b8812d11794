"""`headwater layers`: an ONNX file -> a table of its layers and their shapes, for `headwater export --layer`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from headwater.console import out
from headwater.errors import DataInvalid

_SOURCE = "onnx:"


def layers(
    name: Annotated[str, typer.Argument(help="`onnx:FILE`.")],
    match: Annotated[str, typer.Option(help="Only those whose name, node or operator has this in it.")] = "",
) -> None:
    """List the layers of a network, with their operators and the shapes of their outputs.

    Example: `headwater layers onnx:policy.onnx --match relu`
    """
    if not name.startswith(_SOURCE):
        raise DataInvalid(f"{name!r} has no layers to choose from; give {_SOURCE}FILE")
    from extractor.zoo.onnx_model import layers as of
    from extractor.zoo.onnx_model import read_model

    table = Table()
    for title in ("layer", "node", "operator", "shape"):
        table.add_column(title, overflow="fold")
    for one in of(read_model(Path(name.removeprefix(_SOURCE)))):
        if match.lower() in f"{one.name} {one.node} {one.operator}".lower():
            shape = "?" if one.shape is None else " × ".join(map(str, one.shape)) or "one number"
            table.add_row(escape(one.name), escape(one.node), one.operator, escape(shape))
    out.print(table)
