"""A session and a reference (n, dim) -> how near its embeddings stand, and whether batch-mates change them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.backbone import Backbone
from extractor.fidelity import Fidelity
from extractor.golden import cosines_of, units_of
from extractor.outcome import Embedding

BATCHES = (32, 7)  # sizes, for the items in order and in reverse: each item meets other mates, in another place
NEAREST = 10


def embed_alone(backbone: Backbone, arrays: Sequence[NDArray[Any]]) -> Embedding:
    """Return the embeddings (n, dim) of prepared items, each in a batch of its own."""
    return np.concatenate([backbone.forward([array]) for array in arrays])


def measure_fidelity(backbone: Backbone, arrays: Sequence[NDArray[Any]], reference: Embedding) -> Fidelity:
    """Compare a session with the reference embeddings (n, dim) of n prepared items, at least two."""
    return fidelity_of(embed_alone(backbone, arrays), reference, in_batches(backbone, arrays))


def fidelity_of(alone: Embedding, reference: Embedding, batched: Sequence[Embedding]) -> Fidelity:
    """Compare embeddings (n, dim) of n items, each computed alone, with the reference, and with those from batches."""
    cosines = cosines_of(alone, reference)
    own, wanted = (_nearest(embeddings)[:, :NEAREST] for embeddings in (alone, reference))
    return Fidelity(
        n_items=len(alone),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        neighbours=float((own[:, 0] == wanted[:, 0]).mean()),
        neighbours_10=float((own[:, :, None] == wanted[:, None, :]).any(axis=2).mean()),
        batch_cosine=min(float(cosines_of(alone, mixed).min()) for mixed in batched),
    )


def in_batches(backbone: Backbone, arrays: Sequence[NDArray[Any]]) -> list[Embedding]:
    """Return the embeddings (n, dim) of prepared items from batches of each of `BATCHES`."""
    forward, backward = BATCHES
    return [_batched(backbone, arrays, forward), _batched(backbone, arrays[::-1], backward)[::-1]]


def _batched(backbone: Backbone, arrays: Sequence[NDArray[Any]], size: int) -> Embedding:
    return np.concatenate([backbone.forward(arrays[start : start + size]) for start in range(0, len(arrays), size)])


def _nearest(embeddings: Embedding) -> NDArray[np.intp]:
    """Return the other rows, the nearest to each first (n, n - 1)."""
    units = units_of(embeddings)
    distance = -units @ units.T
    np.fill_diagonal(distance, np.inf)
    nearest: NDArray[np.intp] = distance.argsort(axis=1, kind="stable")[:, :-1]
    return nearest
