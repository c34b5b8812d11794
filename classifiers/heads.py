"""Embeddings X (n, dim) and labels y (n,) -> a head: logistic regression on unit-length embeddings."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.errors import TooFewExamples

DEFAULT_C = 10.0  # on unit-length embeddings scikit-learn's 1.0 costs points when shots are few


class LogisticHead(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression on unit-length embeddings; C is chosen by stratified cross-validation.

    Embeddings are brought to unit length, centred, and scaled to a mean squared length of 1. The intercept makes up
    for the centring; what it changes is that the solver needs fewer steps, and that one grid of C suits every
    backbone. The C with the least mean log-loss on the held-out folds is taken. Where a class has fewer examples than
    folds, there are as many folds as its examples; where it has one, C is 10.

    Parameters
    ----------
    Cs : sequence of float
        Inverse strengths of regularisation to try.
    cv : int
        Folds, at least 2.
    class_weight : dict, 'balanced' or None
    max_iter : int
        Of the solver, for each fit.
    tol : float
        Of the solver: largest gradient component at the end.
    random_state : int or None
        How examples are dealt to folds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    C_ : float
        The chosen C.
    cv_scores_ : dict of float to float
        Mean log-loss on held-out folds by C; empty where there was nothing to hold out.
    n_iter_ : int
        Iterations of the last fit.
    center_ : ndarray of shape (dim,)
        Mean of the unit-length embeddings.
    scale_ : float
        Root of their mean squared distance from it.
    model_ : LogisticRegression
        Fitted on all examples.
    """

    def __init__(
        self,
        *,
        Cs: Sequence[float] = (0.1, 1.0, 10.0, 100.0),  # the name that scikit-learn's LogisticRegressionCV has
        cv: int = 3,
        class_weight: dict[Any, float] | str | None = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        random_state: int | None = None,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose C, then fit on all examples.

        Parameters
        ----------
        X : array-like of shape (n, dim), float
        y : array-like of shape (n,)

        Raises
        ------
        TooFewExamples
            All examples are of one class.
        ValueError
            NaN or infinity in X, or lengths that differ.
        """
        checked, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_, counts = np.unique(labels, return_counts=True)
        if len(self.classes_) < 2:
            raise TooFewExamples(
                f"all {len(labels)} examples are of 1 class, {str(self.classes_[0])!r}, and a head needs at least 2; "
                "add examples of another class"
            )
        unit = normalize(checked)
        self.center_ = unit.mean(axis=0)
        self.scale_ = float(np.sqrt(((unit - self.center_) ** 2).sum(axis=1).mean())) or 1.0
        ready = self._ready(checked)
        self.cv_scores_ = self._score(ready, labels, folds=min(self.cv, counts.min()))
        self.C_ = min(self.cv_scores_, key=self.cv_scores_.__getitem__) if self.cv_scores_ else DEFAULT_C
        self.model_ = self._model().set_params(C=self.C_).fit(ready, labels)
        self.n_iter_ = int(self.model_.n_iter_.max())
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each row, (n,)."""
        likeliest = self._logits(X).argmax(axis=1)
        predictions: NDArray[Any] = self.classes_[likeliest]
        return predictions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, (n, n_classes)."""
        check_is_fitted(self)
        probabilities: NDArray[np.float64] = self.model_.predict_proba(self._validated(X))
        return probabilities

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the logits, (n, n_classes); for two classes (n,), positive for the second."""
        check_is_fitted(self)
        logits: NDArray[np.float64] = self.model_.decision_function(self._validated(X))
        return logits

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        logits = self.decision_function(X)
        return np.stack([-logits, logits], axis=1) if logits.ndim == 1 else logits

    def _validated(self, X: ArrayLike) -> NDArray[Any]:
        return self._ready(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))

    def _ready(self, X: NDArray[Any]) -> NDArray[Any]:
        """Bring embeddings to unit length, centre and scale them; keeps the dtype."""
        ready: NDArray[Any] = (normalize(X) - self.center_.astype(X.dtype)) / X.dtype.type(self.scale_)
        return ready

    def _model(self) -> LogisticRegression:
        return LogisticRegression(class_weight=self.class_weight, max_iter=self.max_iter, tol=self.tol)

    def _score(self, X: NDArray[Any], y: NDArray[Any], *, folds: int) -> dict[float, float]:
        """Return the mean held-out log-loss by C; each fold goes from the strongest regularisation to the weakest."""
        if folds < 2 or len(self.Cs) < 2:
            return dict.fromkeys(self.Cs, 0.0) if len(self.Cs) == 1 else {}
        losses: dict[float, list[float]] = {C: [] for C in sorted(self.Cs)}
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=self.random_state).split(X, y):
            model = self._model().set_params(warm_start=True)
            for C, found in losses.items():
                model.set_params(C=C).fit(X[train], y[train])
                found.append(log_loss(y[test], model.predict_proba(X[test]), labels=self.classes_))
        return {C: float(np.mean(found)) for C, found in losses.items()}
