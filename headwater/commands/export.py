"""`headwater export`: a name -> a backbone folder."""

from pathlib import Path
from typing import Annotated

import typer

from headwater.console import err, out


def export(
    name: Annotated[str, typer.Argument(help="A built-in backbone: `efficientnet-lite0` or `minilm-l6`.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; by default `HEADWATER_HOME/backbones/NAME`.")
    ] = None,
) -> None:
    """Make a backbone folder from pretrained weights, proved equal to the reference framework.

    Example: `headwater export efficientnet-lite0`
    """
    made = export_with_progress(name, folder)
    out.print(f"{name} is in {made}\nserve it: [bold]headwater serve {name}[/]", soft_wrap=True)


def export_with_progress(name: str, folder: Path | None = None) -> Path:
    """Export a backbone and show the step in hand."""
    from extractor.export import export as make

    with err.status(f"{name}: starting") as status:

        def progress(step: str) -> None:
            err.print(f"{name}: {step}")
            status.update(f"{name}: {step} …")

        return make(name, folder, progress=progress)
