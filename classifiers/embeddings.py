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

BLOCK_ROWS = 16_384  # of very many, that are worked on at once: what is made on the way stays small


def check_finite(X: NDArray[Any]) -> None:
    """Raise NotFinite where a row of X (n, dim) holds NaN or infinity."""
    rows = [
        start + row
        for start in range(0, len(X), BLOCK_ROWS)
        for row in np.flatnonzero(~np.isfinite(X[start : start + BLOCK_ROWS]).all(axis=1)).tolist()
    ]
    if rows:
        raise NotFinite.in_rows(rows, len(X))


def first_alike(X: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of the first row of X (n, dim) that is just like each, (n,)."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(X)
    first = np.arange(len(rows))
    with np.errstate(all="ignore"):  # of what is not finite
        _, own, counts = np.unique(rows.sum(axis=1), return_inverse=True, return_counts=True)
    for i in np.flatnonzero(counts[own] > 1).tolist():  # equal rows have equal sums, to the last bit
        first[i] = seen.setdefault(blake2b(rows[i].data, digest_size=16).digest(), i)
    return first


def any_alike(X: NDArray[Any]) -> bool:
    """Tell, quickly, whether two rows of X (n, dim) may be just alike; False: none are."""
    sums = np.sort(np.ascontiguousarray(X).sum(axis=1))  # equal rows have equal sums, to the last bit
    return bool((sums[1:] == sums[:-1]).any())


def first_of_class(X: NDArray[Any], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of the first row of X (n, dim) of its class (n,) that is just like each, (n,)."""
    return first_alike(np.column_stack([X, own])) if any_alike(X) else np.arange(len(X))


def check_labels(y: NDArray[Any]) -> None:
    """Raise InvalidLabels where y (n,) does not name classes.

    scikit-learn's own check would warn of one shot of each of many classes.
    """
    kind = type_of_target(y)
    if kind not in ("binary", "multiclass"):
        raise InvalidLabels.of_kind(kind)


def unit_length(X: NDArray[Any], *, least: float = 0.0) -> NDArray[Any]:
    """Return X (n, dim) with rows of length 1; of zeros, where no value is larger than `least`. Keeps the dtype."""
    if len(X) <= BLOCK_ROWS:
        return _unit_length(X, least)
    unit = np.empty(X.shape, np.result_type(X.dtype, 1.0))
    for start in range(0, len(X), BLOCK_ROWS):
        unit[start : start + BLOCK_ROWS] = _unit_length(X[start : start + BLOCK_ROWS], least)
    return unit


def _unit_length(X: NDArray[Any], least: float) -> NDArray[Any]:
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
