"""Examples of a task -> what they teach, lean enough to keep for thousands of tasks and to ask in microseconds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.adaptive import AUTO, CLASS_MEAN, AdaptiveClassifier, _by_rule
from classifiers.lean import ByExamples, Scores, lean
from classifiers.names import MOST_SHOTS

AT_ONCE = 1000  # examples that an instant answer takes at most, but for one of each class


@dataclass(frozen=True, eq=False)
class Numbered:
    """Examples of a task by their positions in its sorted labels.

    Parameters
    ----------
    labels : ndarray of shape (n_classes,), str
        Those that have an example or a name, sorted.
    own : ndarray of shape (n,), int64
        Position of each example's label.
    named : sequence of str
        Labels whose names count as one more example.
    """

    labels: NDArray[np.str_]
    own: NDArray[np.int64]
    named: Sequence[str]

    @classmethod
    def of(cls, own: NDArray[np.int64], labels: NDArray[np.str_], names: Iterable[str]) -> Self:
        """Take positions (n,) in sorted labels that have examples, and the labels that have a name."""
        if not names:
            return cls(labels, own, ())
        full = set(labels[np.bincount(own, minlength=len(labels)) >= MOST_SHOTS].tolist())
        named = [label for label in names if label not in full]
        both = np.unique(np.array([*labels.tolist(), *named], np.str_))
        return cls(both, np.searchsorted(both, labels)[own], named)

    @property
    def shots(self) -> NDArray[np.int64]:
        """Examples of each class, (n_classes,)."""
        return np.bincount(self.own, minlength=len(self.labels))

    def suited(self, method: str) -> str:
        """Return the method that is asked for, where it can be learnt: of one class only class means can."""
        return AUTO if len(self.labels) == 1 else method

    def is_by_means(self, method: str) -> bool:
        """Whether that method comes to class means."""
        named = np.searchsorted(self.labels, np.array(self.named, np.str_))
        rule = _by_rule(self.shots + np.bincount(named, minlength=len(self.labels)))[0]
        return CLASS_MEAN in (method, rule if method == AUTO else "")

    def kept(self) -> NDArray[np.int64]:
        """Return positions for an instant answer: the newest of each class, as many as make a bounded number."""
        shots, n = self.shots, len(self.own)
        if n <= AT_ONCE:
            return np.arange(n)
        # Of 16 bits numpy sorts by radix, ten times as quickly.
        own = self.own.astype(np.uint16) if len(shots) < 1 << 16 else self.own
        order = np.argsort(own, kind="stable")
        to_come = np.repeat(np.cumsum(shots), shots) - np.arange(n)  # of its class, with itself
        return np.sort(order[to_come <= _most(shots)])

    def examples(self, X: NDArray[np.float32], names: Mapping[str, NDArray[np.float32]]) -> "Examples":
        """Return what is learnt from, of X (n, dim) and the names' vectors."""
        if not self.named:
            return Examples(X, self.own, self.labels, 0)
        vectors = np.array([names[label] for label in self.named], np.float32)
        own = np.concatenate([self.own, np.searchsorted(self.labels, np.array(self.named, np.str_))])
        return Examples(np.concatenate([X.reshape(-1, vectors.shape[1]), vectors]), own, self.labels, len(vectors))


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learnt from.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        Finite; names come last.
    own : ndarray of shape (n,), int64
        Positions in `labels`.
    labels : ndarray of shape (n_classes,), str
        Sorted; each has a row.
    n_names : int
        Of the rows.
    """

    X: NDArray[np.float32]
    own: NDArray[np.int64]
    labels: NDArray[np.str_]
    n_names: int


@dataclass(frozen=True, eq=False)
class Learnt:
    """What examples have taught.

    Parameters
    ----------
    labels : ndarray of shape (n_classes,), str
        Sorted.
    classifier : AdaptiveClassifier
        Fitted, but for its estimator.
    scores : callable
        In the estimator's place.
    reason : str
        Why this method, in words.
    """

    labels: NDArray[np.str_]
    classifier: Any
    scores: Scores
    reason: str

    @property
    def method(self) -> str:
        """Which classifies."""
        return str(self.classifier.chosen_)

    @property
    def calibrated(self) -> bool:
        """Whether every class has the examples that a threshold needs."""
        return bool(self.classifier.calibrated_)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities (n, n_classes) of scores: their softmax over the temperature."""
        likely: NDArray[np.float64] = np.exp(
            (scores - scores.max(axis=1, keepdims=True)) / self.classifier.temperature_
        )
        likely /= likely.sum(axis=1, keepdims=True)
        return likely

    def threshold_at(self, false_alarm_rate: float) -> float | None:
        """Return what scores below it is unknown; None: nothing is."""
        found = float(self.classifier.threshold_at(false_alarm_rate))
        return found if np.isfinite(found) else None

    def over(self, rows: NDArray[np.float32] | None) -> Self:
        """Return the same over the task's own embeddings, or without them, to travel."""
        return replace(self, scores=self.scores.over(rows)) if isinstance(self.scores, ByExamples) else self


def learn(examples: Examples, method: str) -> Learnt:
    """Learn by a method, or `auto`."""
    model = AdaptiveClassifier(method=method)
    model._n_names = examples.n_names
    model.learn(examples.X.astype(np.float64), examples.own)
    scores = lean(model.estimator_, examples.X)
    del model.estimator_
    return Learnt(examples.labels, model, scores, model.reason_)


def _most(shots: NDArray[np.int64]) -> int:
    """Return how many of each class at most make no more than AT_ONCE examples; at least 1."""
    low, high = 1, AT_ONCE
    while low < high:
        middle = (low + high + 1) // 2
        fits = np.minimum(shots, middle).sum() <= AT_ONCE
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
