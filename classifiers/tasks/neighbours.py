"""Unit vectors by number -> the most similar ones to a query; a flat FAISS index, exact but for float32's rounding."""

import faiss
import numpy as np
from numpy.typing import NDArray

from classifiers.embeddings import unit_length


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
        n = min(k + 1, len(self))
        similarities, numbers = self._index.search(queries, n)
        found = list(numbers)
        if n <= k:
            return found
        # Both sides of a product are rounded, and its sum (Higham, Accuracy and Stability, section 3.1); so is the
        # unit length. Twice: of the k-th and of the other.
        error = 2 * (queries.shape[1] + 16) * float(np.finfo(np.float32).eps) / 2
        for row in np.flatnonzero(similarities[:, k - 1] - similarities[:, k] <= 2 * error):
            least = float(similarities[row, k - 1]) - 2 * error
            _, _, found[row] = self._index.range_search(queries[row : row + 1], least)
        return found
