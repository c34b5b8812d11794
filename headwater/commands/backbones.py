"""`headwater backbones`: a table of what is installed, or of what a server serves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.console import out

if TYPE_CHECKING:
    from extractor.spec import Spec


def backbones(
    server: Annotated[
        str | None,
        typer.Option(help="`host:port` of a running server, to list what it serves.", envvar="HEADWATER_SERVER"),
    ] = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """List the installed backbones, or those that a server serves, with the provider in use.

    Example: `headwater backbones --server 127.0.0.1:50051`
    """
    rows = _served(server, key=key, ca=ca, cert=cert, cert_key=cert_key) if server else installed_rows()
    if not rows:
        out.print("no backbone is installed; make one: [bold]headwater export efficientnet-lite0[/]")
        return
    table = Table()
    for title in ("name", "modality", "dim", "size", "precision, mean cosine", "fingerprint", "provider"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def installed_rows() -> list[tuple[str, ...]]:
    """Return the facts of each backbone that is installed, or why it is not served."""
    from extractor.errors import BackboneError
    from extractor.shelf import installed
    from extractor.spec import read_spec

    rows: list[tuple[str, ...]] = []
    for folder in installed():
        try:
            spec = read_spec(folder)
        except BackboneError as error:
            rows.append((folder.name, "", "", "", "", "", f"not served: {error}"))
            continue
        facts = (
            spec.name,
            spec.modality,
            str(spec.dim),
            _size(folder),
            spec.precision + (f", {spec.report.fidelity.mean_cosine:.4f}" if spec.report else ""),
            spec.fingerprint,
            _provider(folder, spec),
        )
        rows.append(facts)
    return rows


def _provider(folder: Path, spec: "Spec") -> str:
    """Return the runtime and the provider that would serve a backbone here, or why none would."""
    from extractor.errors import BackboneError
    from extractor.stored import choose_plan

    try:
        plan = choose_plan(folder, spec)
    except BackboneError as error:
        return f"not served: {error}"
    return f"{plan.runtime} {plan.provider}"


def _served(target: str, **access: Any) -> list[tuple[str, ...]]:
    from headwater.client import Client

    with Client(target, **access) as client:
        return [
            (one.name, one.modality, str(one.dim), "", one.precision, one.fingerprint, one.provider)
            for one in client.backbones()
        ]


def _size(folder: Path) -> str:
    n_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return f"{n_bytes / (1 << 20):.1f} MiB"
