"""y as people have it -> what estimators learn: positions of classes, an indicator matrix, or numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_labels
from classifiers.errors import InvalidLabels, InvalidOption, TooFewExamples
from classifiers.head import KINDS, MULTI, REGRESSION, SINGLE


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be learnt.

    Parameters
    ----------
    kind : {'single', 'multi', 'regression'}
    classes : ndarray of shape (n_classes,), str or int
    values : ndarray
        Of one label the positions in `classes`, (n,) int64; of several an indicator, (n, n_classes) int64; of a
        regression the numbers, (n, n_classes) float64.
    """

    kind: str
    classes: NDArray[Any]
    values: NDArray[Any]

    @classmethod
    def of(cls, y: ArrayLike, kind: str | None = None, classes: Sequence[Any] | None = None) -> Self:
        """Read y: labels (n,), an indicator matrix (n, n_labels), or, when the kind says so, numbers.

        Raises
        ------
        InvalidLabels
            A y that is not of its kind: numbers on a scale where no regression was asked for, for one.
        InvalidOption
            An unknown kind, or names that are not one for each column.
        TooFewExamples
            All examples are of one class, or a label that all have or none has.
        """
        if kind is not None and kind not in KINDS:
            raise InvalidOption(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
        given = _plain(np.asarray(y))
        if kind == REGRESSION:
            return cls(REGRESSION, *_numbers(given, classes))
        if kind == MULTI or (kind is None and _is_indicator(given)):
            return cls(MULTI, *_indicator(given, classes))
        return cls(SINGLE, *_labels(given, classes))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Examples of each class, (n_classes,); of a regression all of them."""
        if self.kind == SINGLE:
            return np.bincount(self.values, minlength=len(self.classes))
        if self.kind == MULTI:
            return np.asarray(self.values.sum(axis=0), np.int64)
        return np.array([len(self.values)])

    def positions(self, y: ArrayLike) -> NDArray[Any]:
        """Return the values of another y, of the same classes.

        Raises
        ------
        InvalidLabels
            A label that was not trained on, or another number of columns.
        """
        given = _plain(np.asarray(y))
        if self.kind != SINGLE:
            rows = given.reshape(len(given), -1)
            if rows.shape[1] != len(self.classes) or (self.kind == MULTI and not np.isin(rows, (0, 1)).all()):
                raise InvalidLabels(f"y is {given.shape}, and must be (n, {len(self.classes)}) as that of training is")
            return rows.astype(self.values.dtype)
        found = np.searchsorted(self.classes, given).clip(max=len(self.classes) - 1)
        foreign = sorted(set(given[self.classes[found] != given].tolist()), key=str)
        if foreign:
            raise InvalidLabels(
                f"{len(foreign)} labels have no training example, {foreign[0]!r} first; leave them out, or give their "
                "embeddings as out_of_scope"
            )
        return found.astype(np.int64)


def _plain(y: NDArray[Any]) -> NDArray[Any]:
    """Return labels of a type that a head can keep: bools and whole floats as int, objects as what they are."""
    if y.dtype == object and y.size:
        if all(isinstance(one, str) for one in y.flat):
            return y.astype(str)
        if all(isinstance(one, int | np.integer | np.bool_) for one in y.flat):
            return y.astype(np.int64)
        raise InvalidLabels.of_kind("of mixed types, or missing")
    return y.astype(np.int64) if y.dtype.kind == "b" else y


def _is_indicator(y: NDArray[Any]) -> bool:
    return y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iuf" and bool(np.isin(y, (0, 1)).all())


def _labels(y: NDArray[Any], classes: Sequence[Any] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if classes is not None:
        raise InvalidOption("classes name the columns of an indicator matrix; of one label an example, y names them")
    if y.size == 0:
        raise TooFewExamples("there are no examples; a head needs at least 2, of 2 classes")
    check_labels(y)
    if y.ndim != 1:
        raise InvalidLabels.of_kind(f"of shape {y.shape}")
    found, own = np.unique(y.astype(np.int64) if y.dtype.kind == "f" else y, return_inverse=True)
    if len(found) < 2:
        raise TooFewExamples(
            f"all {len(y)} examples are of 1 class, {str(found[0])!r}, and a head needs at least 2; "
            "add examples of another class"
        )
    return found, own.astype(np.int64)


def _indicator(y: NDArray[Any], classes: Sequence[Any] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if not _is_indicator(y):
        raise InvalidLabels(f"several labels are a matrix of 0 and 1, (n, 2 or more); y is {y.dtype} {y.shape}")
    names = _names(classes, y.shape[1])
    present = y.sum(axis=0)
    for position in np.flatnonzero((present == 0) | (present == len(y)))[:1]:
        share = "none" if present[position] == 0 else "all"
        raise TooFewExamples(
            f"{share} of the {len(y)} examples have label {str(names[position])!r}, and a head needs some with it and "
            "some without; leave the label out, or add examples"
        )
    return names, y.astype(np.int64)


def _numbers(y: NDArray[Any], classes: Sequence[Any] | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
    if y.dtype.kind not in "iuf" or y.ndim not in (1, 2) or not np.isfinite(y).all():
        raise InvalidLabels(f"a regression needs finite numbers, (n,) or (n, n_outputs); y is {y.dtype} {y.shape}")
    if len(y) < 2:
        raise TooFewExamples(f"there are {len(y)} examples; a regression needs at least 2")
    columns = y.reshape(len(y), -1).astype(np.float64)
    return _names(classes, columns.shape[1]), columns


def _names(classes: Sequence[Any] | None, n: int) -> NDArray[Any]:
    names = np.arange(n) if classes is None else _plain(np.asarray(classes))
    if len(names) != n or len(set(names.tolist())) != n:
        raise InvalidOption(f"classes are {len(names)} names, and y has {n} columns; give each its own name")
    return names
