"""Embeddings X (n, dim) and labels y (n,) -> a head: logistic regression on unit-length embeddings."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import check_is_fitted, validate_data

from classifiers.embeddings import check_finite, check_labels, one_shot_is_enough
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.head import SINGLE, Calibration, Head
from classifiers.preparation import Preparation
from classifiers.scorer import Layers

DEFAULT_C = 10.0  # on unit-length embeddings scikit-learn's 1.0 costs points when shots are few


class LogisticHead(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression on unit-length embeddings; C is chosen by stratified cross-validation.

    Embeddings are brought to unit length, centred, and scaled to a mean squared length of 1. The intercept makes up
    for the centring; what it changes is that the solver needs fewer steps, and that one grid of C suits every
    backbone. An embedding of zeros has no direction and stays zeros until it is centred. The C with the least mean
    log-loss on the held-out folds is taken. Where a class has fewer examples than folds, there are as many folds as
    its examples; where it has one, nothing is held out and C is 10.

    Parameters
    ----------
    Cs : sequence of float
        Inverse strengths of regularisation to try; a single one is taken as it is.
    cv : int
        Folds, at least 2.
    class_weight : dict, 'balanced' or None
    max_iter : int
        Of the solver, for each fit.
    tol : float
        Of the solver: largest gradient component at the end.
    random_state : int or None
        How examples are dealt to folds; the same number gives the same head.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        dim.
    C_ : float
        The chosen C.
    cv_scores_ : dict of float to float
        Mean log-loss on held-out folds by C; empty where nothing was held out.
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
        InvalidOption
            No C, a C that is not positive, or fewer than 2 folds.
        InvalidLabels
            Labels that are numbers on a scale.
        NotFinite
            NaN or infinity in X.
        TooFewExamples
            All examples are of one class.
        ValueError
            No rows, or lengths that differ.
        """
        self._check_options()
        checked, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_all_finite=False)
        check_finite(checked)
        check_labels(labels)
        self.classes_, counts = np.unique(labels, return_counts=True)
        if len(self.classes_) < 2:
            raise TooFewExamples(
                f"all {len(labels)} examples are of 1 class, {str(self.classes_[0])!r}, and a head needs at least 2; "
                "add examples of another class"
            )
        prepare = Preparation.fit(checked)
        self.center_, self.scale_ = prepare.center, prepare.scale
        ready = prepare(checked)
        self.C_, self.cv_scores_ = self._choose(ready, labels, folds=min(self.cv, int(counts.min())))
        with one_shot_is_enough():
            self.model_ = self._model().set_params(C=self.C_).fit(ready, labels)
        self.n_iter_ = int(self.model_.n_iter_.max())
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each row of X (n, dim), (n,)."""
        ready = self._queries(X)
        predictions: NDArray[Any] = self.model_.predict(ready)
        return predictions

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return the probability of each class, (n, n_classes)."""
        ready = self._queries(X)
        probabilities: NDArray[np.floating[Any]] = self.model_.predict_proba(ready)
        return probabilities

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return the logits, (n, n_classes); for two classes (n,), positive for the second."""
        ready = self._queries(X)
        logits: NDArray[np.floating[Any]] = self.model_.decision_function(ready)
        return logits

    def head(self) -> Head:
        """Return the fitted head as arrays, for keeping and serving."""
        check_is_fitted(self)
        coef, intercept = self.model_.coef_.astype(np.float64), self.model_.intercept_.astype(np.float64)
        if len(self.classes_) == 2:  # one row of logits for the second class; half of them for each
            coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
        scorer = Layers(Preparation("SCALED", self.center_, self.scale_), (coef,), (intercept,))
        return Head(SINGLE, self.classes_, scorer, Calibration.none(len(self.classes_)))

    def _queries(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        dtypes = [np.float64, np.float32]
        queries = validate_data(self, X, reset=False, dtype=dtypes, ensure_all_finite=False)
        check_finite(queries)
        return Preparation("SCALED", self.center_, self.scale_)(queries)

    def _model(self) -> LogisticRegression:
        return LogisticRegression(class_weight=self.class_weight, max_iter=self.max_iter, tol=self.tol)

    def _choose(self, X: NDArray[Any], y: NDArray[Any], *, folds: int) -> tuple[float, dict[float, float]]:
        """Return C and the mean held-out log-loss of each; a fold goes from the strongest penalty to the weakest."""
        if len(self.Cs) == 1:
            return float(self.Cs[0]), {}
        if folds < 2:
            return DEFAULT_C, {}
        losses: dict[float, list[float]] = {float(C): [] for C in sorted(self.Cs)}
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=self.random_state).split(X, y):
            model = self._model().set_params(warm_start=True)
            for C, found in losses.items():
                model.set_params(C=C).fit(X[train], y[train])
                found.append(log_loss(y[test], model.predict_proba(X[test]), labels=self.classes_))
        scores = {C: float(np.mean(found)) for C, found in losses.items()}
        return min(scores, key=scores.__getitem__), scores

    def _check_options(self) -> None:
        if len(self.Cs) == 0 or not all(C > 0 for C in self.Cs):
            raise InvalidOption(f"Cs is {self.Cs!r}; take one positive number or more")
        if self.cv < 2:
            raise InvalidOption(f"cv is {self.cv!r}; take at least 2 folds")
