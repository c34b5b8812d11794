"""An estimator, X (n, dim) and y (n,) -> accuracy by examples a class, and whether more labels would help."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length
from threadpoolctl import threadpool_limits

from classifiers.errors import InvalidOption, TooFewExamples

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
MAX_TRAIN, MAX_TEST = 2000, 1000  # rows of a fit and of a test: what bounds the cost
HELD_OUT = 0.25
STEEP, SLIGHT = 0.01, 0.003  # accuracy gained by a doubling: worth the work, and hardly to be seen


@dataclass(frozen=True)
class Point:
    """Accuracy with so many examples a class, on average over draws; low and high are the least and the most."""

    shots: int
    n_train: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy by examples a class.

    Parameters
    ----------
    points : tuple of Point
        From few examples to many.
    n_test, n_draws : int
        Held-out examples that all points are measured on, and draws of each point.
    gain : float or None
        Accuracy that a doubling of the examples gained at the curve's end; None with a single point.
    advice : str
        Whether more labels would help, in plain words.
    """

    points: tuple[Point, ...]
    n_test: int
    n_draws: int
    gain: float | None
    advice: str


def learning_curve(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    shots: Sequence[int] = SHOTS,
    n_draws: int = 3,
    max_train: int = MAX_TRAIN,
    max_test: int = MAX_TEST,
    random_state: int | None = 0,
) -> LearningCurve:
    """Fit clones of an estimator on ever more examples a class, and score them on examples that none of them saw.

    A class that has fewer examples than a point asks for gives all it has. Points where the estimator refuses to learn
    are left out. The last point takes all examples, of as
    many classes as there are, up to `max_train` rows.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Only clones of it are fitted.
    X : array-like of shape (n, dim)
    y : array-like of shape (n,)
    shots : sequence of int
        Examples a class, ascending.
    n_draws : int
        Draws of training examples for each point.
    max_train, max_test : int
        Rows of a fit at most, and of the held-out examples.
    random_state : int or None

    Raises
    ------
    InvalidOption
        A number of shots or draws below 1.
    TooFewExamples
        Fewer than 2 classes that have 2 examples: nothing can be held out. Or the estimator learns from none of the
        draws.
    """
    if n_draws < 1 or not all(one >= 1 for one in shots):
        raise InvalidOption(f"n_draws is {n_draws} and shots are {list(shots)}; take at least 1 of each")
    embeddings, labels = np.asarray(X), np.asarray(y)
    check_consistent_length(embeddings, labels)
    random = np.random.default_rng(random_state)
    train, test = _split(labels, max_test, random)
    with threadpool_limits(1):  # many small fits: threads that wait for each other made them ninety times slower
        found = [
            _point(estimator, embeddings, labels, _drawn(labels, train, own, max_train, n_draws, random), test, own)
            for own in _steps(labels[train], shots, max_train)
        ]
    points = [one for one in found if one is not None]
    if not points:
        raise TooFewExamples(f"{type(estimator).__name__} learns from none of the {len(train)} examples; add examples")
    gain = _gain(points)
    return LearningCurve(tuple(points), len(test), n_draws, gain, _advice(points, gain, len(test)))


def _split(y: NDArray[Any], max_test: int, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions to learn from and to test on; what is alone in its class is only learnt from."""
    classes, own, counts = np.unique(y, return_inverse=True, return_counts=True)
    if (counts > 1).sum() < 2:
        raise TooFewExamples(
            f"{(counts > 1).sum()} of {len(classes)} classes have 2 examples, and a learning curve needs 2 that do; "
            "add examples"
        )
    splittable = np.flatnonzero(counts[own] > 1)
    n_classes = int((counts > 1).sum())
    n_test = min(max(n_classes, min(max_test, round(HELD_OUT * len(y)))), len(splittable) - n_classes)
    train, test = train_test_split(
        splittable, test_size=n_test, stratify=own[splittable], random_state=int(random.integers(2**31))
    )
    return np.sort(np.concatenate([train, np.flatnonzero(counts[own] == 1)])), np.sort(test)


def _steps(y: NDArray[Any], shots: Sequence[int], max_train: int) -> list[int]:
    """Return the examples a class of each point; the last takes all there are, or all that fit."""
    counts = np.unique(y, return_counts=True)[1]
    most = int(counts.max())
    within = [one for one in shots if one < most and np.minimum(counts, one).sum() <= max_train]
    if counts.sum() <= max_train:
        return [*within, most]
    return within or [1]


def _drawn(
    y: NDArray[Any],
    train: NDArray[np.int64],
    shots: int,
    max_train: int,
    n_draws: int,
    random: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Return training positions for each draw; a single draw where all examples are taken."""
    members = [train[y[train] == label] for label in np.unique(y[train])]
    everything = all(len(one) <= shots for one in members)
    n = 1 if everything else n_draws
    draws = [np.concatenate([random.permutation(one)[:shots] for one in members]) for _ in range(n)]
    return [random.permutation(one)[:max_train] for one in draws]


def _point(
    estimator: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    draws: list[NDArray[np.int64]],
    test: NDArray[np.int64],
    shots: int,
) -> Point | None:
    """Return the point, or None where the estimator needs more examples, as one that cross-validates does."""
    try:
        scores = [float(clone(estimator).fit(X[train], y[train]).score(X[test], y[test])) for train in draws]
    except ValueError:
        return None
    return Point(shots, len(draws[0]), float(np.mean(scores)), min(scores), max(scores))


def _gain(points: list[Point]) -> float | None:
    """Return the accuracy that a doubling of the training rows gained, by a line through the last points.

    Over at least a doubling, so that noise between two close points is not taken for a slope.
    """
    last = points[-1].n_train
    span = [one for one in points if one.n_train * 2 <= last][-1:]
    if not span:
        return None
    return (points[-1].mean - span[0].mean) / float(np.log2(last / span[0].n_train))


def _advice(points: list[Point], gain: float | None, n_test: int) -> str:
    if gain is None:
        return "There are too few examples to tell whether more labels would help."
    end = points[-1]
    said = f"Up to {end.shots} examples a class, the last doubling gained {100 * gain:.1f} points of accuracy."
    if end.mean > 1 - SLIGHT:
        return "No: held-out accuracy is as good as perfect already."
    noise = (end.mean * (1 - end.mean) / n_test) ** 0.5  # standard error of a share
    if SLIGHT < gain < noise:
        return f"Perhaps. {said} But {n_test} held-out examples are too few to tell that from chance."
    if gain > STEEP:
        return f"Yes: the curve still climbs. {said}"
    if gain > SLIGHT:
        return f"A little: the curve is nearly flat. {said}"
    return f"Hardly: the curve is flat. {said} Cleaner labels, or another backbone, would help more."
