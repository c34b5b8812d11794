"""Held-out scores and what was right -> a calibration: a temperature, or a sigmoid for each label."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, softmax

from classifiers.errors import InvalidOption
from classifiers.head import MULTI, REGRESSION, SINGLE, Calibration

TEMPERATURE, SIGMOID, NONE = "temperature", "sigmoid", "none"
CALIBRATIONS = ("auto", TEMPERATURE, SIGMOID, NONE)
LEAST_ROWS = 30  # held out; with fewer, a temperature is more noise than knowledge
REACH = 7.0  # a temperature is at most exp(7) times larger or smaller than the scores' own scale
LEAST = 1e-12  # probability; what is surely wrong has a finite loss


def check_calibration(name: str, kind: str) -> str:
    """Return the method that is meant by a name, `auto` among them.

    Raises
    ------
    InvalidOption
        An unknown one, or one that the kind of head does not have.
    """
    if name not in CALIBRATIONS:
        raise InvalidOption(f"calibration is {name!r}, not one of {', '.join(CALIBRATIONS)}")
    if kind == SINGLE and name == SIGMOID:
        raise InvalidOption("calibration is 'sigmoid', which is for several labels; of one label take 'temperature'")
    if kind == REGRESSION and name in (TEMPERATURE, SIGMOID):
        raise InvalidOption(f"calibration is {name!r}, and a regression has no probabilities; take 'none'")
    return {SINGLE: TEMPERATURE, MULTI: SIGMOID, REGRESSION: NONE}[kind] if name == "auto" else name


def calibrate(scores: NDArray[np.float64], values: NDArray[np.int64], kind: str, method: str) -> Calibration:
    """Fit a calibration on held-out scores.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes), float64
        -inf for a class that was not learnt.
    values : ndarray of shape (n,) or (n, n_classes), int64
        As in `Target`.
    kind : {'single', 'multi', 'regression'}
    method : {'temperature', 'sigmoid', 'none'}
    """
    n_classes = scores.shape[1]
    if method == NONE or not len(scores):
        return Calibration.none(n_classes)
    if method == TEMPERATURE:
        found = temperature(scores, values) if kind == SINGLE else temperature_of_labels(scores, values)
        return Calibration.temperature(found, n_classes)
    pairs = [platt(column, labels) for column, labels in zip(scores.T, values.T, strict=True)]
    return Calibration(*np.array(pairs).T.copy())


def temperature(scores: NDArray[np.float64], values: NDArray[np.int64]) -> float:
    """Return the temperature that makes held-out labels likeliest (Guo et al., ICML 2017).

    Each label counts as right but for one example's worth of doubt (Laplace's rule), so that scores which make no
    mistake on n examples do not become certainties. A label that was not learnt tells nothing.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes), float64
    values : ndarray of shape (n,), int64
    """
    rows = np.arange(len(values))
    known = np.isfinite(scores[rows, values])
    kept, own = scores[known], values[known]
    learnt = np.isfinite(kept)
    shares = learnt / (len(kept) + learnt.sum(axis=1, keepdims=True))
    shares[np.arange(len(own)), own] += len(kept) / (len(kept) + learnt.sum(axis=1))
    largest = kept.max(axis=1, initial=-np.inf)
    below = kept - largest[:, np.newaxis]
    expected = (shares * np.where(learnt, below, 0)).sum(axis=1)

    def loss(t: float) -> float:
        return float((np.log(np.exp(below / t).sum(axis=1)) - expected / t).mean())

    return _least(loss, _spread(kept, learnt))


def temperature_of_labels(scores: NDArray[np.float64], values: NDArray[np.int64]) -> float:
    """Return one temperature for the sigmoids of all labels; scores and values are (n, n_labels)."""
    shares = (values * len(scores) + 1) / (len(scores) + 2)

    def loss(t: float) -> float:
        return float((np.logaddexp(0, scores / t) - shares * scores / t).mean())

    return _least(loss, float(np.abs(scores).mean()))


def platt(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return scale and shift of the sigmoid that fits one label's held-out scores (n,) best (Platt, 1999).

    With Platt's targets, (positives + 1) / (positives + 2) and 1 / (negatives + 2), in the place of 1 and 0. The scale
    is positive: scores that point the wrong way are taken for nothing.
    """
    positives = int(labels.sum())
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    z = (scores - middle) / spread

    def loss(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale = np.exp(found[0])
        logits = scale * z + found[1]
        wrong = expit(logits) - targets
        slope = np.array([(wrong * z).mean() * scale, wrong.mean()])
        return float((np.logaddexp(0, logits) - targets * logits).mean()), slope

    start = np.array([0.0, np.log((positives + 1) / (len(labels) - positives + 1))])
    log_scale, shift = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-REACH, REACH), (None, None)]).x
    scale = float(np.exp(log_scale)) / spread
    return scale, float(shift) - scale * middle


def log_loss(scores: NDArray[np.float64], values: NDArray[np.int64], kind: str) -> float:
    """Return the mean negative log-likelihood of values, of calibrated scores (n, n_classes)."""
    if kind == SINGLE:
        likely = softmax(scores, axis=1)[np.arange(len(values)), values]
    else:
        likely = np.where(values == 1, expit(scores), expit(-scores))
    return float(-np.log(likely.clip(min=LEAST)).mean())


def _spread(scores: NDArray[np.float64], learnt: NDArray[np.bool_]) -> float:
    """Return the mean size of scores about the middle of their row."""
    middle = np.where(learnt, scores, 0).sum(axis=1, keepdims=True) / learnt.sum(axis=1, keepdims=True)
    return float(np.abs(np.where(learnt, scores - middle, 0)).mean()) if len(scores) else 0.0


def _least(loss: Callable[[float], float], spread: float) -> float:
    """Return the temperature of least loss; it is convex in 1 / t, so that there is one."""
    if not spread > 0:
        return 1.0
    found = minimize_scalar(lambda u: loss(spread * float(np.exp(u))), bounds=(-REACH, REACH), method="bounded")
    return spread * float(np.exp(found.x))
