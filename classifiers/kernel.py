"""Prepared embeddings and a target -> a support vector machine with an RBF kernel, each class against the rest."""

from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, SVR
from sklearn.utils.class_weight import compute_sample_weight

from classifiers.columns import constant_odds
from classifiers.head import REGRESSION, SINGLE

GAMMA = 1.0  # what scikit-learn's "scale" comes to on SCALED embeddings; fixed, so that all folds share one kernel
MAX_KERNEL_ROWS = 16_384  # 2 GiB; above, libsvm computes the rows of the kernel that it needs, which is slower


class KernelMachine(BaseEstimator):
    """scikit-learn's SVC for each class against the rest, or SVR for each number, all on one kernel matrix.

    SVC's own way with several classes is to let each pair vote. Votes say little of how sure they are: on
    Banking77, learnt from 2,000 to 3,000 texts, their best temperature leaves an expected calibration error of 0.69,
    margins against the rest 0.06. On one kernel matrix, each against the rest is as fast, and comes to plain arrays.

    Parameters
    ----------
    kind : {'single', 'multi', 'regression'}
    C : float
        Of a regression in units of the numbers' standard deviation, as is the tube's width of 0.1.
    class_weight : dict of int to float, 'balanced' or None
    n_jobs : int
        Threads.

    Attributes
    ----------
    support_ : ndarray of shape (n_support,), int64
        Positions of the examples that any class needs.
    support_vectors_ : ndarray of shape (n_support, dim), float64
    dual_ : ndarray of shape (n_outputs, n_support), float64
    intercept_ : ndarray of shape (n_outputs,), float64
        Of two classes there is one output, for the second.
    """

    def __init__(self, *, kind: str = SINGLE, C: float = 1.0, class_weight: Any = None, n_jobs: int = 1) -> None:
        self.kind = kind
        self.C = C
        self.class_weight = class_weight
        self.n_jobs = n_jobs

    def fit(self, X: NDArray[Any], y: NDArray[Any], kernel: NDArray[np.float64] | None = None) -> Self:
        """Learn from X (n, dim) and the values of a target; `kernel` (n, n) is that of X, where it is known."""
        if kernel is None and len(X) <= MAX_KERNEL_ROWS:
            kernel = rbf_kernel(X.astype(np.float64), gamma=GAMMA)
        rows = X if kernel is None else kernel
        run = Parallel(n_jobs=self.n_jobs, backend="threading")
        fitted = run(delayed(self._column)(rows, *one, kernel is None) for one in self._columns(y))
        dual = np.stack([one for one, _ in fitted])
        self.support_ = np.flatnonzero((dual != 0).any(axis=0))
        self.support_vectors_ = X[self.support_].astype(np.float64)
        self.dual_, self.intercept_ = dual[:, self.support_], np.array([shift for _, shift in fitted])
        return self

    def _columns(self, y: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[np.float64]]]:
        """Return what each machine learns, (n,), and its examples' weights, (n,)."""
        if self.kind == SINGLE:
            weights = compute_sample_weight(self.class_weight, y)
            classes = range(int(y.max()) + 1) if y.max() > 1 else (1,)
            return [((y == own).astype(np.int64), weights) for own in classes]
        weigh = None if self.kind == REGRESSION else self.class_weight
        return [(column, compute_sample_weight(weigh, column)) for column in y.T]

    def _column(
        self, rows: NDArray[Any], column: NDArray[Any], weights: NDArray[np.float64], raw: bool
    ) -> tuple[NDArray[np.float64], float]:
        """Return the dual coefficients (n,) and the intercept of one machine."""
        dual, kernel = np.zeros(len(rows)), "rbf" if raw else "precomputed"
        if self.kind == REGRESSION:
            spread = float(column.std()) or 1.0
            machine: Any = SVR(kernel=kernel, gamma=GAMMA, C=self.C * spread, epsilon=0.1 * spread)
        elif column.min() == column.max():
            return dual, constant_odds(column)
        else:
            machine = SVC(kernel=kernel, gamma=GAMMA, C=self.C)
        with config_context(assume_finite=True):  # it would look through the whole matrix again for each class
            machine.fit(rows, column, sample_weight=weights)
        dual[machine.support_] = machine.dual_coef_[0]
        return dual, float(machine.intercept_[0])
