"""`headwater map`: a dump -> a page on which its items lie near those they are like."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress as Bar

from headwater.commands.dumped import TEXT, DumpArgument, JsonOption, as_text, opened, write_json
from headwater.commands.given import refuse
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.embedding_set import EmbeddingSet
    from headwater.report.facts import Shown

METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
PATH = "path"
MAX_TEXT_CHARACTERS, MIN_TEXT_CHARACTERS, MAX_ALL_TEXT = 200, 40, 8 << 20
SIDE_PIXELS = 72


def map_(
    context: typer.Context,
    dump: DumpArgument,
    target: Annotated[
        Path | None, typer.Option("--out", help="The page; by default `map.html` in the dump's folder.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="`pca`; `tsne`, of fewer items; or `umap`, where umap-learn is installed.")
    ] = "pca",
    items: Annotated[
        Path | None,
        typer.Option(
            help="The folder that was dumped, for thumbnails or texts; without it, texts that the dump carries."
        ),
    ] = None,
    colour: Annotated[str, typer.Option(help="The column that gives the colours.")] = "label",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, max=200_000, help="Items that are shown at most: by default 100,000, by t-SNE 1,500, by UMAP 10,000."
        ),
    ] = None,
    previews: Annotated[int, typer.Option(min=0, help="Files that are read for previews at most.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="The same number gives the same map.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a dump as a page that needs no server and loads nothing: zoom, point at an item, choose a label.

    Example: `headwater map embedded/ --items photos/`
    """
    from classifiers.projection import project
    from headwater.errors import OutputNotWritable
    from headwater.report.map_page import Plane, write_map

    if method not in METHODS:
        raise typer.BadParameter(f"--method is {method!r}; take one of {', '.join(METHODS)}")
    if items is None:
        refuse(context, "--previews", because="files are read below --items, which names none")
    _check_folders(items, target)
    found = opened(dump)
    labels = list(map(as_text, found.column(colour).tolist()))
    with err.status("laying out …"):
        classes = ["" if one is None else one for one in labels]
        laid = project(found.X, classes, max_rows=rows, method=METHODS[method], random_state=seed)
    shown = found.at(laid.rows)
    page = target or (dump if dump.is_dir() else dump.parent) / "map.html"
    seen = _files(shown, items, previews, seed) if items else _texts(shown) if TEXT in shown.columns else {}
    plane = Plane(
        name=dump.resolve().name,
        backbone=found.backbone,
        fingerprint=found.fingerprint,
        method=laid.method,
        n=len(found),
        positions=laid.positions,
        names=shown.keys.tolist(),
        labels=[labels[row] for row in laid.rows.tolist()],
        coloured_by=colour,
        previews=seen,
        notes=_notes(found, len(shown), len(seen), items if previews else None),
    )
    try:
        write_map(page, plane)
    except OSError as error:
        raise OutputNotWritable.by(OSError(error.errno, error.strerror), page) from None  # not of a temporary name
    if laid.method != METHODS[method]:
        err.print(f"{len(shown):,} items are too few, or too like each other, for --method {method}", soft_wrap=True)
    if items is not None and previews and not seen:
        err.print(f"no item could be read below {items}; name the folder that was dumped", soft_wrap=True, markup=False)
    if as_json:
        write_json({"map": str(page), "method": laid.method, "rows": len(found), "shown": len(shown)})
        return
    out.print(
        f"{len(shown):,} of {len(found):,} items by {laid.method}, {len(seen):,} with a preview: {page}",
        soft_wrap=True,
        markup=False,
    )


def _check_folders(items: Path | None, target: Path | None) -> None:
    """Say before the work which folder is not there."""
    from headwater.errors import DataInvalid, OutputNotWritable

    if items is not None and not items.is_dir():
        raise DataInvalid(f"--items is {items}, which is no folder; name the one that was dumped")
    if target is not None and not target.parent.is_dir():
        raise OutputNotWritable(f"cannot write {target}: there is no folder {target.parent}; make it, or mend --out")
    if target is not None and target.is_dir():
        raise OutputNotWritable(f"cannot write {target}: it is a folder; name a file in it with --out")


def _texts(shown: "EmbeddingSet") -> "dict[int, Shown]":
    """Return the beginning of every text, shorter where there are very many."""
    from headwater.report.facts import Shown

    most = max(MIN_TEXT_CHARACTERS, min(MAX_TEXT_CHARACTERS, MAX_ALL_TEXT // len(shown)))
    texts = enumerate(map(as_text, shown.column(TEXT).tolist()))
    return {i: Shown("", text=one if len(one) <= most else one[: most - 1] + "…") for i, one in texts if one}


def _files(shown: "EmbeddingSet", folder: Path, most: int, seed: int) -> "dict[int, Shown]":
    """Return previews of files that are drawn evenly, as far as the page's budget goes."""
    import numpy as np

    from headwater.report.thumbnails import Budget, Thumbnails

    places = shown.column(PATH) if PATH in shown.columns else shown.keys
    order = np.random.default_rng(seed).permutation(len(shown))[:most].tolist()
    budget, seen = Budget(), {}
    preview = Thumbnails(lambda row: _inside(folder, str(places[row])), shown.keys.tolist(), budget)
    with Bar(console=err, disable=not err.is_terminal) as bar:
        for row in bar.track(order, description="reading previews"):
            if budget.spent:
                break
            one: Any = preview(row, side=SIDE_PIXELS)
            if one.image or one.text:
                seen[row] = one
    return seen


def _inside(folder: Path, relative: str) -> Path:
    """Return the file of an item; of one that leads out of the folder, for keys are a stranger's, none."""
    try:
        path, root = (folder / relative).resolve(), folder.resolve()
    except (OSError, ValueError):
        return folder
    return path if path.is_relative_to(root) else folder


def _notes(found: "EmbeddingSet", n_shown: int, n_seen: int, items: Path | None) -> list[str]:
    notes = []
    if n_shown < len(found):
        notes.append(f"{n_shown:,} of {len(found):,} items are shown, of every label its share.")
    if items is not None and n_seen == 0:
        notes.append("No item of the dump could be read below the folder that was named with --items.")
    return notes
