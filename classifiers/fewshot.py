"""A few labelled embeddings (the support) -> a classifier that is ready at once: the nearest class mean."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import InvalidOption
from classifiers.score_classifier import ScoreClassifier

TRANSFORMATIONS = ("UN", "L2N", "CL2N")


class NearestClassMean(ScoreClassifier):
    """Assigns each query to the class whose mean embedding is nearest, in Euclidean distance.

    The classifier of prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017) on a frozen backbone, with the
    transformations of SimpleShot (Wang, Chao, Weinberger and van der Maaten, 2019). SimpleShot subtracts the mean of
    the base classes that its network was trained on; there are none here, so `CL2N` subtracts the support's own.

    The nearest means are found by a flat FAISS index in float32. Where that cannot tell the two nearest apart, they
    are compared in float64, so that `predict` is exact; of equally near classes it takes the first of `classes_`.
    Scores are negative squared distances.

    Parameters
    ----------
    transformation : {'UN', 'L2N', 'CL2N'}
        What is done to embeddings first: nothing; unit length; the support's mean subtracted, then unit length.
        An embedding of zeros stays zeros.
    temperature : float
        Squared distances are divided by it before the softmax of `predict_proba`; positive. Squared distances of
        unit-length embeddings are at most 4; for `UN`, choose it by their scale.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        dim.
    center_ : ndarray of shape (dim,), float64
        What is subtracted; zeros unless `CL2N` has two classes or more.
    means_ : ndarray of shape (n_classes, dim), float64
        The mean of each class, of transformed embeddings; not brought to unit length again.
    shots_ : ndarray of shape (n_classes,), int64
        Examples of each class.
    """

    def __init__(self, *, transformation: str = "CL2N", temperature: float = 0.15) -> None:
        self.transformation = transformation
        self.temperature = temperature

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the nearest mean of each row of X (n, dim), (n,)."""
        queries = self._queries(X)
        nearest, told_apart = self._search(queries)
        close = ~told_apart
        nearest[close] = self._distances(queries[close]).argmin(axis=1)
        predictions: NDArray[Any] = self.classes_[nearest]
        return predictions

    def leave_one_out(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return the scores of each example of the support, had it not been learnt from, (n, n_classes).

        In closed form: without the example the mean of its class of n stands n / (n - 1) times as far from it. An
        example that is alone in its class scores -inf there. The centre stays as it is.

        Parameters
        ----------
        X, y : array-like of shape (n, dim) and (n,)
            As `fit` had them, all or some.
        """
        rows = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        check_finite(rows)
        return self._leave_one_out(rows, np.searchsorted(self.classes_, np.asarray(y)))

    def kneighbors(self, X: ArrayLike, *, n_neighbors: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest class means by FAISS alone, in float32.

        Returns
        -------
        distances : ndarray of shape (n, n_neighbors), float32
            Squared Euclidean, least first.
        positions : ndarray of shape (n, n_neighbors), int64
            In `classes_`.

        Raises
        ------
        InvalidOption
            Fewer neighbours than 1, or more than classes.
        """
        queries = self._queries(X)
        if not 1 <= n_neighbors <= len(self.classes_):
            raise InvalidOption(f"n_neighbors is {n_neighbors}; take 1 to {len(self.classes_)}, the number of classes")
        index = faiss.IndexFlatL2(self.means_.shape[1])
        index.add(_float32(self.means_))
        distances, positions = index.search(_float32(queries), n_neighbors)
        return distances, positions

    def _search(self, queries: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the nearest means by FAISS.

        Returns
        -------
        nearest : ndarray of shape (n,), int64
            Position in `classes_`.
        told_apart : ndarray of shape (n,), bool
            Whether the second nearest is further by more than float32 can be wrong.
        """
        n_classes, dim = self.means_.shape
        if n_classes == 1:
            return np.zeros(len(queries), np.int64), np.ones(len(queries), bool)
        # About the means' middle and of their size, so that float32 keeps what tells them apart.
        middle = self.means_.mean(axis=0)
        size = np.abs(self.means_ - middle).max() or 1.0
        means = _float32((self.means_ - middle) / size)
        index = faiss.IndexFlatL2(dim)  # made anew: adding the means costs about as much as one query
        index.add(means)
        with np.errstate(over="ignore", invalid="ignore"):  # a query too far away for float32 is not told apart
            rows = _float32((queries - middle) / size)
            distances, positions = index.search(rows, 2)
            # Rounding of |x|² + |m|² - 2xm, with sums of `dim` terms (Higham, Accuracy and Stability, section 3.1).
            reach = np.linalg.norm(rows, axis=1) + np.linalg.norm(means, axis=1).max()
            error = (dim + 8) * np.finfo(np.float32).eps / 2 * reach**2
            told_apart = distances[:, 1] - distances[:, 0] > 2 * error
        return positions[:, 0], told_apart

    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        # With one class its mean would be subtracted from itself.
        centred = self.transformation == "CL2N" and len(self.classes_) > 1
        self.center_ = X.mean(axis=0) if centred else np.zeros(X.shape[1])
        self.shots_ = np.bincount(own)
        by_class = self._transformed(X)[np.argsort(own, kind="stable")]
        self.means_ = np.add.reduceat(by_class, np.cumsum(self.shots_) - self.shots_, axis=0) / self.shots_[:, None]

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the negative squared distances to the means, (n, n_classes)."""
        return -self._distances(self._transformed(X))

    def _leave_one_out(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
        rows, shots = self._transformed(X), self.shots_[own]
        # One product for all; `_distances` is exact, and many times slower.
        squared = (rows**2).sum(axis=1)[:, np.newaxis] + (self.means_**2).sum(axis=1) - 2 * (rows @ self.means_.T)
        further = (shots / np.maximum(shots - 1, 1)) ** 2 * ((rows - self.means_[own]) ** 2).sum(axis=1)
        squared[np.arange(len(rows)), own] = np.where(shots > 1, further, np.inf)
        scores: NDArray[np.float64] = -squared.clip(min=0)
        return scores

    def _distances(self, queries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return squared distances (n, n_classes), each summed on its own: equal means are equally near."""
        distances: NDArray[np.float64] = cdist(queries, self.means_, "sqeuclidean")
        return distances

    def _queries(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        queries = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        check_finite(queries)
        return self._transformed(queries)

    def _transformed(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.transformation == "UN":
            return X
        # What centring leaves of a row at the centre is rounding, and has no direction.
        rounding = 16 * np.finfo(np.float64).eps * np.abs(self.center_).max()
        return unit_length(X - self.center_, least=rounding)

    def _check_options(self) -> None:
        if self.transformation not in TRANSFORMATIONS:
            raise InvalidOption(f"transformation is {self.transformation!r}, not one of {', '.join(TRANSFORMATIONS)}")
        self._check_positive("temperature")


def _float32(X: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return X as FAISS reads it."""
    return np.ascontiguousarray(X, np.float32)
