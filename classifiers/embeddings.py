"""Embeddings and labels as they come -> as the classifiers take them: finite, of unit length, naming classes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target

from classifiers.errors import InvalidLabels, NotFinite


def check_finite(X: NDArray[Any]) -> None:
    """Raise NotFinite where a row of X (n, dim) holds NaN or infinity."""
    rows = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(rows):
        raise NotFinite.in_rows(rows.tolist(), len(X))


def first_alike(X: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of the first row of X (n, dim) that is just like each, (n,)."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(X)
    return np.array(
        [seen.setdefault(blake2b(row.data, digest_size=16).digest(), i) for i, row in enumerate(rows)], np.int64
    )


def check_labels(y: NDArray[Any]) -> None:
    """Raise InvalidLabels where y (n,) does not name classes.

    scikit-learn's own check would warn of one shot of each of many classes.
    """
    kind = type_of_target(y)
    if kind not in ("binary", "multiclass"):
        raise InvalidLabels.of_kind(kind)


def unit_length(X: NDArray[Any], *, least: float = 0.0) -> NDArray[Any]:
    """Return X (n, dim) with rows of length 1; of zeros, where no value is larger than `least`. Keeps the dtype."""
    # By the largest value first: squares then neither overflow nor vanish.
    largest = np.maximum(X.max(axis=1, keepdims=True), -X.min(axis=1, keepdims=True))
    has_length = largest > least
    rows = X if has_length.all() else np.where(has_length, X, 0)
    unit: NDArray[Any] = rows / np.where(has_length, largest, 1)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1)  # at least 1, or 0
    return unit


@contextmanager
def one_shot_is_enough() -> Iterator[None]:
    """Keep scikit-learn from warning that labels of which most are different might be numbers on a scale."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        yield
