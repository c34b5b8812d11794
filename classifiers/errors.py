"""The errors of `classifiers`: one tree; each leaf is also the ValueError that scikit-learn's callers expect.

ClassifierError
├── HeadInvalid       a head's folder is damaged, altered, or too new
├── InvalidLabels     labels that name no classes
├── InvalidOption     a parameter has a value that it cannot have
├── NotFinite         NaN or infinity among embeddings
└── TooFewExamples    a class, or the whole set, has fewer examples than the method needs
"""

from collections.abc import Sequence
from typing import Self


class ClassifierError(Exception):
    """Root of every error that `classifiers` raises on purpose."""


class HeadInvalid(ClassifierError, ValueError):
    """A head's folder is damaged, altered, too new, or holds what no head can be."""


class InvalidLabels(ClassifierError, ValueError):
    """Labels that name no classes."""

    @classmethod
    def of_kind(cls, kind: str) -> Self:
        """Name the kind of target, in scikit-learn's words, that the labels are instead."""
        return cls(
            f"Unknown label type: the labels are {kind}, and a classifier needs one class name, a string or a whole "
            "number, for each example; turn them into strings, or into one column"
        )


class InvalidOption(ClassifierError, ValueError):
    """A parameter has a value that it cannot have."""


class NotFinite(ClassifierError, ValueError):
    """NaN or infinity among embeddings."""

    @classmethod
    def in_rows(cls, rows: Sequence[int], n: int) -> Self:
        """Name the first of the rows, of n, that hold a value that is not finite."""
        return cls(
            f"{len(rows)} of the {n} rows of X hold NaN or infinity, first row {rows[0]}, and none may; "
            "leave these rows out, or extract their items again"
        )


class TooFewExamples(ClassifierError, ValueError):
    """A class, or the whole set, has fewer examples than the method needs."""
