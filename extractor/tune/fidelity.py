"""A session and a reference (n, dim) -> how near its embeddings stand, and whether batch-mates change them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.backbone import Backbone
from extractor.outcome import Embedding

BATCH_COSINE = 0.99999  # one item alone and among any mates; else the same bytes would have two embeddings
BATCHES = (8, 5)  # sizes, for the items in order and in reverse: each item meets other mates, in another place


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near a session's embeddings stand to the reference in fp32.

    Parameters
    ----------
    mean_cosine, min_cosine : float
        Between an item's two embeddings.
    neighbours : float
        Share of the items whose nearest neighbour, by cosine, is the same item.
    batch_cosine : float
        The least between an item's embedding alone and in a batch.
    """

    mean_cosine: float
    min_cosine: float
    neighbours: float
    batch_cosine: float


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The least fidelity of a plan that is offered; fields as in `Fidelity`."""

    mean_cosine: float = 0.998
    min_cosine: float = 0.99
    neighbours: float = 0.90

    def misses(self, fidelity: Fidelity) -> str:
        """Return in words what misses the floor; empty if nothing does."""
        if not fidelity.batch_cosine >= BATCH_COSINE:
            return f"its embeddings depend on batch-mates (cosine {fidelity.batch_cosine:.5f})"
        for name in ("mean_cosine", "min_cosine", "neighbours"):
            found, least = getattr(fidelity, name), getattr(self, name)
            if not found >= least:
                return f"{name.replace('_', ' ')} {found:.6f}, below {least}"
        return ""


def embed_alone(backbone: Backbone, arrays: Sequence[NDArray[Any]]) -> Embedding:
    """Return the embeddings (n, dim) of prepared items, each in a batch of its own."""
    return np.concatenate([backbone.forward([array]) for array in arrays])


def measure_fidelity(backbone: Backbone, arrays: Sequence[NDArray[Any]], reference: Embedding) -> Fidelity:
    """Compare a session with the reference embeddings (n, dim) of n prepared items."""
    alone = embed_alone(backbone, arrays)
    cosines = _cosines(alone, reference)
    return Fidelity(
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        neighbours=float((_nearest(alone) == _nearest(reference)).mean()),
        batch_cosine=min(float(_cosines(alone, mixed).min()) for mixed in _in_batches(backbone, arrays)),
    )


def _in_batches(backbone: Backbone, arrays: Sequence[NDArray[Any]]) -> list[Embedding]:
    forward, backward = BATCHES
    reverse = arrays[::-1]
    return [_batched(backbone, arrays, forward), _batched(backbone, reverse, backward)[::-1]]


def _batched(backbone: Backbone, arrays: Sequence[NDArray[Any]], size: int) -> Embedding:
    return np.concatenate([backbone.forward(arrays[start : start + size]) for start in range(0, len(arrays), size)])


def _cosines(a: Embedding, b: Embedding) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows (n,)."""
    cosines: NDArray[np.float64] = (_units(a) * _units(b)).sum(axis=1)
    return cosines


def _nearest(embeddings: Embedding) -> NDArray[np.intp]:
    """Return which other row is nearest to each (n,)."""
    units = _units(embeddings)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.intp] = similarity.argmax(axis=1)
    return nearest


def _units(embeddings: Embedding) -> NDArray[np.float64]:
    values = embeddings.astype(np.float64)
    units: NDArray[np.float64] = values / np.maximum(
        np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float64).tiny
    )
    return units
