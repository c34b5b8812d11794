"""`headwater fuse`: a backbone and a head -> one ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from headwater.commands.export_head import told
from headwater.console import err, out


def fuse(
    backbone: Annotated[str, typer.Argument(help="Name or folder of the one that the head was trained on.")],
    head: Annotated[str, typer.Argument(help="`NAME`, `NAME@3`, `NAME@ALIAS`, or a folder.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.", metavar="OUT.onnx")],
) -> None:
    """Make one ONNX file of a backbone and a head, proved equal to the two; it runs in plain onnxruntime.

    Images (uint8), or token ids and their mask, go in; probabilities and label indices come out. The labels and how
    an item becomes the input are in its metadata.

    Example: `headwater fuse efficientnet-lite0 pets pets.onnx`
    """
    from extractor.shelf import find_backbone
    from headwater.fuse import fuse as make
    from headwater.shelf import find_head

    with err.status("joining, and comparing with the two steps …"):
        difference = make(find_backbone(backbone), find_head(head), file)
    out.print(told(file, difference), soft_wrap=True, markup=False)
