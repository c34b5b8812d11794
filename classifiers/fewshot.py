"""A few labelled embeddings (the support) -> a classifier that is ready at once: the nearest class mean."""

from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.embeddings import check_finite, check_labels, unit_length
from classifiers.errors import InvalidOption

TRANSFORMATIONS = ("UN", "L2N", "CL2N")


class NearestClassMean(ClassifierMixin, BaseEstimator):
    """Assigns each query to the class whose mean embedding is nearest, in Euclidean distance.

    The classifier of prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017) on a frozen backbone, with the
    transformations of SimpleShot (Wang, Chao, Weinberger and van der Maaten, 2019). SimpleShot subtracts the mean of
    the base classes that its network was trained on; there are none here, so `CL2N` subtracts the support's own.

    The nearest means are found by a flat FAISS index in float32. Where that cannot tell the two nearest apart, they
    are compared in float64, so that `predict` is exact; of equally near classes it takes the first of `classes_`.

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
    """

    def __init__(self, *, transformation: str = "CL2N", temperature: float = 0.15) -> None:
        self.transformation = transformation
        self.temperature = temperature

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Take the mean of each class.

        Parameters
        ----------
        X : array-like of shape (n, dim), float
            The support; one example of one class is enough.
        y : array-like of shape (n,)

        Raises
        ------
        InvalidLabels
            Labels that are numbers on a scale.
        InvalidOption
            An unknown transformation, or a temperature that is not positive.
        NotFinite
            NaN or infinity in X.
        ValueError
            No rows, or lengths that differ.
        """
        self._check_options()
        support, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite=False)
        check_finite(support)
        check_labels(labels)
        self.classes_, own, shots = np.unique(labels, return_inverse=True, return_counts=True)
        # With one class its mean would be subtracted from itself.
        centred = self.transformation == "CL2N" and len(self.classes_) > 1
        self.center_ = support.mean(axis=0) if centred else np.zeros(support.shape[1])
        by_class = self._transformed(support)[np.argsort(own, kind="stable")]
        self.means_ = np.add.reduceat(by_class, np.cumsum(shots) - shots, axis=0) / shots[:, None]
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the nearest mean of each row of X (n, dim), (n,)."""
        queries = self._queries(X)
        nearest, told_apart = self._search(queries)
        close = ~told_apart
        nearest[close] = self._distances(queries[close]).argmin(axis=1)
        predictions: NDArray[Any] = self.classes_[nearest]
        return predictions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the softmax of the negative squared distances over the temperature, (n, n_classes)."""
        probabilities: NDArray[np.float64] = softmax(-self._distances(self._queries(X)) / self.temperature, axis=1)
        return probabilities

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative squared distances to the means, (n, n_classes).

        For two classes how much nearer the second is than the first, (n,).
        """
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative squared distances to the means, (n, n_classes), also where there are two."""
        return -self._distances(self._queries(X))

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
        if not self.temperature > 0:
            raise InvalidOption(f"temperature is {self.temperature!r}; take a positive number")


def _float32(X: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return X as FAISS reads it."""
    return np.ascontiguousarray(X, np.float32)
