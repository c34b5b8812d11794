"""Labelled embeddings, and their labels as heads learn them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.labelled import MULTI, REGRESSION, Label

Item = bytes | str | Path


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled embeddings, and what a report shows of them.

    Parameters
    ----------
    X : array-like of shape (n, dim), float32
    labels : sequence of str, of tuple of str, or of float, (n,)
    items : sequence of bytes, str or Path, optional
        An image, a text, or the path of a file.
    names : sequence of str, optional
    groups : sequence of str, optional
        Of what no fold may divide.
    """

    X: ArrayLike
    labels: Sequence[Label]
    items: Sequence[Item] | None = None
    names: Sequence[str] | None = None
    groups: Sequence[str] | None = None

    def at(self, rows: NDArray[Any]) -> "Examples":
        """Return some of them, by position."""
        X, positions = np.asarray(self.X)[rows], rows.tolist()

        def some(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else [values[i] for i in positions]

        return Examples(X, some(self.labels) or [], some(self.items), some(self.names), some(self.groups))


def in_scope(examples: Examples, label: str) -> tuple[Examples, Examples | None]:
    """Return what belongs to a class, and what belongs to none, where a label says so."""
    foreign = np.array([bool(label) and one == label for one in examples.labels], bool)
    if not foreign.any():
        return examples, None
    return examples.at(np.flatnonzero(~foreign)), examples.at(np.flatnonzero(foreign))


def target_of(labels: Sequence[Label], kind: str, classes: Sequence[str] | None) -> NDArray[Any]:
    """Return labels as a head learns them: (n,) str or float64, or an indicator (n, n_classes) of 0 and 1."""
    if kind != MULTI:
        return np.asarray(labels, np.float64 if kind == REGRESSION else str)
    places = {label: i for i, label in enumerate(classes or ())}
    target = np.zeros((len(labels), len(places)), np.int64)
    for row, several in enumerate(labels):
        for label in several:  # type: ignore[union-attr]
            if label in places:
                target[row, places[label]] = 1
    return target
