"""A head and labelled embeddings -> how good it is, in numbers and as a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import DataInvalid
from headwater.examples import Examples, target_of
from headwater.labelled import MULTI, REGRESSION, SINGLE, Label

if TYPE_CHECKING:
    from classifiers.head import Head
    from classifiers.measures import Measures, OpenSetMeasures
    from classifiers.persist import Manifest


def evaluate_head(
    head: "Head", manifest: "Manifest", examples: Examples, *, name: str, folder: Path | None = None
) -> tuple["Measures", "OpenSetMeasures | None"]:
    """Measure a head on labelled embeddings, and write a report into a folder where one is given.

    Parameters
    ----------
    head : Head
    manifest : Manifest
    examples : Examples
        Labels that the head does not have are out of its scope.
    name : str
        What the report calls the head.
    folder : Path, optional

    Raises
    ------
    ClassifierError
        Nothing can be measured on these.
    DataInvalid
        No example has a label of the head.
    """
    from headwater.report import Examples as Shown
    from headwater.report import make_report, write_report

    known, _ = known_of(head, examples)
    if not len(known.labels):
        raise DataInvalid(
            f"none of the {len(examples.labels)} labels is one of head {name!r}: {few(head.classes_.tolist())}"
        )
    truth, predicted = truth_of(head, known.labels), predicted_by(head, known.X)
    measures, opened = measure(head, truth, predicted), open_set_of(head, examples)
    if folder is not None:
        report = make_report(
            Shown(known.X, truth, predicted, known.items, known.names),
            name=name,
            measured_on="test",
            **described(head, manifest),
            open_set=opened,
            random_state=0,
        )
        write_report(folder, report)
    return measures, opened


def summary(measures: "Measures | OpenSetMeasures") -> dict[str, tuple[float, float, float]]:
    """Return each measure with the ends of its 95 % interval: value, low, high."""
    from classifiers.measures import Measured

    found = {name: getattr(measures, name) for name in measures.__dataclass_fields__}
    return {name: (one.value, one.low, one.high) for name, one in found.items() if isinstance(one, Measured)}


def truth_of(head: "Head", labels: Sequence[Label]) -> NDArray[Any]:
    """Return labels as the head's target: (n,), or of several labels an indicator (n, n_classes)."""
    return target_of(labels, head.kind, head.classes_.tolist())


def predicted_by(head: "Head", X: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities, or of a regression the values."""
    return head.predict(X)[:, 0] if head.kind == REGRESSION else head.predict_proba(X)


def known_of(head: "Head", examples: Examples) -> tuple[Examples, NDArray[np.bool_]]:
    """Return the examples whose label the head has, and which these are."""
    if head.kind != SINGLE:
        return examples, np.ones(len(examples.labels), bool)
    known = np.isin(np.asarray(examples.labels, str), head.classes_)
    return (examples if known.all() else examples.at(np.flatnonzero(known))), known


def strange_labels(head: "Head", examples: Examples) -> set[str]:
    """Return the labels of examples that a head does not have."""
    if head.kind == REGRESSION:
        return set()
    several: Any = examples.labels if head.kind == MULTI else [(label,) for label in examples.labels]
    return {one for labels in several for one in labels} - set(head.classes_.tolist())


def measure(head: "Head", truth: NDArray[Any], predicted: NDArray[np.float64], *, random_state: int = 0) -> "Measures":
    """Return how good predictions are; a report of the same random state has the same intervals."""
    from classifiers import measures

    if head.kind == SINGLE:
        return measures.single_label(truth, predicted, head.classes_, random_state=random_state)
    by_kind = measures.multi_label if head.kind == MULTI else measures.regression
    return by_kind(truth, predicted, random_state=random_state)


def open_set_of(head: "Head", examples: Examples, *, random_state: int = 0) -> "OpenSetMeasures | None":
    """Measure how items that the head has no label for are told apart, where there are some."""
    from classifiers.measures import open_set

    _, known = known_of(head, examples)
    if known.all() or not known.any():
        return None
    right = head.predict(examples.X) == np.asarray(examples.labels, str)
    unknown, score = head.is_unknown(examples.X), head.knowing(head.scores(examples.X))
    return open_set(known, right, unknown, score, random_state=random_state)


def described(head: "Head", manifest: "Manifest") -> dict[str, Any]:
    """Return what a report says of a head itself."""
    params = manifest.options.get("params", {})
    return {
        "classes": head.classes_,
        "kind": head.kind,
        "backbone": manifest.backbone,
        "fingerprint": manifest.fingerprint,
        "chosen": " ".join(
            [str(manifest.options.get("estimator", "")), *(f"{key}={value}" for key, value in params.items())]
        ),
    }


def parameters(params: Mapping[str, Any]) -> str:
    """Return parameters as people read them: `C = 10`."""
    return ", ".join(
        f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}" for key, value in params.items()
    )


def few(labels: Sequence[Any]) -> str:
    """Name the first of some labels."""
    return ", ".join(map(str, labels[:5])) + (" …" if len(labels) > 5 else "")
