"""The support of a task at one version, as arrays: what readers hold, and no writer ever changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from classifiers.tasks.settings import Settings

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
    settings : Settings, optional
        Of the task, from now on; None where they stay.
    """

    version: int
    removed: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ids: NDArray[np.object_]
    classes: NDArray[np.int64]
    X: NDArray[np.float32]
    relabelled: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, str] | None = None
    settings: Settings | None = None

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
class Rows:
    """Embeddings that supports of several versions share: each version appends after the last row that is used.

    Parameters
    ----------
    array : ndarray of shape (at least n_used, dim), float32
    slots : ndarray of shape (n,), int64
        Where the embedding of each example is.
    n_used : int
    """

    array: NDArray[np.float32]
    slots: NDArray[np.int64]
    n_used: int

    @property
    def are_in_order(self) -> bool:
        """Whether the examples are the first rows, in their order."""
        return bool(np.array_equal(self.slots, np.arange(len(self.slots))))

    def with_more(self, X: NDArray[np.float32]) -> "Rows":
        """Append rows; all are copied only where there is no room."""
        rows = self if self.n_used + len(X) <= len(self.array) else self.copied(self.slots, len(X))
        end = rows.n_used + len(X)
        rows.array[rows.n_used : end] = X
        return Rows(rows.array, np.concatenate([rows.slots, np.arange(rows.n_used, end)]), end)

    def copied(self, slots: NDArray[np.int64], n_more: int) -> "Rows":
        """Copy some rows to where there is room for twice as many: memory that is not touched yet costs nothing."""
        n = len(slots)
        array = np.empty((max(LEAST_ROWS, 2 * (n + n_more)), self.array.shape[1]), np.float32)
        np.take(self.array, slots, axis=0, out=array[:n], mode="clip")  # "raise" would copy twice
        return Rows(array, np.arange(n), n)


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
    lineage : object
        The same for all versions that came from one reading of the file: only among these numbers mean the same.
    """

    version: int
    labels: Mapping[int, str]
    numbers: NDArray[np.int64]
    ids: NDArray[np.object_]
    classes: NDArray[np.int64]
    _rows: "Rows"
    lineage: object = field(default_factory=object, repr=False)

    @classmethod
    def empty(cls, dim: int) -> "Support":
        """Return version 0: no example, no class."""
        none = np.zeros(0, np.int64)
        return cls(0, {}, none, np.zeros(0, object), none, Rows(np.zeros((0, dim), np.float32), none, 0))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self._rows.array.shape[1])

    @cached_property
    def X(self) -> NDArray[np.float32]:  # the field's name
        """Embeddings (n, dim), float32, read-only; a view, unless examples were removed: then a copy, made once."""
        if not self._rows.are_in_order:
            # For the versions to come too: one copy a removal, not one a version. Who reads meanwhile sees the same.
            self.__dict__["_rows"] = self._rows.copied(self._rows.slots, 0)
        X = self._rows.array[: len(self)]
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
        rows = self._rows
        found: NDArray[np.float32] = rows.array[rows.slots[positions]]
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
        rows = self._rows
        columns = (self.numbers, self.ids, classes, rows.slots)
        if len(delta.removed):
            gone = self.positions(delta.removed)
            columns = tuple(np.delete(column, gone) for column in columns)  # type: ignore[assignment]
        rows = replace(rows, slots=columns[3])
        if len(delta.numbers):
            rows = rows.with_more(delta.X)
            n = len(columns[0])
            come = (delta.numbers, delta.ids, delta.classes)
            pairs = zip(columns, come, strict=False)
            columns = (*(np.concatenate(pair) for pair in pairs), rows.slots)  # type: ignore[assignment]
            if n and columns[0][n - 1] > delta.numbers[0]:  # an undo brings back what stood further ahead
                order = np.argsort(columns[0], kind="stable")
                columns = tuple(column[order] for column in columns)  # type: ignore[assignment]
                rows = replace(rows, slots=columns[3])
        return Support(delta.version, labels, *columns[:3], rows, self.lineage)
