"""A candidate as a scikit-learn estimator: embeddings as a backbone gives them and labels -> predictions of labels."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from classifiers.estimators import Candidate, Setting, fit_scorer, weights_by_position
from classifiers.head import REGRESSION, SINGLE, Calibration, Head
from classifiers.preparation import Preparation
from classifiers.search import quietly
from classifiers.target import Target


class Chosen(BaseEstimator):
    """What a training chose, unfitted: for cloning, cross-validation and learning curves. It calibrates nothing.

    Parameters
    ----------
    head : str
        Of the catalogue.
    params : mapping of str to Any
    kind : {'single', 'multi', 'regression'}
    class_weight : dict, 'balanced' or None
        By label; those of labels that y lacks are not used.
    random_state : int or None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    head_ : Head
    """

    def __init__(
        self,
        *,
        head: str = "logistic",
        params: Mapping[str, Any] | None = None,
        kind: str = SINGLE,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.head = head
        self.params = params
        self.kind = kind
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from X (n, dim) and labels (n,), an indicator matrix or numbers; raises what `train` raises."""
        embeddings, target = np.asarray(X), Target.of(y, self.kind)
        weights = weights_by_position(self.class_weight, target, strict=False)
        setting = Setting(target.kind, len(target.classes), weights, self.random_state)
        self.head_ = fit_head(Candidate(self.head, dict(self.params or {})), embeddings, target, setting)
        self.classes_, self.n_features_in_ = target.classes, embeddings.shape[1]
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return labels (n,), an indicator (n, n_labels) of 0 and 1, or numbers (n, n_outputs)."""
        check_is_fitted(self)
        found = self.head_.predict(X)
        return found.astype(np.int64) if found.dtype == bool else found

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores (n, n_classes)."""
        check_is_fitted(self)
        return self.head_.scores(X)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the share of rows that are predicted rightly, or of a regression R²."""
        found = self.predict(X)
        if self.kind == REGRESSION:
            from sklearn.metrics import r2_score

            return float(r2_score(np.asarray(y).reshape(found.shape), found))
        return float((found == np.asarray(y)).reshape(len(found), -1).all(axis=1).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor" if self.kind == REGRESSION else "classifier"
        return tags


def fit_head(candidate: Candidate, X: NDArray[Any], target: Target, setting: Setting) -> Head:
    """Fit a candidate on embeddings X (n, dim) as a backbone gave them; the head is not calibrated."""
    preparation = Preparation.fit(X, candidate.transformation)
    with quietly():
        scorer = fit_scorer(candidate, preparation(X), target.values, setting, preparation)
    return Head(target.kind, target.classes, scorer, Calibration.none(len(target.classes)))
