"""What extraction gives for one item: an embedding, or the item's own error in its place."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractor.errors import ExtractorError

Embedding = NDArray[np.float32]


class Embedded(NamedTuple):
    """An embedding (dim,), float32, read-only, and whether the item's end was left out; what caches store."""

    embedding: Embedding
    truncated: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of one item; exactly one of `embedding` and `error` is set.

    Parameters
    ----------
    embedding : ndarray of shape (dim,), float32, optional
        Read-only.
    error : ExtractorError, optional
        Why there is no embedding.
    cached : bool
        The embedding came from the cache.
    truncated : bool
        The item was longer than the backbone reads and its end was left out.
    """

    embedding: Embedding | None = None
    error: ExtractorError | None = None
    cached: bool = False
    truncated: bool = False


def stack(outcomes: Iterable[Outcome], dim: int) -> Embedding:
    """Return the embeddings of outcomes as (n, dim) float32; the first error raises, with its position in front."""
    rows = []
    for position, outcome in enumerate(outcomes):
        if outcome.error is not None:
            raise type(outcome.error)(f"item {position}: {outcome.error}") from outcome.error
        rows.append(outcome.embedding)
    return np.array(rows, np.float32).reshape(len(rows), dim)
