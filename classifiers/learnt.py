"""Examples of a task and its settings -> what they teach, as it is kept for answering: labels, scores, thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from classifiers.adaptive import CLASS_MEAN, AdaptiveClassifier
from classifiers.tasks.settings import Settings

USUAL_RATE = 0.05  # of false alarms; what a threshold is learnt with where nothing is to be unknown


@dataclass(frozen=True, eq=False)
class Learnt:
    """What examples have taught.

    Parameters
    ----------
    labels : ndarray of shape (n_classes,), str
        Sorted.
    classifier : AdaptiveClassifier
        Fitted on positions in `labels`.
    """

    labels: NDArray[np.str_]
    classifier: Any

    @property
    def method(self) -> str:
        """Which classifies."""
        return str(self.classifier.chosen_)

    @property
    def reason(self) -> str:
        """Why it does, in words."""
        return str(self.classifier.reason_)

    @property
    def calibrated(self) -> bool:
        """Whether the threshold is learnt of examples that were held out."""
        return bool(self.classifier.calibrated_)

    def scores(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return scores (n, n_classes) of finite rows X (n, dim)."""
        found: NDArray[np.float64] = self.classifier._score(X.astype(np.float64))
        return found

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities (n, n_classes) of scores."""
        found: NDArray[np.float64] = softmax(scores / self.classifier.temperature_, axis=1)
        return found

    def threshold_at(self, false_alarm_rate: float) -> float | None:
        """Return what scores below it is unknown; None: nothing is."""
        if not false_alarm_rate:
            return None
        found = float(self.classifier.threshold_)
        return found if np.isfinite(found) else None


def learn(
    X: NDArray[np.float32],
    own: NDArray[np.int64],
    labels: NDArray[np.str_],
    settings: Settings,
    method: str = CLASS_MEAN,
    names: Mapping[str, NDArray[np.float32]] | None = None,
) -> Learnt:
    """Learn from X (n, dim), of whose rows `own` (n,) are the positions of their labels; each label has a row."""
    model = AdaptiveClassifier(method=method, false_alarm_rate=settings.false_alarm_rate or USUAL_RATE)
    return Learnt(labels, model.fit(X, own))
