"""The name of a pretrained network -> a backbone folder, proved equal to the network as it came."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor import runtime, zoo
from extractor.backbone import Backbone, collate
from extractor.errors import ExportError, ItemError
from extractor.golden import TOLERANCES, Golden, differences, within, write_golden
from extractor.home import backbones_folder
from extractor.outcome import Embedding
from extractor.prepare import Prepare, load_prepare
from extractor.spec import GOLDEN_FILE, MODEL_FILE, Spec, sha256, write_spec
from extractor.zoo.choice import Choice
from extractor.zoo.network import Network
from extractor.zoo.new_folder import new_folder

PROOF_BATCHES = (1, 7, 32)  # sizes; what was traced with 2 must hold for one, for an odd number, for many
LOUD = 1000  # times an item: what looks at the largest value of a whole batch shows beside it

Progress = Callable[[str], None]


def export(
    name: str, folder: Path | None = None, *, choice: Choice | None = None, progress: Progress | None = None
) -> Path:
    """Make a backbone folder from a built-in network, or from one that is brought.

    The folder appears when it is complete, and replaces an older one; a failed export leaves nothing behind.

    Parameters
    ----------
    name : str
        One of `extractor.zoo.names()`, or `onnx:FILE`.
    folder : Path, optional
        By default `HEADWATER_HOME/backbones/NAME`.
    choice : Choice, optional
        What is taken of a network that is brought, and how it is fed.
    progress : callable, optional
        Called with a few words as each step begins.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BackboneNotFound
        No built-in network of that name.
    RuntimeMissing
        The `export` extra, or onnxruntime, is not installed.
    ExportError
        The network cannot be traced, its graph does not compute what torch does, or the folder cannot be written.
    """
    tell = progress or _silent
    tell("loading the weights")
    network = zoo.build(name, choice)
    return export_network(network, folder or backbones_folder() / network.name, progress=tell)


def export_network(network: Network, target: Path, *, progress: Progress | None = None) -> Path:
    """Make a backbone folder from any network; see `export` for the rest.

    Parameters
    ----------
    network : Network
    target : Path
    progress : callable, optional
    """
    runtime.default("fp32")  # the proof will need onnxruntime: rather say so now
    try:
        with new_folder(target) as fresh:
            _fill(fresh, network, progress or _silent)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error
    return target


def _silent(_step: str) -> None:
    pass


def _fill(folder: Path, network: Network, tell: Progress) -> None:
    for name, content in network.files.items():
        (folder / name).write_bytes(content)
    spec = _spec(network)
    prepare = load_prepare(spec, folder)
    arrays = _prepared(prepare, network.golden_items)
    tell(f"computing the golden embeddings in {network.framework}")
    embeddings = np.concatenate([network.reference(collate(spec, [array])) for array in arrays])
    _check_worth(network, arrays, embeddings)
    tell("writing the graph as ONNX")
    network.write_onnx(folder / MODEL_FILE)
    tell(f"comparing the new graph with {network.framework} at batches of {', '.join(map(str, PROOF_BATCHES))}")
    _prove(Backbone.load(folder, spec), arrays, embeddings, network)
    tell("writing the folder")
    write_golden(folder / GOLDEN_FILE, Golden(network.golden_items, embeddings))
    write_spec(folder, _with_files(spec, folder))


def _prepared(prepare: Prepare, items: Sequence[bytes]) -> list[NDArray[Any]]:
    arrays = []
    for number, item in enumerate(items, start=1):
        try:
            arrays.append(prepare(item).array)
        except ItemError as error:
            raise ExportError(
                f"item {number} of {len(items)} for the proof cannot be read: {error}; nothing was written; leave it "
                "out, or mend it"
            ) from None
    return arrays


def _check_worth(network: Network, arrays: Sequence[NDArray[Any]], embeddings: Embedding) -> None:
    """Check that embeddings are numbers, tell items apart, and come out the same again."""
    number = np.argmin(np.isfinite(embeddings).all(axis=1))
    if not np.isfinite(embeddings[number]).all():
        raise ExportError(
            f"{network.name!r} gives NaN or infinity for item {number + 1} of {len(arrays)} for the proof; nothing was "
            "written; look whether its weights are finite, or choose an earlier layer"
        )
    differ = any(not np.array_equal(array, arrays[0]) for array in arrays)
    if differ and (embeddings == embeddings[0]).all():
        raise ExportError(
            f"{network.name!r} gives the same embedding for all {len(arrays)} items for the proof; nothing was "
            "written; choose a layer that depends on the item"
        )
    again = np.concatenate([network.reference(collate(_spec(network), [array])) for array in arrays])
    if not within(again, embeddings, TOLERANCES["fp32"]):
        raise ExportError(
            f"{network.name!r} gives other values when it runs the same item again; nothing was written; choose a "
            "layer before what draws at random, such as a dropout that is always on"
        )


def _prove(backbone: Backbone, arrays: Sequence[NDArray[Any]], expected: Embedding, network: Network) -> None:
    """Compare batches of each size, the golden items repeated to fill them; raise ExportError beyond the tolerance."""
    for size in PROOF_BATCHES:
        for rows in _batches(len(arrays), size):
            found = _forward(backbone, [arrays[row] for row in rows])
            if found.shape != (size, backbone.spec.dim):
                raise ExportError(
                    f"{backbone.spec.name!r}: the graph gives {found.shape} for {size} items, not {expected.shape[1:]} "
                    "each; nothing was written; export the network with a free batch axis"
                )
            _compare(backbone, found, expected[rows], f"{network.framework} at a batch of {size}", network.advice)
    for row, array in enumerate(arrays):
        found = _forward(backbone, [array, *_mates(array)])
        advice = "it looks at a whole batch somewhere: choose a layer before that"
        _compare(backbone, found[:1], expected[row : row + 1], "itself alone when others share its batch", advice)


def _compare(backbone: Backbone, found: Embedding, expected: Embedding, reference: str, advice: str) -> None:
    tolerance = TOLERANCES[backbone.spec.precision]
    if not within(found, expected, tolerance):
        cosine, difference = differences(found, expected)
        raise ExportError(
            f"{backbone.spec.name!r} differs from {reference}: least cosine {cosine:.7f} (at least "
            f"{tolerance.min_cosine}), largest difference {difference:.1e} (at most {tolerance.max_difference:.0e}); "
            f"nothing was written; {advice}"
        )


def _mates(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Return other items of an item's shape, some of them larger: a batch of one length has no others to show."""
    turned = np.ascontiguousarray(array[::-1]) if array.ndim else array
    return [turned, LOUD * turned] if array.dtype.kind == "f" else [turned]


def _forward(backbone: Backbone, arrays: Sequence[NDArray[Any]]) -> Embedding:
    try:
        return backbone.forward(arrays)
    except Exception as error:  # runtimes' exceptions share no public root
        raise ExportError(
            f"{backbone.spec.name!r} cannot run a batch of {len(arrays)}: {error}; nothing was written; export the "
            "network with a free batch axis, or choose a layer before what fixes it"
        ) from error


def _batches(n: int, size: int) -> list[list[int]]:
    """Return rows in batches of `size` that together hold each of `n` at least once."""
    rows = cycle(range(n))
    return [list(islice(rows, size)) for _ in range(-(-n // size))]


def _spec(network: Network) -> Spec:
    return Spec(
        name=network.name,
        modality=network.modality,
        dim=network.dim,
        pooling=network.pooling,
        precision="fp32",
        input=network.input,
        preprocess=network.preprocess,
        source=network.source,
        licence=network.licence,
        files={},
    )


def _with_files(spec: Spec, folder: Path) -> Spec:
    return replace(spec, files={path.name: sha256(path) for path in sorted(folder.iterdir())})
