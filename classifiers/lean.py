"""A few-shot method, fitted on rows of unit length -> the same scores, with less memory and time.

A method that weighs examples has their embeddings as the task has them: no copy is kept beside the task's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from classifiers import scorer
from classifiers.cached_keys import CachedKeys
from classifiers.embeddings import unit_length
from classifiers.heads import LogisticHead
from classifiers.neighbours import LEAST_DISTANCE, NearestNeighbours
from classifiers.preparation import Preparation
from classifiers.shot_heads import KernelLogistic, RidgeHead

QUERIES = 256  # that are compared with all examples at once


class Scores(Protocol):
    """Finite rows X (n, dim), float32 -> scores (n, n_classes), float64."""

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        ...


@dataclass(frozen=True, eq=False)
class Linear:
    """Affine in prepared embeddings: ridge and logistic regression."""

    layers: scorer.Layers

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        return self.layers.scores(X.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Estimated:
    """By the method itself."""

    estimator: Any

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        found: NDArray[np.float64] = self.estimator._score(unit_length(X.astype(np.float64)))
        return found


@dataclass(frozen=True, eq=False)
class ByExamples:
    """By the cosine to each example.

    Parameters
    ----------
    rows : ndarray of shape (n_examples, dim), float32, optional
        As the task has them; None while it travels.
    score : callable
        Cosines (n, n_examples) and queries' squared lengths (n, 1), 1 or 0, to scores.
    """

    rows: NDArray[np.float32] | None
    inverse: NDArray[np.float32]  # 1 / length of each, (n_examples,)
    score: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]

    @classmethod
    def of(cls, rows: NDArray[np.float32], score: Any) -> Self:
        """Take examples as they are."""
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        return cls(rows, (1 / np.where(lengths > 0, lengths, np.inf)).astype(np.float32), score)

    def over(self, rows: NDArray[np.float32] | None) -> Self:
        """Return the same over rows that are equal, or without any."""
        return replace(self, rows=rows)

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        assert self.rows is not None  # noqa: S101  # for mypy: it has arrived
        queries = unit_length(X)
        parts = []
        for begin in range(0, len(queries), QUERIES):
            part = queries[begin : begin + QUERIES]
            parts.append(self.score(part @ self.rows.T * self.inverse, (part**2).sum(axis=1, keepdims=True)))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weighted sums of exp(-gamma |x - s|²); of unit lengths, whose centre and scale are in gamma already."""

    gamma: float
    dual: NDArray[np.float32]  # (n_examples, n_classes)
    bias: NDArray[np.float64]  # (n_classes,)
    squares: NDArray[np.float32]  # of the examples' lengths, 1 or 0, (n_examples,)

    def __call__(self, cosines: NDArray[np.float32], squares: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        near = np.exp(np.float32(-self.gamma) * (squares + self.squares - 2 * cosines).clip(min=0))
        found: NDArray[np.float64] = (near @ self.dual).astype(np.float64) + self.bias
        return found


@dataclass(frozen=True, eq=False)
class Votes:
    """The nearest examples vote with the inverse of their distance."""

    n_neighbours: int
    own: NDArray[np.int32]  # (n_examples,)
    n_classes: int
    squares: NDArray[np.float32]

    def __call__(self, cosines: NDArray[np.float32], squares: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        k = min(self.n_neighbours, len(self.own))
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        squared = squares + self.squares[nearest] - 2 * np.take_along_axis(cosines, nearest, axis=1).astype(np.float64)
        votes = 1 / np.maximum(np.sqrt(squared.clip(min=0)), LEAST_DISTANCE)
        return _summed(votes, self.own[nearest], self.n_classes)


@dataclass(frozen=True, eq=False)
class Keys:
    """Every example's affinity counts for its class; of unit lengths about a centre."""

    beta: float
    alpha: float
    keys: NDArray[np.float32]  # (n_examples, dim), prepared
    own: NDArray[np.int32]
    n_classes: int
    prepare: Preparation

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes), float64."""
        affinity = np.exp(-self.beta * (1 - self.prepare(X.astype(np.float64)).astype(np.float32) @ self.keys.T))
        return self.alpha * _summed(affinity, np.broadcast_to(self.own, affinity.shape), self.n_classes)


def lean(estimator: Any, rows: NDArray[np.float32]) -> Scores:
    """Return what scores like a fitted method that was learnt from rows (n, dim)."""
    if isinstance(estimator, KernelLogistic) and len(estimator.scorer_.support) == len(rows):
        return ByExamples.of(rows, _kernel(estimator.scorer_, rows))
    if isinstance(estimator, NearestNeighbours):
        own = estimator.own_.astype(np.int32)
        return ByExamples.of(rows, Votes(int(estimator.n_neighbors), own, len(estimator.classes_), _squares(rows)))
    if isinstance(estimator, CachedKeys) and estimator.prior is None:
        prepare, own = estimator.preparation_, estimator.own_.astype(np.int32)
        keys = estimator.keys_.astype(np.float32)
        return Keys(estimator.beta, estimator.alpha, keys, own, len(estimator.classes_), prepare)
    if isinstance(estimator, LogisticHead):
        return Linear(estimator.head().scorer)  # type: ignore[arg-type]
    if isinstance(estimator, RidgeHead):
        return Linear(_layers(estimator))
    return Estimated(estimator)


def _kernel(found: scorer.Kernel, rows: NDArray[np.float32]) -> Kernel:
    # Centring moves examples and queries alike, and scaling is a matter of gamma.
    gamma = found.gamma / found.preparation.scale**2
    return Kernel(gamma, found.dual.T.astype(np.float32, order="C"), found.bias, _squares(rows))


def _layers(model: RidgeHead) -> scorer.Layers:
    coef, intercept = np.atleast_2d(model.model_.coef_), np.atleast_1d(model.model_.intercept_)
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return scorer.Layers(model.preparation_, (coef.astype(np.float64),), (intercept.astype(np.float64),))


def _squares(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    squares: NDArray[np.float32] = (rows != 0).any(axis=1).astype(np.float32)
    return squares


def _summed(values: NDArray[Any], own: NDArray[np.int32], n_classes: int) -> NDArray[np.float64]:
    """Sum values (n, m) by their classes (n, m); return (n, n_classes)."""
    found = [np.bincount(which, row, n_classes) for row, which in zip(values, own, strict=True)]
    return np.array(found, np.float64).reshape(len(values), n_classes)
