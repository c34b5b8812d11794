"""Labels and what a few-shot task told of their items -> how good it is, at its threshold and at others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifiers.measures import Measured, open_set, share
from headwater.errors import DataInvalid
from headwater.fewshot import Classification


@dataclass(frozen=True)
class Point:
    """What would be with another wanted false-alarm rate: shares in [0, 1], of items out of scope if there are any."""

    false_alarm_rate: float
    threshold: float | None
    in_scope_accuracy: float
    false_alarms: float
    out_of_scope_recall: float | None


@dataclass(frozen=True, kw_only=True)
class TaskMeasures:
    """How good a few-shot task is on labelled items that it was not taught.

    Parameters
    ----------
    n_in_scope, n_out_of_scope, n_failed : int
        Items of its classes; of none of them; those that could not be embedded, which are left out.
    accuracy : Measured
        Of items in scope: the likeliest label is theirs, whether they are called unknown or not.
    in_scope_accuracy : Measured
        They are named rightly, and not called unknown.
    false_alarms : Measured
        They are called unknown.
    out_of_scope_recall : Measured, optional
        Of items out of scope: they are called unknown.
    auroc, fpr95 : float, optional
        Of the score, whatever the threshold: the area under the ROC curve of in scope against out of it, and the share
        of items out of scope that pass where 95 % of those in scope do.
    strange : tuple of str
        Labels that the task does not have, whose items are out of its scope.
    points : tuple of Point
    """

    n_in_scope: int
    n_out_of_scope: int
    n_failed: int
    accuracy: Measured
    in_scope_accuracy: Measured
    false_alarms: Measured
    out_of_scope_recall: Measured | None
    auroc: float | None
    fpr95: float | None
    strange: tuple[str, ...]
    points: tuple[Point, ...]


def measure(
    labels: Sequence[str],
    told: Sequence[Classification],
    classes: Collection[str],
    *,
    thresholds: Mapping[float, float | None] | None = None,
    out_of_scope: str = "",
) -> TaskMeasures:
    """Measure what was told of items, each with the ranking's first label at least.

    Parameters
    ----------
    labels : sequence of str
        What they are.
    told : sequence of Classification
        Those with an error are left out.
    classes : collection of str
        What the task knows; items of other labels are out of its scope.
    thresholds : mapping of float to float or None, optional
        Of other wanted false-alarm rates.
    out_of_scope : str
        A label that means no class, whether the task has it or not.

    Raises
    ------
    DataInvalid
        No item is of any of the classes.
    """
    pairs = [(label, one) for label, one in zip(labels, told, strict=True) if one.error is None]
    in_scope = np.array([label in classes and label != out_of_scope for label, _ in pairs], bool)
    if not in_scope.any():
        raise DataInvalid(
            f"none of the {len(pairs)} items has a label that the task knows: {', '.join(sorted(classes)[:5])} …; "
            "evaluate it on items of its classes"
        )
    right = np.array([one.ranking[0].label == label for label, one in pairs], bool)
    unknown = np.array([one.unknown for _, one in pairs], bool)
    scores = np.array([one.score for _, one in pairs])
    opened = None if in_scope.all() else open_set(in_scope, right, unknown, scores)
    return TaskMeasures(
        n_in_scope=int(in_scope.sum()),
        n_out_of_scope=int((~in_scope).sum()),
        n_failed=len(told) - len(pairs),
        accuracy=share(right[in_scope]),
        in_scope_accuracy=share((right & ~unknown)[in_scope]),
        false_alarms=share(unknown[in_scope]),
        out_of_scope_recall=opened.out_of_scope_recall if opened else None,
        auroc=opened.auroc if opened else None,
        fpr95=opened.fpr95 if opened else None,
        strange=tuple(sorted({label for label, _ in pairs} - {*classes, out_of_scope})),
        points=tuple(_point(rate, at, in_scope, right, scores) for rate, at in sorted((thresholds or {}).items())),
    )


def _point(
    rate: float,
    threshold: float | None,
    in_scope: NDArray[np.bool_],
    right: NDArray[np.bool_],
    scores: NDArray[np.float64],
) -> Point:
    unknown = scores < (-np.inf if threshold is None else threshold)
    return Point(
        rate,
        threshold,
        float((right & ~unknown)[in_scope].mean()),
        float(unknown[in_scope].mean()),
        None if in_scope.all() else float(unknown[~in_scope].mean()),
    )
