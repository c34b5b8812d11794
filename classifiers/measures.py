"""Labels (n,) and probabilities (n, n_classes) -> how good they are, each measure with a 95 % interval.

Every measure here is a function of sums over examples, so that a bootstrap needs no second look at the examples: a
resample weights each by how often it was drawn, and one product of weights and columns gives all its sums.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_consistent_length

from classifiers.errors import InvalidLabels, InvalidOption, NotFinite, TooFewExamples

N_BINS = 15  # as Guo et al. (ICML 2017) have them
N_RESAMPLES = 1000
BLOCK_WEIGHTS = 4 << 20  # weights of a bootstrap that are in memory at once: 32 MiB
INTERVAL = (0.025, 0.975)

Floats = NDArray[np.float64]
Columns = Mapping[str, Any]  # name -> an array (n,) or a sparse array (n, k)
Sums = Mapping[str, Floats]  # name -> (n_resamples,) or (n_resamples, k)


@dataclass(frozen=True)
class Measured:
    """A measure and its 95 % interval, by the percentile bootstrap over examples (Efron, 1979)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassMeasures:
    """One class: shares in [0, 1]; 0 where nothing was predicted, or nothing is there; counts of examples."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Bin:
    """Examples of like confidence: how confident they are on average, and how many of them are right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class SingleLabelMeasures:
    """How good probabilities of one class an example are.

    Parameters
    ----------
    n : int
    accuracy, balanced_accuracy, macro_f1, log_loss, ece : Measured
        `log_loss` in nats; the others in [0, 1].
    per_class : tuple of ClassMeasures
        In the order of the classes.
    confusion : ndarray of shape (n_classes, n_classes), int64
        Rows are true classes, columns predicted ones.
    reliability : tuple of Bin
        Bins of equal width that hold at least one example.
    """

    n: int
    accuracy: Measured
    balanced_accuracy: Measured
    macro_f1: Measured
    log_loss: Measured
    ece: Measured
    per_class: tuple[ClassMeasures, ...]
    confusion: NDArray[np.int64]
    reliability: tuple[Bin, ...]


@dataclass(frozen=True, eq=False)
class MultiLabelMeasures:
    """How good probabilities of any number of labels an example are.

    Parameters
    ----------
    n : int
    micro_f1, macro_f1, subset_accuracy, ranking_precision, log_loss, ece : Measured
        `ranking_precision` is the label-ranking average precision (Tsoumakas et al., 2010); `log_loss`, in nats, and
        `ece` are of single labels of single examples.
    per_class : tuple of ClassMeasures
    reliability : tuple of Bin
        Of the probability of a label; `accuracy` is how often it is there.
    """

    n: int
    micro_f1: Measured
    macro_f1: Measured
    subset_accuracy: Measured
    ranking_precision: Measured
    log_loss: Measured
    ece: Measured
    per_class: tuple[ClassMeasures, ...]
    reliability: tuple[Bin, ...]


@dataclass(frozen=True)
class RegressionMeasures:
    """How good predicted numbers are; `mae` and `rmse` in the unit of the target."""

    n: int
    r2: Measured
    mae: Measured
    rmse: Measured


@dataclass(frozen=True)
class OpenSetMeasures:
    """How well items of no known class are told apart.

    Parameters
    ----------
    n_in_scope, n_out_of_scope : int
    in_scope_accuracy : Measured
        Share of in-scope items that are not rejected and named rightly (Larson et al., EMNLP 2019).
    out_of_scope_recall : Measured
        Share of out-of-scope items that are rejected.
    auroc : float or None
        Of the score, in-scope being positive.
    fpr95 : float or None
        Share of out-of-scope items that pass where 95 % of in-scope ones do.
    """

    n_in_scope: int
    n_out_of_scope: int
    in_scope_accuracy: Measured
    out_of_scope_recall: Measured
    auroc: float | None
    fpr95: float | None


Measures = SingleLabelMeasures | MultiLabelMeasures | RegressionMeasures


def positions(y: ArrayLike, classes: ArrayLike) -> NDArray[np.int64]:
    """Return the position in `classes` of each label of y (n,), (n,).

    Raises
    ------
    InvalidLabels
        A label that is none of the classes.
    """
    labels, known = np.asarray(y), np.asarray(classes)
    where = {label: position for position, label in enumerate(known.tolist())}
    found = [where.get(label, -1) for label in labels.tolist()]
    if -1 in found:
        raise InvalidLabels(
            f"label {labels.tolist()[found.index(-1)]!r} is none of the {len(known)} classes; "
            "leave its examples out, or name it among the classes"
        )
    return np.array(found, np.int64)


