"""A few labelled embeddings (the support) -> a classifier that is ready at once: the nearest class mean."""

from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

TRANSFORMATIONS = ("UN", "L2N", "CL2N")


class NearestClassMean(ClassifierMixin, BaseEstimator):
    """Assigns each query to the class whose mean embedding is nearest, in Euclidean distance.

    The classifier of prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017) on a frozen backbone, with the
    transformations of SimpleShot (Wang, Chao, Weinberger and van der Maaten, 2019). The nearest means are found by
    a flat FAISS index, which is exact.

    Parameters
    ----------
    transformation : {'UN', 'L2N', 'CL2N'}
        What is done to embeddings first: nothing; unit length; the support's mean subtracted, then unit length.
    temperature : float
        Squared distances are divided by it before the softmax of `predict_proba`; the means of unit-length embeddings
        stand within 4 of each other.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    center_ : ndarray of shape (dim,), float64
        What is subtracted; zero but for `CL2N`.
    means_ : ndarray of shape (n_classes, dim), float64
        The mean of each class, of transformed embeddings.
    """

    def __init__(self, *, transformation: str = "CL2N", temperature: float = 0.1) -> None:
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
        ValueError
            NaN or infinity in X, lengths that differ, an unknown transformation.
        """
        if self.transformation not in TRANSFORMATIONS:
            raise ValueError(f"transformation is {self.transformation!r}, not one of {', '.join(TRANSFORMATIONS)}")
        support, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, own = np.unique(labels, return_inverse=True)
        # With one class its mean would be subtracted from itself.
        centred = self.transformation == "CL2N" and len(self.classes_) > 1
        self.center_ = support.mean(axis=0) if centred else np.zeros(support.shape[1])
        self.means_ = np.zeros((len(self.classes_), support.shape[1]))
        np.add.at(self.means_, own, self._transformed(support))
        self.means_ /= np.bincount(own)[:, None]
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of the nearest mean of each row, (n,)."""
        _, nearest = self.kneighbors(X, n_neighbors=1)
        predictions: NDArray[Any] = self.classes_[nearest[:, 0]]
        return predictions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the softmax of the negative squared distances over the temperature, (n, n_classes)."""
        probabilities: NDArray[np.float64] = softmax(-self._distances(X) / self.temperature, axis=1)
        return probabilities

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the negative squared distances to the means, (n, n_classes).

        For two classes the difference (n,), positive where the second is nearer.
        """
        scores = -self._distances(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def kneighbors(self, X: ArrayLike, *, n_neighbors: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest class means.

        Returns
        -------
        distances : ndarray of shape (n, n_neighbors), float32
            Squared Euclidean, least first.
        positions : ndarray of shape (n, n_neighbors), int64
            In `classes_`.
        """
        queries = self._queries(X)
        index = faiss.IndexFlatL2(self.means_.shape[1])
        index.add(np.ascontiguousarray(self.means_, np.float32))
        distances, positions = index.search(np.ascontiguousarray(queries, np.float32), n_neighbors)
        return distances, positions

    def _distances(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return squared distances (n, n_classes), in float64."""
        queries = self._queries(X)
        squares = (queries**2).sum(axis=1)[:, None] + (self.means_**2).sum(axis=1) - 2 * queries @ self.means_.T
        distances: NDArray[np.float64] = np.maximum(squares, 0)
        return distances

    def _queries(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self._transformed(validate_data(self, X, reset=False, dtype=np.float64))

    def _transformed(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.transformation == "UN":
            return X
        unit: NDArray[np.float64] = normalize(X - self.center_)
        return unit
