"""`headwater heads export`: a head -> an ONNX file that takes embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from headwater.console import err, out


def export_head(
    head: Annotated[str, typer.Argument(help="`NAME`, `NAME@3`, `NAME@ALIAS`, or a folder.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.", metavar="OUT.onnx")],
) -> None:
    """Make an ONNX file of a head alone, proved equal to it: embeddings in, probabilities and label indices out.

    Example: `headwater heads export pets pets-head.onnx`
    """
    from headwater.onnx_head.export import export_head as make
    from headwater.shelf import find_head

    with err.status("writing, and comparing with the head …"):
        difference = make(find_head(head), file)
    out.print(told(file, difference), soft_wrap=True, markup=False)


def told(file: Path, difference: float) -> str:
    """Say what was written."""
    return f"{file}: {file.stat().st_size:,} bytes, largest difference {difference:.1e}"
