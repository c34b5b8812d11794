"""A head and embeddings -> what it tells of each: labels, *unknown*, or numbers. Loads no scikit-learn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractor.errors import ExtractorError, InferenceFailed

if TYPE_CHECKING:
    from classifiers.head import Head

PRESENT = 0.5  # probability above which one of several labels is there
REGRESSION = "regression"
MAX_SHOWN = 100  # labels of one item


@dataclass(frozen=True)
class Ranked:
    """A label and its probability."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a head tells of one item; where `error` is set, nothing.

    Parameters
    ----------
    label : str, optional
        The likeliest; None where the item is unknown, or the head is a regression.
    probability : float
        Of the likeliest label, also where the item is unknown.
    unknown : bool
        The score is below the head's threshold.
    score : float
        How well the item is known: its confidence or energy.
    ranking : tuple of Ranked
        The likeliest labels, as many as were asked for; of several labels also all that are there.
    values : tuple of float
        Of a regression.
    error : ExtractorError, optional
        Why there is no prediction.
    head : str
        The version that answered, `NAME@3`.
    cached, truncated : bool
        The embedding came from the cache; the item's end was left out.
    """

    label: str | None = None
    probability: float = 0.0
    unknown: bool = False
    score: float = 0.0
    ranking: tuple[Ranked, ...] = ()
    values: tuple[float, ...] = ()
    error: ExtractorError | None = None
    head: str = ""
    cached: bool = False
    truncated: bool = False

    @property
    def labels(self) -> list[str]:
        """Of a head of several labels: those that are there."""
        return [one.label for one in self.ranking if one.probability > PRESENT]


def predict(head: "Head", X: NDArray[Any], *, top: int = 1, title: str = "") -> list[Prediction]:
    """Return what a head tells of embeddings.

    Parameters
    ----------
    head : Head
    X : ndarray of shape (n, dim), float32
        Finite.
    top : int
        Labels of each, the likeliest first, at most 100.
    title : str
        The head's version, `NAME@3`.
    """
    if not len(X):
        return []
    scores = head.scores(X)
    if head.kind == REGRESSION:
        return [
            Prediction(values=tuple(row), head=title) if np.isfinite(row).all() else _failed(title) for row in scores
        ]
    probabilities, known = head.probabilities(scores), head.knowing(scores)
    threshold = head.rejection.threshold if head.rejection else -np.inf
    labels = [str(label) for label in head.classes_.tolist()]
    n_shown = np.maximum(top, (probabilities > PRESENT).sum(axis=1)).clip(max=MAX_SHOWN)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : n_shown.max()]
    return [
        _told([Ranked(labels[i], float(row[i])) for i in order[:n].tolist()], score, score < threshold, title)
        if _finite(row) and np.isfinite(score)
        else _failed(title)
        for row, order, n, score in zip(probabilities, best, n_shown.tolist(), known.tolist(), strict=True)
    ]


def _finite(row: NDArray[Any]) -> bool:
    return bool(np.isfinite(row).all())


def _told(ranking: list[Ranked], score: float, unknown: bool, title: str) -> Prediction:
    return Prediction(
        label=None if unknown else ranking[0].label,
        probability=ranking[0].probability,
        unknown=unknown,
        score=score,
        ranking=tuple(ranking),
        head=title,
    )


def _failed(title: str) -> Prediction:
    return Prediction(
        error=InferenceFailed(f"head {title} gives NaN or infinity for this item; train it again"), head=title
    )
