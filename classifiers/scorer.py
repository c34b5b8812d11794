"""Embeddings -> scores of classes: by arrays alone, or where that cannot be, by a fitted estimator of scikit-learn."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from classifiers.errors import HeadInvalid
from classifiers.preparation import Preparation

LEAST_VOTE = 1e-3  # a probability of 0 has no logarithm; k neighbours can tell no less than this apart
KERNEL_ROWS = 1024  # of which distances to all support vectors are in memory at once


class Scorer(Protocol):
    """What a head asks first: scores (n, n_outputs), float64, of embeddings X (n, dim)."""

    @property
    def preparation(self) -> Preparation:
        """What embeddings go through first."""
        ...

    @property
    def n_outputs(self) -> int:
        """Number of scores of an embedding."""
        ...

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores (n, n_outputs), float64; the larger, the likelier. Of a regression, the values themselves."""
        ...


@dataclass(frozen=True, eq=False)
class Layers:
    """Affine layers with a ReLU between each two: one is a linear model, two the network of the tutorials.

    Parameters
    ----------
    preparation : Preparation
    weights : tuple of ndarray of shape (n_out, n_in), float64
    biases : tuple of ndarray of shape (n_out,), float64

    Raises
    ------
    HeadInvalid
        Shapes that do not fit together, or values that are not finite.
    """

    preparation: Preparation
    weights: tuple[NDArray[np.float64], ...]
    biases: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise HeadInvalid(f"{len(self.weights)} weights and {len(self.biases)} biases make no layers")
        n_in = self.preparation.dim
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[1] != n_in or bias.shape != (len(weight),):
                raise HeadInvalid(
                    f"weights {weight.shape} and bias {bias.shape} do not fit an input of {n_in}; "
                    "weights are (outputs, inputs), bias is (outputs,)"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise HeadInvalid("weights or bias hold NaN or infinity; train the head again")
            n_in = len(weight)

    @property
    def n_outputs(self) -> int:
        """Number of scores of an embedding."""
        return len(self.biases[-1])

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores (n, n_outputs), float64, of embeddings X (n, dim)."""
        rows = self.preparation(X).astype(np.float64)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            rows = np.maximum(rows @ weight.T + bias, 0)
        return rows @ last[0].T + last[1]


@dataclass(frozen=True, eq=False)
class Kernel:
    """A machine with an RBF kernel: weighted sums of exp(-gamma |x - s|²) over its support vectors s.

    Parameters
    ----------
    preparation : Preparation
    support : ndarray of shape (n_support, dim), float64
        Prepared.
    dual : ndarray of shape (n_outputs, n_support), float64
    bias : ndarray of shape (n_outputs,), float64
    gamma : float

    Raises
    ------
    HeadInvalid
        Shapes that do not fit together, or values that are not finite.
    """

    preparation: Preparation
    support: NDArray[np.float64]
    dual: NDArray[np.float64]
    bias: NDArray[np.float64]
    gamma: float = 1.0

    def __post_init__(self) -> None:
        n_support, dim = self.support.shape if self.support.ndim == 2 else (0, 0)
        if dim != self.preparation.dim or self.dual.shape != (len(self.bias), n_support):
            raise HeadInvalid(
                f"support vectors {self.support.shape}, dual {self.dual.shape} and bias {self.bias.shape} do not fit "
                f"an input of {self.preparation.dim}; dual is (outputs, support vectors), bias is (outputs,)"
            )
        if (
            not all(np.isfinite(one).all() for one in (self.support, self.dual, self.bias))
            or not 0 < self.gamma < np.inf
        ):
            raise HeadInvalid("support vectors, dual, bias or gamma hold NaN or infinity; train the head again")

    @property
    def n_outputs(self) -> int:
        """Number of scores of an embedding."""
        return len(self.bias)

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores (n, n_outputs), float64, of embeddings X (n, dim)."""
        rows = self.preparation(X).astype(np.float64)
        lengths = (self.support**2).sum(axis=1)
        found = np.empty((len(rows), self.n_outputs))
        for begin in range(0, len(rows), KERNEL_ROWS):
            part = rows[begin : begin + KERNEL_ROWS]
            squared = (part**2).sum(axis=1)[:, np.newaxis] + lengths - 2 * (part @ self.support.T)
            found[begin : begin + KERNEL_ROWS] = np.exp(-self.gamma * squared.clip(min=0)) @ self.dual.T + self.bias
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted estimator of scikit-learn, which takes prepared embeddings.

    A margin (`decision_function`) is a score as it is; probabilities that have no margin behind them, of neighbours,
    are taken by their logarithm, or, of several labels, their log-odds; a regressor's predictions are the values.

    Parameters
    ----------
    preparation : Preparation
    estimator : scikit-learn estimator
        Its columns stand in the order of the head's classes.
    n_outputs : int
    """

    preparation: Preparation
    estimator: Any
    n_outputs: int

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores (n, n_outputs), float64, of embeddings X (n, dim)."""
        found = estimator_scores(self.estimator, self.preparation(X))
        if found.shape[1] != self.n_outputs:
            raise HeadInvalid(f"the estimator gives {found.shape[1]} scores, the head has {self.n_outputs} classes")
        return found


def estimator_scores(estimator: Any, prepared: NDArray[Any]) -> NDArray[np.float64]:
    """Return the scores (n, n_outputs), float64, that a fitted estimator of scikit-learn gives prepared rows (n, dim).

    Of two classes the margin m of the second becomes (-m / 2, m / 2), whose softmax is the same logistic function.
    """
    if hasattr(estimator, "decision_function"):
        margin = np.asarray(estimator.decision_function(prepared), np.float64)
        return np.stack([-margin / 2, margin / 2], axis=1) if margin.ndim == 1 else margin
    if not hasattr(estimator, "predict_proba"):
        values = np.asarray(estimator.predict(prepared), np.float64)
        return values[:, np.newaxis] if values.ndim == 1 else values
    votes = estimator.predict_proba(prepared)
    if isinstance(votes, list):  # several labels: for each (n, 2), or (n, 1) where all examples agreed
        columns = [_of_label(one, vote) for one, vote in zip(estimator.classes_, votes, strict=True)]
        odds: NDArray[np.float64] = logit(np.clip(np.stack(columns, axis=1), LEAST_VOTE, 1 - LEAST_VOTE))
        return odds
    found: NDArray[np.float64] = np.log(np.clip(votes, LEAST_VOTE, 1.0))
    return found


def _of_label(classes: NDArray[Any], votes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability (n,) that a label is there."""
    if len(classes) == 2:
        return np.asarray(votes[:, 1], np.float64)
    return np.full(len(votes), float(classes[0]))
