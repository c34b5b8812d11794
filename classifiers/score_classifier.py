"""Scores of classes (n, n_classes) -> what scikit-learn asks of a classifier: what the few-shot methods share."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.embeddings import check_finite, check_labels
from classifiers.errors import InvalidOption, TooFewExamples


class ScoreClassifier(ClassifierMixin, BaseEstimator):
    """Predicts the class with the largest score; a subclass says how it learns, and what scores are.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        dim.
    """

    temperature: float  # scores are divided by it before the softmax

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from the support.

        Parameters
        ----------
        X : array-like of shape (n, dim), float
        y : array-like of shape (n,)

        Raises
        ------
        InvalidLabels
            Labels that are numbers on a scale.
        InvalidOption
            A parameter with a value that it cannot have.
        NotFinite
            NaN or infinity in X.
        TooFewExamples
            One class, where the method needs two.
        ValueError
            No rows, or lengths that differ.
        """
        self._check_options()
        support, labels = validate_data(self, X, y, dtype=np.float64, ensure_all_finite=False)
        check_finite(support)
        check_labels(labels)
        self.classes_, own = np.unique(labels, return_inverse=True)
        self._learn(support, own)
        return self

    def learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> Self:
        """Learn from rows (n, dim) that are checked already, and numbers of their classes (n,); spares `fit`'s time."""
        self.n_features_in_ = X.shape[1]
        self.classes_, positions = np.unique(own, return_inverse=True)
        self._learn(X, positions)
        return self

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return a score of each class, (n, n_classes), also where there are two; the larger, the likelier."""
        check_is_fitted(self)
        queries = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        check_finite(queries)
        return self._score(queries)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the scores (n, n_classes); for two classes how much larger the second is, (n,)."""
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class with the largest score of each row of X (n, dim), (n,); of equal ones the first."""
        best = self.scores(X).argmax(axis=1)
        predictions: NDArray[Any] = self.classes_[best]
        return predictions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the softmax of the scores over the temperature, (n, n_classes)."""
        probabilities: NDArray[np.float64] = softmax(self.scores(X) / self.temperature, axis=1)
        return probabilities

    @abstractmethod
    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        """Learn from checked rows (n, dim) and the positions of their classes (n,)."""

    @abstractmethod
    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores (n, n_classes) of checked rows (n, dim)."""

    def _check_options(self) -> None:
        """Raise InvalidOption where a parameter has a value that it cannot have."""
        self._check_positive("temperature")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not 0 < getattr(self, name) < np.inf:
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; take a positive number")

    def _check_two_classes(self) -> None:
        if len(self.classes_) < 2:
            raise TooFewExamples(
                f"all examples are of 1 class, {str(self.classes_[0])!r}, and {type(self).__name__} needs at least 2; "
                "add examples of another class, or take NearestClassMean"
            )
