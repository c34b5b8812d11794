"""Labels (n,) -> episodes of support and queries; an estimator and embeddings -> accuracy over episodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length

from classifiers.errors import InvalidOption, TooFewExamples


class Episode(NamedTuple):
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
        """Half width of the 95 % interval of the mean; NaN for a single episode.

        By Student's t (Biometrika, 1908), for episodes may be few. Episodes draw from the same examples, so it speaks
        of other episodes of these examples, not of other examples (Lafargue et al., "Oops, I sampled it again", 2024).
        """
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
        The same number draws the same episodes.

    Raises
    ------
    InvalidOption
        A number below 1.
    TooFewExamples
        Fewer than `way` classes, or a class with fewer than `shots + queries` examples.
    """
    for name, value in {"way": way, "shots": shots, "queries": queries, "n_episodes": n_episodes}.items():
        if value < 1:
            raise InvalidOption(f"{name} is {value}; take at least 1")
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
    return (_draw(members, way, shots, queries, random) for _ in range(n_episodes))


def evaluate_episodes(
    estimator: Any,
    X: ArrayLike,
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
    X : array-like of shape (n, dim)
    y : array-like of shape (n,)
    """
    embeddings, labels = np.asarray(X), np.asarray(y)
    check_consistent_length(embeddings, labels)
    drawn = episodes(labels, way=way, shots=shots, queries=queries, n_episodes=n_episodes, random_state=random_state)
    accuracies = [
        clone(estimator).fit(embeddings[support], labels[support]).score(embeddings[query], labels[query])
        for support, query in drawn
    ]
    return EpisodeScores(np.array(accuracies))


def _draw(members: list[NDArray[np.int64]], way: int, shots: int, queries: int, random: np.random.Generator) -> Episode:
    """Draw one episode from the positions of each class's examples."""
    drawn = [
        random.choice(members[i], shots + queries, replace=False)
        for i in random.choice(len(members), way, replace=False)
    ]
    return Episode(
        support=np.concatenate([one[:shots] for one in drawn]), query=np.concatenate([one[shots:] for one in drawn])
    )
