"""A head: embeddings -> scores -> probabilities -> labels, and whether it knows at all. What is kept and served."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp, softmax

from classifiers.embeddings import BLOCK_ROWS, check_finite
from classifiers.errors import HeadInvalid
from classifiers.scorer import Scorer

SINGLE, MULTI, REGRESSION = "single", "multi", "regression"
KINDS = (SINGLE, MULTI, REGRESSION)
CONFIDENCE, ENERGY = "confidence", "energy"


@dataclass(frozen=True, eq=False)
class Calibration:
    """What makes scores probabilities: softmax, or for several labels sigmoid, of `scale * scores + shift`.

    A temperature T (Guo et al., ICML 2017) is a scale of 1 / T for all classes and no shift; Platt's sigmoids (1999)
    have a scale and a shift for each class.

    Parameters
    ----------
    scale, shift : ndarray of shape (n_classes,), float64
        Scales are positive.
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def none(cls, n_classes: int) -> "Calibration":
        """Return the one that changes nothing."""
        return cls(np.ones(n_classes), np.zeros(n_classes))

    @classmethod
    def temperature(cls, temperature: float, n_classes: int) -> "Calibration":
        """Return the one that divides all scores by a temperature."""
        return cls(np.full(n_classes, 1 / temperature), np.zeros(n_classes))

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated scores (n, n_classes)."""
        return scores * self.scale + self.shift


@dataclass(frozen=True)
class Rejection:
    """When a head says that it does not know: where a score is below a threshold.

    Parameters
    ----------
    score : {'confidence', 'energy'}
        The largest probability; or the logsumexp of the scores before calibration (Liu et al., NeurIPS 2020, with the
        sign turned: high is known).
    threshold : float
    rule : str
        How it was chosen, in words: `5 % quantile of held-out energy`.
    """

    score: str
    threshold: float
    rule: str


@dataclass(frozen=True, eq=False)
class Head:
    """What is learnt on the embeddings of one backbone.

    Parameters
    ----------
    kind : {'single', 'multi', 'regression'}
        One label of each item; any number of labels; numbers.
    classes_ : ndarray of shape (n_classes,), str or int
        Each once, in the order of the scorer's outputs; for a regression the names of its values.
    scorer : Layers, Kernel or Fitted
    calibration : Calibration
    rejection : Rejection, optional
        By default the head always answers.

    Raises
    ------
    HeadInvalid
        Parts that do not fit together, or a class twice.
    """

    kind: str
    classes_: NDArray[Any]
    scorer: Scorer
    calibration: Calibration
    rejection: Rejection | None = None

    def __post_init__(self) -> None:
        n, different = len(self.classes_), len(set(self.classes_.tolist()))
        if self.kind not in KINDS:
            raise HeadInvalid(f"a head is {', '.join(KINDS)}, not {self.kind!r}")
        if different != n or n < (2 if self.kind == SINGLE else 1):
            raise HeadInvalid(f"a head of {n} classes, {different} of them different, is none")
        if self.scorer.n_outputs != n:
            raise HeadInvalid(f"the head has {n} classes, and scores for {self.scorer.n_outputs}; train it again")
        for part in (self.calibration.scale, self.calibration.shift):
            if part.shape != (n,) or not np.isfinite(part).all():
                raise HeadInvalid(f"the calibration is {part.shape}, and must be ({n},), finite; train the head again")
        if not (self.calibration.scale > 0).all():
            raise HeadInvalid("a scale of the calibration is not positive; train the head again")
        self._check_rejection()

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.scorer.preparation.dim

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return scores before calibration, (n, n_classes), float64, of embeddings X (n, dim).

        Raises
        ------
        NotFinite
            NaN or infinity in X.
        ValueError
            Embeddings of another length.
        """
        embeddings = np.asarray(X)
        if len(embeddings) <= BLOCK_ROWS:
            return self.scorer.scores(embeddings)
        check_finite(embeddings)  # here, where the rows have their own numbers
        blocks = range(0, len(embeddings), BLOCK_ROWS)
        return np.concatenate([self.scorer.scores(embeddings[one : one + BLOCK_ROWS]) for one in blocks])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, (n, n_classes), float64; of several labels each on its own.

        Raises
        ------
        HeadInvalid
            The head is a regression, and has none.
        """
        return self.probabilities(self.scores(X))

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities (n, n_classes) of scores (n, n_classes)."""
        if self.kind == REGRESSION:
            raise HeadInvalid("the head is a regression, and has no probabilities; ask for predictions")
        calibrated = self.calibration(scores)
        found: NDArray[np.float64] = softmax(calibrated, axis=1) if self.kind == SINGLE else expit(calibrated)
        return found

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each row, (n,); of several labels which are there, (n, n_classes) bool.

        Of a regression the values, (n, n_classes) float64.
        """
        scores = self.scores(X)
        if self.kind == REGRESSION:
            return scores
        if self.kind == MULTI:
            return self.probabilities(scores) > 0.5
        labels: NDArray[Any] = self.classes_[self.calibration(scores).argmax(axis=1)]
        return labels

    def knowing(self, scores: NDArray[np.float64], by: str | None = None) -> NDArray[np.float64]:
        """Return how well each row is known, (n,): its confidence or energy; the larger, the better."""
        if (by or (self.rejection.score if self.rejection else CONFIDENCE)) == ENERGY:
            return np.asarray(logsumexp(scores, axis=1))
        best: NDArray[np.float64] = self.probabilities(scores).max(axis=1)
        return best

    def is_unknown(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each row is below the threshold, (n,); never, where the head has none."""
        scores = self.scores(X)
        if self.rejection is None:
            return np.zeros(len(scores), bool)
        return self.knowing(scores) < self.rejection.threshold

    def _check_rejection(self) -> None:
        if self.rejection is None:
            return
        if self.kind == REGRESSION:
            raise HeadInvalid("a regression rejects nothing; train the head again without a threshold")
        if self.rejection.score not in (CONFIDENCE, ENERGY) or not np.isfinite(self.rejection.threshold):
            raise HeadInvalid(f"{self.rejection} is no rejection; train the head again")
