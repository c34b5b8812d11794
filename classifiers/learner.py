"""A task's examples -> what classifies by them, in milliseconds, and a better one as soon as it is learnt aside."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import TaskEmpty
from classifiers.learnt import Learnt, learn
from classifiers.tasks.settings import Settings
from classifiers.tasks.support import Support

Names = Mapping[str, NDArray[np.float32]]


class Classified(NamedTuple):
    """Probabilities (n, n_classes), float64, and scores (n,), float64: what scores below the threshold is unknown."""

    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Taught:
    """What a support has taught, at one version.

    Parameters
    ----------
    version : int
        Of the support.
    learnt_from : int
        Version of the support that it was learnt from: the same, or, in a large task, one that almost is.
    refining : bool
        Whether a better one is being learnt.
    threshold : float, optional
        What scores below it is unknown; None: nothing is.
    """

    version: int
    learnt_from: int
    refining: bool
    threshold: float | None
    learnt: Learnt = field(repr=False)

    @property
    def method(self) -> str:
        """Which classifies."""
        return self.learnt.method

    @property
    def reason(self) -> str:
        """Why it does, in words."""
        return self.learnt.reason

    @property
    def calibrated(self) -> bool:
        """Whether every class has the examples that a threshold needs; if not, it is a stated prior."""
        return self.learnt.calibrated

    @property
    def labels(self) -> NDArray[np.str_]:
        """Labels (n_classes,), sorted."""
        return self.learnt.labels

    def classify(self, X: NDArray[np.float32]) -> Classified:
        """Return what is known of X (n, dim) float32, whose values must be finite and of the task's dim."""
        scores = self.learnt.scores(X)
        return Classified(self.learnt.probabilities(scores), scores.max(axis=1))

    def threshold_at(self, false_alarm_rate: float) -> float | None:
        """Return the threshold of another share of false alarms; None: nothing is unknown."""
        return self.learnt.threshold_at(false_alarm_rate)


class Learner:
    """What tasks have taught, by their names. Any thread may ask; a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taught: dict[str, tuple[Support, Settings, Taught]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def taught(self, name: str, support: Support, settings: Settings, names: Names | None = None) -> Taught:
        """Return what a support teaches, in milliseconds; raises TaskEmpty where there is nothing to go by."""
        with self._lock:
            found = self._taught.get(name)
            if found is None or found[0] is not support or found[1] != settings:
                if not len(support):
                    raise TaskEmpty("the task has no examples yet; add some")
                taught = _taught(support.version, support.X, support.y, settings)
                found = self._taught[name] = (support, settings, taught)
            return found[2]

    def once(
        self, X: NDArray[np.float32], labels: Sequence[str], settings: Settings, names: Names | None = None
    ) -> Taught:
        """Return what examples X (n, dim) with their labels teach, and remember nothing; raises TaskEmpty."""
        if not len(X):
            raise TaskEmpty("there are no examples; send some")
        return _taught(0, X, np.array(labels, np.str_), settings)

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until nothing is being refined for a task; False, where it still is."""
        return True

    def forget(self, name: str) -> None:
        """Forget what a task has taught."""
        with self._lock:
            self._taught.pop(name, None)

    def close(self) -> None:
        """End what is being learnt."""


def _taught(version: int, X: NDArray[np.float32], y: NDArray[np.str_], settings: Settings) -> Taught:
    labels, own = np.unique(y, return_inverse=True)
    learnt = learn(X, own, labels, settings)
    return Taught(
        version=version,
        learnt_from=version,
        refining=False,
        threshold=learnt.threshold_at(settings.false_alarm_rate),
        learnt=learnt,
    )
