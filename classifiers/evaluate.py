"""Labels (n,) -> episodes of support and queries; an estimator and embeddings -> accuracy over episodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone

from classifiers.errors import TooFewExamples


@dataclass(frozen=True, eq=False)
class Episode:
    """One draw of a few-shot problem.

    Parameters
    ----------
    support, query : ndarray of int64
        Positions of the examples to learn from, (way × shots,), and of those to classify, (way × queries,).
    """

    support: NDArray[np.int64]
    query: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpisodeScores:
    """Accuracy over episodes.

    Parameters
    ----------
    accuracies : ndarray of shape (n_episodes,), float64
        Share of queries that were classified rightly, in [0, 1].
    """

    accuracies: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean accuracy, in [0, 1]."""
        return float(self.accuracies.mean())

    @property
    def interval(self) -> float:
        """Half width of the 95 % interval of the mean, by Student's t; NaN for a single episode."""
        n = len(self.accuracies)
        if n < 2:
            return float("nan")
        return float(stats.t.ppf(0.975, n - 1) * self.accuracies.std(ddof=1) / np.sqrt(n))


def episodes(
    y: ArrayLike, *, way: int, shots: int, queries: int = 15, n_episodes: int, random_state: int | None = None
) -> Iterator[Episode]:
    """Draw episodes as the few-shot literature does (Vinyals et al., NeurIPS 2016).

    Parameters
    ----------
    y : array-like of shape (n,)
    way : int
        Classes of an episode, drawn without replacement.
    shots, queries : int
        Examples of each class to learn from, and to classify; no example is both.
    n_episodes : int
    random_state : int or None

    Raises
    ------
    TooFewExamples
        Fewer than `way` classes, or a class with fewer than `shots + queries` examples.
    """
    labels = np.asarray(y)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < way:
        raise TooFewExamples(f"there are {len(classes)} classes, an episode needs {way}; ask for fewer ways")
    least = int(counts.argmin())
    if counts[least] < shots + queries:
        raise TooFewExamples(
            f"class {str(classes[least])!r} has {counts[least]} examples, an episode needs {shots} shots + {queries} "
            "queries of each; ask for fewer of either, or add examples"
        )
    members = [np.flatnonzero(labels == label) for label in classes]
    random = np.random.default_rng(random_state)
    for _ in range(n_episodes):
        drawn = [
            random.choice(members[i], shots + queries, replace=False)
            for i in random.choice(len(classes), way, replace=False)
        ]
        yield Episode(
            support=np.concatenate([one[:shots] for one in drawn]), query=np.concatenate([one[shots:] for one in drawn])
        )


def evaluate_episodes(
    estimator: Any,
    X: NDArray[Any],
    y: ArrayLike,
    *,
    way: int,
    shots: int,
    queries: int = 15,
    n_episodes: int = 200,
    random_state: int | None = None,
) -> EpisodeScores:
    """Fit a clone of the estimator on each episode's support and score it on its queries; see `episodes`.

    Parameters
    ----------
    estimator : scikit-learn classifier
    X : ndarray of shape (n, dim)
    y : array-like of shape (n,)
    """
    labels = np.asarray(y)
    drawn = episodes(y, way=way, shots=shots, queries=queries, n_episodes=n_episodes, random_state=random_state)
    accuracies = [
        clone(estimator).fit(X[one.support], labels[one.support]).score(X[one.query], labels[one.query])
        for one in drawn
    ]
    return EpisodeScores(np.array(accuracies))
