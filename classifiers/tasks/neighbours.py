"""Unit vectors by number -> the most similar ones to a query; a flat FAISS index, exact but for float32's rounding."""

import faiss
import numpy as np
from numpy.typing import NDArray

from classifiers.embeddings import unit_length

SPARE = (
    32  # that are asked for beside the k nearest: of many examples the next few are often as near as float32 can tell
)


class Neighbours:
    """Finds by cosine similarity. One thread may change it while no other searches; many may search.

    `IndexIDMap2` over `IndexFlatIP`: an approximate index loses neighbours, and HNSW removes none.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, numbers: NDArray[np.int64], X: NDArray[np.float32]) -> None:
        """Add embeddings X (n, dim) under numbers (n,)."""
        self._index.add_with_ids(np.ascontiguousarray(unit_length(X)), numbers)

    def remove(self, numbers: NDArray[np.int64]) -> None:
        """Remove what stands under numbers (n,)."""
        self._index.remove_ids(faiss.IDSelectorBatch(numbers))

    def candidates(self, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
        """Return for each unit-length query (n, dim) the numbers of all that may be among its k nearest.

        They are at least k, and more where float32 cannot tell the k-th from those after it.
        """
        n = min(k + SPARE, len(self))
        similarities, numbers = self._index.search(queries, n)
        if n <= k:
            return list(numbers)
        # Both sides of a product are rounded, and its sum (Higham, Accuracy and Stability, section 3.1); so is the
        # unit length. Twice: of the k-th and of the other.
        error = 2 * (queries.shape[1] + 16) * float(np.finfo(np.float32).eps) / 2
        least = similarities[:, k - 1 : k].astype(np.float64) - 2 * error
        near = similarities >= least  # sorted, so these are the first
        found = [row[: int(m)] for row, m in zip(numbers, near.sum(axis=1), strict=True)]
        for row in np.flatnonzero(near[:, -1]) if n < len(self) else ():  # there may be more that are
            _, _, found[row] = self._index.range_search(queries[row : row + 1], float(least[row, 0]))
        return found
