"""`headwater export`: a name -> a backbone folder."""

from pathlib import Path
from typing import Annotated

import typer

from headwater.console import err, out


def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A built-in backbone: `efficientnet-lite0` or `minilm-l6`; with `--precision`, an installed one."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; by default `HEADWATER_HOME/backbones/NAME`.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="`bf16`: make `NAME@bf16` from the installed NAME, which stays as it is."),
    ] = None,
) -> None:
    """Make a backbone folder from pretrained weights, proved equal to the reference framework.

    Example: `headwater export efficientnet-lite0`
    """
    made = _derive_with_progress(name, precision, folder) if precision else export_with_progress(name, folder)
    called = made.resolve() if folder else made.name
    out.print(f"{made.name} is in {made}\nserve it: [bold]headwater serve {called}[/]", soft_wrap=True)


def export_with_progress(name: str, folder: Path | None = None) -> Path:
    """Export a backbone and show the step in hand."""
    from extractor.export import export as make

    with err.status(f"{name}: starting") as status:

        def progress(step: str) -> None:
            err.print(f"{name}: {step}")
            status.update(f"{name}: {step} …")

        return make(name, folder, progress=progress)


def _derive_with_progress(name: str, precision: str, folder: Path | None) -> Path:
    from extractor.derive import derive
    from extractor.shelf import find_backbone

    with err.status(f"{name}: starting"):
        return derive(find_backbone(name), precision, folder, progress=lambda step: err.print(f"{name}: {step}"))