def single_label(
    y: ArrayLike,
    probabilities: ArrayLike,
    classes: ArrayLike,
    *,
    n_resamples: int = N_RESAMPLES,
    random_state: int | None = 0,
) -> SingleLabelMeasures:
    """Measure probabilities of one class an example; the likeliest class is the prediction.

    Classes that are neither there nor predicted take no part in means over classes, as in scikit-learn.

    Parameters
    ----------
    y : array-like of shape (n,)
    probabilities : array-like of shape (n, n_classes), float
        In [0, 1], a row sums to 1.
    classes : array-like of shape (n_classes,)
        In any order, that of the columns.
    n_resamples : int
    random_state : int or None

    Returns
    -------
    SingleLabelMeasures
        ECE is the expected calibration error with 15 bins of equal width (Guo et al., ICML 2017). A bootstrap sees it
        larger than it is, for resampling adds noise; its interval is stretched to hold the value.

    Raises
    ------
    InvalidLabels
        A label that is none of the classes, or shapes that do not fit together.
    InvalidOption
        Fewer than 1 resample.
    NotFinite
        NaN or infinity among the probabilities.
    TooFewExamples
        No example.
    """
    p = _checked(probabilities, y)
    if p.ndim != 2 or p.shape[1] != len(np.asarray(classes)):
        raise InvalidLabels(f"probabilities are {p.shape}, and there are {len(np.asarray(classes))} classes")
    true, predicted, n_classes = positions(y, classes), p.argmax(axis=1), p.shape[1]
    confidence, right = p.max(axis=1), predicted == true
    columns = {
        "n": np.ones(len(p)),
        "right": right.astype(np.float64),
        "loss": -np.log(np.clip(p[np.arange(len(p)), true], np.finfo(np.float64).eps, 1)),
        "hits": _one_hot(true, n_classes, right),
        "support": _one_hot(true, n_classes),
        "predicted": _one_hot(predicted, n_classes),
        **_bin_columns(confidence, right),
    }
    measured = _bootstrap(columns, _single_label_scores, n_resamples, random_state)
    confusion = np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    sums = _sums(columns, np.ones((1, len(p))))
    return SingleLabelMeasures(
        n=len(p), **measured, per_class=_per_class(sums), confusion=confusion, reliability=_bins(sums)
    )


def multi_label(
    Y: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float = 0.5,
    n_resamples: int = N_RESAMPLES,
    random_state: int | None = 0,
) -> MultiLabelMeasures:
    """Measure probabilities of any number of labels an example.

    Parameters
    ----------
    Y : array-like of shape (n, n_labels), bool or 0 and 1
    probabilities : array-like of shape (n, n_labels), float
        In [0, 1].
    threshold : float
        A label at least this likely is predicted.
    n_resamples : int
    random_state : int or None

    Raises
    ------
    InvalidLabels, InvalidOption, NotFinite, TooFewExamples
        As `single_label`.
    """
    p, there = _checked(probabilities, Y), np.asarray(Y).astype(bool)
    if p.ndim != 2 or p.shape != there.shape:
        raise InvalidLabels(f"probabilities are {p.shape} and Y is {there.shape}; both are (examples, labels)")
    said, eps = p >= threshold, np.finfo(np.float64).eps
    columns = {
        "n": np.ones(len(p)),
        "right": (said == there).all(axis=1).astype(np.float64),
        "loss": -np.log(np.clip(np.where(there, p, 1 - p), eps, 1)).mean(axis=1),
        "ranking": _ranking_precision(there, p),
        "hits": csr_array((said & there).astype(np.float64)),
        "support": csr_array(there.astype(np.float64)),
        "predicted": csr_array(said.astype(np.float64)),
        **_bin_columns(p, there),
    }
    measured = _bootstrap(columns, _multi_label_scores, n_resamples, random_state)
    sums = _sums(columns, np.ones((1, len(p))))
    return MultiLabelMeasures(n=len(p), **measured, per_class=_per_class(sums), reliability=_bins(sums))


def regression(
    y: ArrayLike, predicted: ArrayLike, *, n_resamples: int = N_RESAMPLES, random_state: int | None = 0
) -> RegressionMeasures:
    """Measure predicted numbers (n,) against true ones (n,); R2 is 0 where the true ones are all alike.

    Raises
    ------
    InvalidLabels, InvalidOption, NotFinite, TooFewExamples
        As `single_label`.
    """
    guess, true = _checked(predicted, y).ravel(), _checked(y, predicted).ravel()
    if len(guess) != len(true):
        raise InvalidLabels(f"there are {len(guess)} predictions and {len(true)} true values; each needs the other")
    error, centred = guess - true, true - true.mean()  # centred, so that a difference of sums loses no digits
    columns = {
        "n": np.ones(len(true)), "absolute": np.abs(error), "squared": error**2, "y": centred, "yy": centred**2,
    }  # fmt: skip
    return RegressionMeasures(n=len(true), **_bootstrap(columns, _regression_scores, n_resamples, random_state))


