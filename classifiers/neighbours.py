"""A few labelled embeddings (the support) -> votes of the nearest of them, nearer ones counting for more."""

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import unit_length
from classifiers.score_classifier import ScoreClassifier

LEAST_DISTANCE = 1e-3  # about what float32 tells apart on the unit sphere; an equal example has not endless weight


class NearestNeighbours(ScoreClassifier):
    """The k nearest examples vote, each with the inverse of its distance (Dudani, IEEE Trans. SMC, 1976).

    Embeddings are brought to unit length. Neighbours are found by exact inner product in FAISS, in float32; their
    distances are computed anew in float64.

    Parameters
    ----------
    n_neighbors : int
        At least 1; all examples, where there are fewer.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    support_ : ndarray of shape (n, dim), float64
        Of unit length.
    own_ : ndarray of shape (n,), int64
        Position in `classes_` of each example's class.
    """

    temperature = 1.0

    def __init__(self, *, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return each class's share of the votes, (n, n_classes); for two the second's lead, (n,)."""
        shares = self.predict_proba(X)
        return shares[:, 1] - shares[:, 0] if shares.shape[1] == 2 else shares

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return each class's share of the votes, (n, n_classes)."""
        votes = self.scores(X)
        shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
        return shares

    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        self.support_, self.own_ = unit_length(X), own

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each class's votes (n, n_classes): sums of inverse distances."""
        queries = unit_length(X)
        index = faiss.IndexFlatIP(queries.shape[1])
        index.add(self.support_.astype(np.float32))
        _, nearest = index.search(queries.astype(np.float32), min(self.n_neighbors, len(self.support_)))
        votes = np.zeros((len(queries), len(self.classes_)))
        rows = np.arange(len(queries))
        for column in nearest.T:
            distance = np.linalg.norm(queries - self.support_[column], axis=1)
            votes[rows, self.own_[column]] += 1 / np.maximum(distance, LEAST_DISTANCE)
        return votes

    def _check_options(self) -> None:
        self._check_positive("n_neighbors")
