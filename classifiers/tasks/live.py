"""A support and its neighbours, which change together while others read: each answer is of one version."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption
from classifiers.tasks.lock import SharedLock
from classifiers.tasks.neighbours import Neighbours
from classifiers.tasks.support import Delta, Support


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest examples of each query.

    Parameters
    ----------
    support : Support
        That they are of, with its version.
    positions : ndarray of shape (n, k), int64
        In the support, most similar first; of equally similar ones the one that came first.
    similarities : ndarray of shape (n, k), float64
        Cosine, -1 to 1; of an embedding of zeros 0.
    """

    support: Support
    positions: NDArray[np.int64]
    similarities: NDArray[np.float64]


class Live:
    """What readers of a task see. `support` needs no lock; one thread at a time calls `apply`."""

    def __init__(self, dim: int) -> None:
        self.support = Support.empty(dim)
        self._neighbours = Neighbours(dim)
        self._lock = SharedLock()

    def apply(self, delta: Delta) -> None:
        """Go on to the next version."""
        after = self.support.after(delta)
        with self._lock.alone():
            if len(delta.removed):
                self._neighbours.remove(delta.removed)
            if len(delta.numbers):
                self._neighbours.add(delta.numbers, delta.X)
            self.support = after

    def nearest(self, X: ArrayLike, k: int) -> Nearest:
        """Find the k most similar examples of each query X (n, dim), or all, where there are fewer.

        FAISS finds the candidates, and they are compared in float64: the answer is that of brute force.

        Raises
        ------
        EmbeddingMismatch, NotFinite, InvalidOption
        """
        if k < 1:
            raise InvalidOption(f"k is {k}; take 1 or more neighbours")
        queries = as_embeddings(X, self.support.dim)
        unit = np.ascontiguousarray(unit_length(queries))
        with self._lock.shared():
            support = self.support
            k = min(k, len(support))
            found = self._neighbours.candidates(unit, k) if k and len(unit) else []
        positions = np.zeros((len(queries), k), np.int64)
        similarities = np.zeros((len(queries), k))
        for row, numbers in enumerate(found):
            where = np.sort(support.positions(numbers))
            cosines = cosine(support.rows(where), queries[row])
            best = np.argsort(-cosines, kind="stable")[:k]
            positions[row], similarities[row] = where[best], cosines[best]
        return Nearest(support, positions, similarities)


def cosine(X: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine (n,) of each row of X (n, dim) and a query (dim,), each summed on its own in float64."""
    rows, one = unit_length(X.astype(np.float64)), unit_length(query.astype(np.float64)[None])
    similarities: NDArray[np.float64] = (rows * one).sum(axis=1)
    return similarities


def as_embeddings(X: ArrayLike, dim: int) -> NDArray[np.float32]:
    """Return X as (n, dim) float32, all finite; raises EmbeddingMismatch, NotFinite."""
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is found below
            rows = np.ascontiguousarray(X, np.float32)
    except (ValueError, TypeError) as error:
        raise EmbeddingMismatch(f"X is no array of numbers ({error}); give one row of {dim} to each item") from None
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise EmbeddingMismatch(
            f"X has shape {rows.shape}, and the task holds embeddings of length {dim}: it must be (n, {dim}); extract "
            "the items with the task's backbone"
        )
    check_finite(rows)
    return rows
