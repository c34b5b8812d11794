"""The errors of `classifiers`: one tree; each leaf is also the ValueError that scikit-learn's callers expect.

ClassifierError
├── DumpUnreadable     files of embeddings that are damaged, too new, or none
├── EmbeddingMismatch  embeddings of another backbone or another length than those they met
├── ExampleConflict    an example's id is taken by another one
├── ExampleNotFound    a task has no example of that id
├── HeadInvalid        a head's folder is damaged, altered, or too new
├── IndexUnreadable    a file of an index that is damaged, too new, or none
├── InvalidLabels      labels that name no classes
├── InvalidOption      a parameter has a value that it cannot have
├── LimitExceeded      more, or longer, than a task may hold
├── NotFinite          NaN or infinity among embeddings
├── StoreInUse         another process has the folder of tasks
├── TaskEmpty          a task has nothing to go by yet
├── TaskExists         there is a task of that name already
├── TaskInvalid        a task's file is damaged, too new, or none
├── TaskNotFound       there is no task of that name
├── TaskUnwritable     a change could not be written, and was not made; or there is no room to open a task
├── TooFewExamples     a class, or the whole set, has fewer examples than the method needs
└── VersionConflict    a change was meant for another version of the task
"""

from collections.abc import Sequence
from typing import Self


class ClassifierError(Exception):
    """Root of every error that `classifiers` raises on purpose."""


class DumpUnreadable(ClassifierError, ValueError):
    """Files of embeddings that are not there, damaged, too new, or no dump."""


class EmbeddingMismatch(ClassifierError, ValueError):
    """Embeddings of another backbone, or of another length, than those that they were to meet."""


class ExampleConflict(ClassifierError, ValueError):
    """An example's id is taken by one with another label or another embedding."""


class ExampleNotFound(ClassifierError, ValueError):
    """A task has no example of that id."""


class HeadInvalid(ClassifierError, ValueError):
    """A head's folder is damaged, altered, too new, or holds what no head can be."""


class IndexUnreadable(ClassifierError, ValueError):
    """An index is not there, damaged, too new, or not what its facts say."""


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


class LimitExceeded(ClassifierError, ValueError):
    """More, or longer, than a task may hold."""


class NotFinite(ClassifierError, ValueError):
    """NaN or infinity among embeddings."""

    @classmethod
    def in_rows(cls, rows: Sequence[int], n: int) -> Self:
        """Name the first of the rows, of n, that hold a value that is not finite."""
        return cls(
            f"{len(rows)} of the {n} rows of X hold NaN or infinity, first row {rows[0]}, and none may; "
            "leave these rows out, or extract their items again"
        )


class StoreInUse(ClassifierError, ValueError):
    """Another process has the folder of tasks."""


class TaskEmpty(ClassifierError, ValueError):
    """A task has no example, and no names of classes, to go by yet."""


class TaskExists(ClassifierError, ValueError):
    """There is a task of that name already."""


class TaskInvalid(ClassifierError, ValueError):
    """A task's file is damaged, too new, or is none."""


class TaskNotFound(ClassifierError, ValueError):
    """There is no task of that name."""


class TaskUnwritable(ClassifierError, ValueError):
    """A change could not be written to disk, and was not made; or there is no room beside a task's file to open it."""


class TooFewExamples(ClassifierError, ValueError):
    """A class, or the whole set, has fewer examples than the method needs."""


class VersionConflict(ClassifierError, ValueError):
    """A change was meant for another version of the task than it has."""
