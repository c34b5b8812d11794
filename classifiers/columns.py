"""An estimator of one output -> one of several: a copy of it learns each column of y."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import BaseEstimator, clone, is_classifier


class Columns(BaseEstimator):
    """One copy of an estimator for each label, or for each number of a regression.

    scikit-learn's own OneVsRestClassifier warns of a label that all examples of a fold have; here such a label gets
    constant log-odds. Of a regression the copies' C and epsilon are in units of their column's standard deviation.

    Attributes
    ----------
    estimators_ : list
        Of fitted copies; where a label was constant, its log-odds, a float.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Fit a copy on X (n, dim) and each column of y (n, n_outputs)."""
        self.estimators_ = [self._fitted(X, column) for column in y.T]
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores of each output, (n, n_outputs), float64."""
        return np.stack([self._scores(one, X) for one in self.estimators_], axis=1)

    def _fitted(self, X: NDArray[Any], column: NDArray[Any]) -> Any:
        one = clone(self.estimator)
        if not is_classifier(one):
            spread = float(column.std()) or 1.0
            known = {name: value * spread for name, value in one.get_params().items() if name in ("C", "epsilon")}
            return one.set_params(**known).fit(X, column)
        if column.min() == column.max():
            return constant_odds(column)
        return one.fit(X, column)

    def _scores(self, one: Any, X: NDArray[Any]) -> NDArray[np.float64]:
        if isinstance(one, float):
            return np.full(len(X), one)
        scores = one.decision_function(X) if is_classifier(one) else one.predict(X)
        return np.asarray(scores, np.float64)


def constant_odds(column: NDArray[Any]) -> float:
    """Return the log-odds of a label that all or none of n examples have, by Laplace's rule of succession."""
    return float(logit((column.sum() + 1) / (len(column) + 2)))
