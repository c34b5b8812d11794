"""The support of a task at one version, as arrays: what readers hold, and no writer ever changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS = 16


@dataclass(frozen=True, eq=False)
class Delta:
    """What one change does to a support.

    Parameters
    ----------
    version : int
        After it.
    removed : ndarray of shape (n_removed,), int64
        Numbers of the examples that go.
    numbers : ndarray of shape (n_added,), int64
        Of those that come, ascending.
    ids : ndarray of shape (n_added,), object
    classes : ndarray of shape (n_added,), int64
    X : ndarray of shape (n_added, dim), float32
    relabelled : mapping of int to int
        Number of an example to its class from now on.
    labels : mapping of int to str, optional
        Class to label, of all classes; None where they stay.
    """

    version: int
    removed: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ids: NDArray[np.object_]
    classes: NDArray[np.int64]
    X: NDArray[np.float32]
    relabelled: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, str] | None = None

    @classmethod
    def none(cls, version: int, dim: int, **what: object) -> "Delta":
        """Return one that does only what is named."""
        empty = np.zeros(0, np.int64)
        nothing = {
            "removed": empty,
            "numbers": empty,
            "ids": np.zeros(0, object),
            "classes": empty,
            "X": np.zeros((0, dim), np.float32),
        }
        return cls(version, **{**nothing, **what})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Support:
    """The examples of a task at one version, in the order in which they came.

    Parameters
    ----------
    version : int
    labels : mapping of int to str
        Class number to label, of all classes, also those without examples.
    numbers : ndarray of shape (n,), int64
        Ascending; of each example its own, never given again within the task.
    ids : ndarray of shape (n,), object
        The examples' ids, str.
    classes : ndarray of shape (n,), int64
        Class numbers.
    """

    version: int
    labels: Mapping[int, str]
    numbers: NDArray[np.int64]
    ids: NDArray[np.object_]
    classes: NDArray[np.int64]
    # Rows that supports of several versions share: each appends after the last row that any of them has.
    _rows: NDArray[np.float32]
    _slots: NDArray[np.int64]
    _n_rows: int

    @classmethod
    def empty(cls, dim: int) -> "Support":
        """Return version 0: no example, no class."""
        none = np.zeros(0, np.int64)
        return cls(0, {}, none, np.zeros(0, object), none, np.zeros((0, dim), np.float32), none, 0)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self._rows.shape[1])

    @cached_property
    def X(self) -> NDArray[np.float32]:  # the field's name
        """Embeddings (n, dim), float32, read-only; a view, unless examples were removed: then a copy, made once."""
        n = len(self)
        X = self._rows[:n] if np.array_equal(self._slots, np.arange(n)) else self._rows[self._slots]
        X.flags.writeable = False
        return X

    @cached_property
    def y(self) -> NDArray[np.str_]:
        """Labels (n,), str."""
        numbers = np.fromiter(self.labels, np.int64, len(self.labels))
        labels = np.array(list(self.labels.values()), np.str_)
        order = np.argsort(numbers)
        found: NDArray[np.str_] = labels[order[np.searchsorted(numbers[order], self.classes)]]
        return found

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of some examples, by their positions."""
        found: NDArray[np.float32] = self._rows[self._slots[positions]]
        return found

    def positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where examples of these numbers stand; they must be there."""
        return np.searchsorted(self.numbers, numbers).astype(np.int64, copy=False)

    def after(self, delta: Delta) -> "Support":
        """Return the support of the next version; must be called of the latest one, and by one thread at a time."""
        labels = self.labels if delta.labels is None else delta.labels
        classes = self.classes
        if delta.relabelled:
            classes = classes.copy()
            where = self.positions(np.fromiter(delta.relabelled, np.int64, len(delta.relabelled)))
            classes[where] = list(delta.relabelled.values())
        columns = (self.numbers, self.ids, classes, self._slots)
        if len(delta.removed):
            gone = self.positions(delta.removed)
            columns = tuple(np.delete(column, gone) for column in columns)  # type: ignore[assignment]
        rows, n_rows = self._rows, self._n_rows
        if len(delta.numbers):
            rows, n_rows, slots = self._with_rows(columns[3], delta.X)
            come = (delta.numbers, delta.ids, delta.classes, slots[len(columns[3]) :])
            kept = (*columns[:3], slots[: len(columns[3])])
            columns = tuple(np.concatenate(pair) for pair in zip(kept, come, strict=True))  # type: ignore[assignment]
            if len(kept[0]) and kept[0][-1] > delta.numbers[0]:  # an undo brings back what stood further ahead
                order = np.argsort(columns[0], kind="stable")
                columns = tuple(column[order] for column in columns)  # type: ignore[assignment]
        return Support(delta.version, labels, *columns[:3], rows, columns[3], n_rows)

    def _with_rows(
        self, slots: NDArray[np.int64], X: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], int, NDArray[np.int64]]:
        """Append rows after all that any version has; return the rows, how many are used, and everyone's slots."""
        n_kept, n_new = len(slots), len(X)
        rows, used = self._rows, self._n_rows
        if used + n_new > len(rows):
            # Twice the room: memory that is not touched yet costs nothing.
            rows = np.empty((max(LEAST_ROWS, 2 * (n_kept + n_new)), self.dim), np.float32)
            np.take(self._rows, slots, axis=0, out=rows[:n_kept])
            slots, used = np.arange(n_kept), n_kept
        rows[used : used + n_new] = X
        return rows, used + n_new, np.concatenate([slots, np.arange(used, used + n_new)])