def share(right: ArrayLike, *, n_resamples: int = N_RESAMPLES, random_state: int | None = 0) -> Measured:
    """Return the share of True in (n,), bool; raises TooFewExamples for none."""
    found = np.asarray(right, bool)
    if not len(found):
        raise TooFewExamples("there is no example to measure; give at least 1")
    columns = {"n": np.ones(len(found)), "right": found.astype(np.float64)}
    return _bootstrap(columns, _share, n_resamples, random_state)["share"]


def open_set(
    in_scope: ArrayLike,
    right: ArrayLike,
    rejected: ArrayLike,
    score: ArrayLike | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    random_state: int | None = 0,
) -> OpenSetMeasures:
    """Measure how well items of no known class are told apart.

    Parameters
    ----------
    in_scope, right, rejected : array-like of shape (n,), bool
        Whether an item is of a known class; is named rightly; is said to be unknown.
    score : array-like of shape (n,), float, optional
        Larger for an item that is likelier known; any scale.
    n_resamples : int
    random_state : int or None

    Raises
    ------
    TooFewExamples
        No item in scope, or none out of it.
    """
    known, named, out = (np.asarray(one).astype(bool) for one in (in_scope, right, rejected))
    check_consistent_length(known, named, out, *([] if score is None else [score]))
    if not 0 < known.sum() < len(known):
        raise TooFewExamples(f"{known.sum()} of {len(known)} items are in scope; open-set measures need some of both")
    accepted = named & ~out
    scores = None if score is None else np.asarray(score, np.float64)
    return OpenSetMeasures(
        int(known.sum()),
        int((~known).sum()),
        share(accepted[known], n_resamples=n_resamples, random_state=random_state),
        share(out[~known], n_resamples=n_resamples, random_state=random_state),
        None if scores is None else float(roc_auc_score(known, scores)),
        None if scores is None else float((scores[~known] >= np.quantile(scores[known], 0.05)).mean()),
    )


