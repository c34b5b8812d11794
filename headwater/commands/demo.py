"""`headwater demo`: the whole of it in a minute."""

from pathlib import Path
from typing import Annotated

import typer

from headwater.console import out


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the picture and the embeddings.")] = Path(
        "demo-out"
    ),
) -> None:
    """Serve two real backbones, send real items through them, and watch two classifiers learn.

    Makes the backbones first where they are not installed. Example: `headwater demo --out demo-out`
    """
    from headwater.commands.export import export_with_progress
    from headwater.demo.run import run

    run(folder, console=out, export=export_with_progress)
