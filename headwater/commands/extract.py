"""`headwater extract`: one's own files -> `X.npy`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.counted import counted
from headwater.commands.embed import CacheOption, ServerOption, embedder
from headwater.console import err, out
from headwater.errors import OutputNotWritable

if TYPE_CHECKING:
    from extractor.outcome import Embedding


def extract(
    files: Annotated[list[Path], typer.Argument(help="Images, sounds, `.npy` arrays, or files of one text each.")],
    backbone: Annotated[
        str, typer.Option(help="Name or folder; may be left out where there is only one.", envvar="HEADWATER_BACKBONE")
    ] = "",
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the embeddings go, as `.npy`; the files of its rows go beside it, as `X.npy.txt`."
        ),
    ] = None,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Embed files, here or by a running server; a bad file is named, and the others are done.

    Example: `headwater extract photos/*.jpg --backbone efficientnet-lite0 --out X.npy`
    """
    import numpy as np

    if target:
        _check_writable(target)
    done, rows = [], []
    access = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    with embedder(backbone, server, access, cache) as source:
        for file, outcome in zip(files, source.outcomes(files), strict=True):
            if outcome.embedding is None:
                err.print(f"[bold red]{escape(str(file))}:[/] {escape(str(outcome.error))}", soft_wrap=True)
                continue
            if outcome.truncated:
                err.print(f"[yellow]{escape(str(file))}:[/] longer than the backbone reads; its end was left out")
            done.append(file)
            rows.append(outcome.embedding)
    if rows and target:
        _write(target, np.stack(rows), done)
    for file, row in zip(done, rows, strict=True) if not target else ():
        head = " ".join(f"{value:.4f}" for value in row[:4])
        out.print(
            f"{file}: {len(row)}-d, length {np.linalg.norm(row):.4f}, begins {head}", soft_wrap=True, markup=False
        )
    if len(done) < len(files):
        err.print(f"{len(files) - len(done)} of {counted(len(files), 'file')} failed")
        raise typer.Exit(1)


def _check_writable(target: Path) -> None:
    """Find out before the work begins whether its result can be kept."""
    temporary = _temporary(target)
    if target.is_dir():
        raise OutputNotWritable(f"cannot write {target}: it is a folder; name a file in it with --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise OutputNotWritable(f"cannot write {target}: {error.strerror}; choose another --out") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _write(target: Path, embeddings: "Embedding", files: list[Path]) -> None:
    import numpy as np

    for path, write in (
        (target, lambda file: np.save(file, embeddings)),
        (
            target.with_name(f"{target.name}.txt"),
            lambda file: file.write(b"".join(os.fsencode(name) + b"\n" for name in files)),
        ),
    ):
        temporary = _temporary(path)
        try:
            with temporary.open("wb") as file:
                write(file)
            temporary.replace(path)
        except OSError as error:  # the disk is full, say
            temporary.unlink(missing_ok=True)
            raise OutputNotWritable(f"cannot write {path}: {error.strerror}; choose another --out") from None
    out.print(f"{counted(len(files), 'row')} of {embeddings.shape[1]} in {target}", soft_wrap=True, markup=False)
