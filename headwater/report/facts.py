"""What a report says: facts about a head, as plain dataclasses and arrays, that know nothing of a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.curve import LearningCurve
from classifiers.measures import Measures, OpenSetMeasures, as_json

Item = bytes | str | Path  # an image's bytes, a text, or the path of a file
Kind = Literal["single", "multi", "regression"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples and what a head says of them that did not learn from them.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
        Embeddings.
    y : array-like
        (n,) labels or numbers; (n, n_labels) of 0 and 1 for multi-label.
    predicted : array-like, float
        Probabilities (n, n_classes), in the order of the report's classes; for regression numbers (n,). Of training
        examples out of fold.
    items : sequence of bytes, str or Path, or callable, optional
        What the examples are, or a function from a position to that; asked only for those that are shown.
    names : sequence of str, optional
        What people call them: a path, a line of a table.
    """

    X: ArrayLike
    y: ArrayLike
    predicted: ArrayLike
    items: Sequence[Item] | Callable[[int], Item] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Tried:
    """A row of what was tried; a number is None where it was not measured."""

    estimator: str
    parameters: str
    accuracy: float | None = None
    log_loss: float | None = None
    seconds: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Shown:
    """An item as a page shows it: its name, and a picture (a data URI) or the beginning of its text, or neither."""

    name: str
    text: str = ""
    image: str = ""


@dataclass(frozen=True)
class Wrong:
    """A wrong prediction, how sure the head was of it, and how likely it found the truth."""

    item: Shown
    label: str
    predicted: str
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Suspect:
    """A label that is likely wrong, with the probabilities of it and of the likeliest other one."""

    item: Shown
    row: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class Duplicate:
    """Two items that are nearly alike, and where each of them is from."""

    item: Shown
    other: Shown
    label: str
    other_label: str
    cosine: float


@dataclass(frozen=True)
class Dot:
    """An item on the map: where, in [-1, 1], what it is, and what the head says; a number's rank in [0, 1]."""

    x: float
    y: float
    item: Shown
    label: str
    predicted: str
    right: bool
    shade: float | None = None


@dataclass(frozen=True)
class Map:
    """Embeddings on a plane."""

    method: str
    n: int
    dots: tuple[Dot, ...]


@dataclass(frozen=True, eq=False)
class Scatter:
    """True and predicted numbers of some examples, (n_shown,) each."""

    true: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """All that a report says; whatever is None or empty is left out of the page.

    Parameters
    ----------
    name, backbone, fingerprint : str
    kind : {'single', 'multi', 'regression'}
    estimator : str
        The chosen one, in words.
    classes : tuple of str
    n_train, n_test : int
        That the head learnt from, and that it was tested on.
    searched : str
        `training examples` or `test examples`: among which wrong labels are sought, and of which the map is.
    measured_on : str
        `test` or `cross-validation`: where the measures are from.
    tried_on : str
        `validation` or `cross-validation`: where the scores of what was tried are from.
    measures : SingleLabelMeasures, MultiLabelMeasures or RegressionMeasures
    tried : tuple of Tried
    wrong : tuple of Wrong
        The surest first.
    suspects : tuple of Suspect
        The most suspicious first, all of them in the JSON and the first with a preview.
    n_suspects_estimated : int
        How many labels are estimated to be wrong.
    duplicates : tuple of Duplicate
    duplicates_between : str
        `train and test`, or what `searched` says.
    curve : LearningCurve or None
    map : Map or None
    scatter : Scatter or None
    open_set : OpenSetMeasures or None
    notes : tuple of str
        What a reader has to know, such as what could not be measured and why.
    """

    name: str
    backbone: str = ""
    fingerprint: str = ""
    kind: Kind = "single"
    estimator: str = ""
    classes: tuple[str, ...] = ()
    n_train: int = 0
    n_test: int = 0
    searched: str = "training examples"
    measured_on: str = "cross-validation"
    tried_on: str = "cross-validation"
    measures: Measures
    tried: tuple[Tried, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    n_suspects_estimated: int = 0
    duplicates: tuple[Duplicate, ...] = ()
    duplicates_between: str = ""
    curve: LearningCurve | None = None
    map: Map | None = None
    scatter: Scatter | None = None
    open_set: OpenSetMeasures | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them, without pictures of items."""
        facts: dict[str, Any] = as_json(self)
        return {"format": 1, **_without_images(facts)}


def _without_images(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_images(one) for key, one in value.items() if key != "image"}
    return [_without_images(one) for one in value] if isinstance(value, list) else value