def as_json(value: Any) -> Any:
    """Return dataclasses, arrays and NumPy numbers as JSON can hold them; NaN and infinity as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(one) for one in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def _checked(values: ArrayLike, beside: ArrayLike) -> Floats:
    """Return finite numbers, at least one row, as many as there are labels beside them."""
    checked = np.asarray(values, np.float64)
    if len(checked) == 0:
        raise TooFewExamples("there is no example to measure; give at least 1")
    if len(checked) != len(np.asarray(beside)):
        raise InvalidLabels(f"there are {len(checked)} rows of predictions and {len(np.asarray(beside))} labels")
    rows = np.flatnonzero(~np.isfinite(checked.reshape(len(checked), -1)).all(axis=1))
    if len(rows):
        raise NotFinite(
            f"{len(rows)} of the {len(checked)} rows hold NaN or infinity, first row {rows[0]}, and none may"
        )
    return checked


def _one_hot(columns: NDArray[np.int64], width: int, values: ArrayLike | None = None) -> csr_array:
    n = len(columns)
    data = np.ones(n) if values is None else np.asarray(values, np.float64)
    return csr_array((data, (np.arange(n), columns)), shape=(n, width))


def _bin_columns(confidence: Floats, right: NDArray[Any]) -> dict[str, csr_array]:
    """Return how many events, right ones, and confidence each example has in each bin; events are (n,) or (n, k)."""
    # Bins are open below and closed above, (0, 1/15], ..., as Guo et al. have them; 0 goes to the first.
    own = np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    rows = np.broadcast_to(np.arange(len(own)).reshape(-1, *[1] * (own.ndim - 1)), own.shape).ravel()
    kinds = {"bin_n": np.ones(own.shape), "bin_right": right, "bin_confidence": confidence}
    return {
        name: csr_array((np.asarray(data, np.float64).ravel(), (rows, own.ravel())), shape=(len(own), N_BINS))
        for name, data in kinds.items()
    }


def _sums(columns: Columns, weights: Floats) -> Sums:
    return {name: weights @ column for name, column in columns.items()}


def _bootstrap(
    columns: Columns, scores: Callable[[Sums], dict[str, Floats]], n_resamples: int, random_state: int | None
) -> dict[str, Measured]:
    """Return each score on the examples, between the percentiles of the scores on resamples."""
    if n_resamples < 1:
        raise InvalidOption(f"n_resamples is {n_resamples}; take at least 1")
    n, random = len(columns["n"]), np.random.default_rng(random_state)
    values = scores(_sums(columns, np.ones((1, n))))
    blocks = []
    for start in range(0, n_resamples, step := max(1, BLOCK_WEIGHTS // n)):
        drawn = (random.integers(n, size=n) for _ in range(min(step, n_resamples - start)))
        weights = np.array([np.bincount(one, minlength=n) for one in drawn], np.float64)
        blocks.append(scores(_sums(columns, weights)))
    return {name: _measured(float(value[0]), [block[name] for block in blocks]) for name, value in values.items()}


def _measured(value: float, resampled: list[Floats]) -> Measured:
    low, high = np.quantile(np.concatenate(resampled), INTERVAL)
    return Measured(value, min(float(low), value), max(float(high), value))


def _single_label_scores(sums: Sums) -> dict[str, Floats]:
    there = sums["support"] > 0
    recall = _ratio(sums["hits"], sums["support"])
    return {
        "accuracy": sums["right"] / sums["n"],
        "balanced_accuracy": recall.sum(axis=1) / there.sum(axis=1),
        "macro_f1": _macro_f1(sums, seen_only=True),
        "log_loss": sums["loss"] / sums["n"],
        "ece": _ece(sums),
    }


def _multi_label_scores(sums: Sums) -> dict[str, Floats]:
    pairs = (sums["support"] + sums["predicted"]).sum(axis=1)
    return {
        "micro_f1": _ratio(2 * sums["hits"].sum(axis=1), pairs),
        "macro_f1": _macro_f1(sums, seen_only=False),
        "subset_accuracy": sums["right"] / sums["n"],
        "ranking_precision": sums["ranking"] / sums["n"],
        "log_loss": sums["loss"] / sums["n"],
        "ece": _ece(sums),
    }


def _regression_scores(sums: Sums) -> dict[str, Floats]:
    n = sums["n"]
    spread = np.maximum(sums["yy"] - sums["y"] ** 2 / n, 0)
    # As many resamples of a few examples hold one alone, over and over: nothing is to be explained there.
    flat = spread <= 1e-12 * np.maximum(sums["yy"], np.finfo(np.float64).tiny)
    return {
        "r2": np.where(flat, 0.0, 1 - _ratio(sums["squared"], np.where(flat, 1, spread))),
        "mae": sums["absolute"] / n,
        "rmse": np.sqrt(sums["squared"] / n),
    }


def _share(sums: Sums) -> dict[str, Floats]:
    return {"share": sums["right"] / sums["n"]}


def _macro_f1(sums: Sums, *, seen_only: bool) -> Floats:
    pairs = sums["support"] + sums["predicted"]
    counted = (pairs > 0).sum(axis=1) if seen_only else pairs.shape[1]
    total: Floats = _ratio(2 * sums["hits"], pairs).sum(axis=1) / counted
    return total


def _ece(sums: Sums) -> Floats:
    gaps = np.abs(sums["bin_right"] - sums["bin_confidence"]).sum(axis=1)
    error: Floats = gaps / sums["bin_n"].sum(axis=1)
    return error


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return above / below, and 0 where there is nothing below."""
    ratio: Floats = above / np.where(below > 0, below, 1)
    return ratio


def _per_class(sums: Sums) -> tuple[ClassMeasures, ...]:
    hits, support, predicted = (sums[name][0] for name in ("hits", "support", "predicted"))
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), predicted.tolist(), strict=True)
    return tuple(ClassMeasures(p, r, f, round(there), round(said)) for p, r, f, there, said in rows)


def _bins(sums: Sums) -> tuple[Bin, ...]:
    counts, right, confidence = (sums[name][0] for name in ("bin_n", "bin_right", "bin_confidence"))
    return tuple(
        Bin(i / N_BINS, (i + 1) / N_BINS, round(counts[i]), float(confidence[i] / counts[i]), right[i] / counts[i])
        for i in np.flatnonzero(counts).tolist()
    )


def _ranking_precision(there: NDArray[np.bool_], p: Floats) -> Floats:
    """Return each example's label-ranking average precision, (n,); 1 where none or all of its labels are there."""
    among_all = rankdata(-p, method="max", axis=1)
    among_true = rankdata(np.where(there, -p, np.inf), method="max", axis=1)
    count = there.sum(axis=1)
    mean = np.where(there, among_true / among_all, 0).sum(axis=1) / np.maximum(count, 1)
    precision: Floats = np.where((count == 0) | (count == there.shape[1]), 1.0, mean)
    return precision
