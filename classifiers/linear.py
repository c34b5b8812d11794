"""Weights and biases -> a head that needs no library but NumPy: what a fitted linear head is when it is kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import HeadInvalid


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits of unit-length embeddings, and their softmax.

    Parameters
    ----------
    classes_ : ndarray of shape (n_classes,), str or int
        Sorted, each once.
    weights : ndarray of shape (n_classes, dim), float64
    bias : ndarray of shape (n_classes,), float64

    Raises
    ------
    HeadInvalid
        Shapes that do not fit together, values that are not finite, or a class twice.
    """

    classes_: NDArray[Any]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.classes_)
        if n < 2 or len(np.unique(self.classes_)) != n:
            raise HeadInvalid(f"a head of {n} classes, {len(np.unique(self.classes_))} of them different, is none")
        if self.weights.ndim != 2 or len(self.weights) != n or self.bias.shape != (n,):
            raise HeadInvalid(
                f"{n} classes, weights {self.weights.shape} and bias {self.bias.shape} do not fit together; "
                "weights are (classes, dim), bias is (classes,)"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise HeadInvalid("weights or bias hold NaN or infinity; train the head again")

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.weights.shape[1])

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the logits of embeddings X (n, dim), (n, n_classes), float64.

        Raises
        ------
        NotFinite
            NaN or infinity in X.
        ValueError
            Embeddings of another length.
        """
        embeddings = np.asarray(X, np.float64)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise ValueError(f"X is {embeddings.shape}, the head takes (n, {self.dim}); extract with its own backbone")
        check_finite(embeddings)
        logits: NDArray[np.float64] = unit_length(embeddings) @ self.weights.T + self.bias
        return logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, (n, n_classes), float64."""
        logits = self.decision_function(X)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each row, (n,)."""
        predictions: NDArray[Any] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return predictions
