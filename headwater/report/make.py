"""Arrays -> a Report: everything that can be measured, ranked or drawn of a head is computed here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers import measures as measuring
from classifiers.curve import LearningCurve, learning_curve
from classifiers.duplicates import near_duplicates
from classifiers.errors import TooFewExamples
from classifiers.projection import project
from classifiers.suspects import label_suspects, out_of_fold
from headwater.report.facts import Dot, Duplicate, Examples, Kind, Map, Report, Scatter, Shown, Suspect, Tried, Wrong
from headwater.report.thumbnails import Budget, Thumbnails

N_WRONG, N_SUSPECTS, N_SUSPECTS_SHOWN, N_DUPLICATES = 24, 150, 36, 24
N_SCATTER = 2000
MAX_FITTED = 20_000  # rows that heads are fitted on to find wrong labels
MAX_COMPARED = 200_000  # rows that are compared with each other, in some seconds
MAP_SIDE_PIXELS = 72
MAX_MAP_PICTURES_BYTES = 4 << 20


def make_report(
    train: Examples,
    test: Examples | None = None,
    *,
    name: str,
    classes: ArrayLike = (),
    kind: Kind = "single",
    backbone: str = "",
    fingerprint: str = "",
    chosen: str = "",
    estimator: Any = None,
    tried: Sequence[Tried] = (),
    open_set: measuring.OpenSetMeasures | None = None,
    notes: Sequence[str] = (),
    n_train: int | None = None,
    measured_on: str = "",
    tried_on: str = "cross-validation",
    random_state: int = 0,
) -> Report:
    """Compute all that a report says of a head.

    Measures and wrong predictions are of the test examples where there are some, and otherwise of the training
    examples out of fold. Likely label errors and the map are of the training examples that have such predictions.

    Parameters
    ----------
    train : Examples
        With out-of-fold predictions.
    test : Examples, optional
        With the head's predictions.
    name : str
        The head's.
    classes : array-like of shape (n_classes,)
        In the order of the probabilities' columns; for several labels their names; none for regression.
    kind : {'single', 'multi', 'regression'}
    backbone, fingerprint : str
    chosen : str
        The estimator and its parameters, in words.
    estimator : scikit-learn classifier, optional
        Clones of it make the learning curve, of single-label heads.
    tried : sequence of Tried
    open_set : OpenSetMeasures, optional
    notes : sequence of str
        Shown to the reader.
    n_train : int, optional
        Examples that the head learnt from; by default as many as there are in `train`.
    measured_on : {'cross-validation', 'test'}, optional
        By default as `test` is there or not; say `test` where the head did not learn from `train`: these are then the
        test examples, and what is said of training examples is said of them.
    tried_on : {'cross-validation', 'validation'}
        Where what was tried was compared.
    random_state : int
        The same number gives the same report on one machine.

    Raises
    ------
    ClassifierError
        Labels, probabilities or embeddings that nothing can be measured on.
    """
    budget, measured = Budget(), train if test is None else test
    on = measured_on or ("cross-validation" if test is None else "test")
    of = "test examples" if test is None and on == "test" else "training examples"
    show_train = Thumbnails(train.items, train.names, budget)
    show_test = show_train if test is None else Thumbnails(test.items, test.names, budget)
    known, remarks = np.asarray(classes), list(notes)
    facts: dict[str, Any] = {}
    if kind == "single":
        facts["wrong"] = _wrong(measured, known, show_test)
        facts |= _suspects(train, known, show_train, random_state, remarks)
        facts["curve"] = _curve(estimator, train, random_state, remarks)
    names = known if kind == "multi" else None
    facts |= _duplicates(train, test, of, show_train, show_test, names, remarks)
    if kind == "regression":
        facts["scatter"] = _scatter(measured, random_state)
    return Report(
        name=name,
        backbone=backbone,
        fingerprint=fingerprint,
        kind=kind,
        estimator=chosen,
        classes=tuple(map(str, known.tolist())),
        n_train=n_train if n_train is not None else 0 if of == "test examples" else len(np.asarray(train.y)),
        n_test=len(np.asarray(measured.y)) if on == "test" else 0,
        searched=of,
        measured_on=on,
        tried_on=tried_on,
        measures=_measures(kind, measured, known, random_state),
        tried=tuple(tried),
        map=_map(
            train, known, kind, Thumbnails(train.items, train.names, Budget(MAX_MAP_PICTURES_BYTES)), random_state
        ),
        open_set=open_set,
        notes=tuple(remarks),
        **facts,
    )


def _measures(kind: Kind, examples: Examples, classes: NDArray[Any], random_state: int) -> measuring.Measures:
    if kind == "regression":
        return measuring.regression(examples.y, examples.predicted, random_state=random_state)
    if kind == "multi":
        return measuring.multi_label(examples.y, examples.predicted, random_state=random_state)
    return measuring.single_label(examples.y, examples.predicted, classes, random_state=random_state)


def _wrong(examples: Examples, classes: NDArray[Any], show: Thumbnails) -> tuple[Wrong, ...]:
    """Return the wrong predictions that the head was surest of."""
    p, true = np.asarray(examples.predicted, np.float64), measuring.positions(examples.y, classes)
    said = p.argmax(axis=1)
    wrong = np.flatnonzero(said != true)
    surest = wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")[:N_WRONG]]
    return tuple(
        Wrong(
            show(row),
            str(classes[true[row]]),
            str(classes[said[row]]),
            float(p[row, said[row]]),
            float(p[row, true[row]]),
        )
        for row in surest.tolist()
    )


def _suspects(
    train: Examples, classes: NDArray[Any], show: Thumbnails, random_state: int, remarks: list[str]
) -> dict[str, Any]:
    p = np.asarray(train.predicted, np.float64)
    try:
        if len(p) <= MAX_FITTED:
            p = out_of_fold(train.X, train.y, classes, random_state=random_state)
    except TooFewExamples as error:
        remarks.append(f"No search for wrong labels: {error}.")
        return {}
    given = measuring.positions(train.y, classes)
    found = label_suspects(train.y, p, classes, n=N_SUSPECTS)
    ranked = zip(found.rows.tolist(), found.suggested.tolist(), strict=True)
    suspects = tuple(
        Suspect(
            show(row) if place < N_SUSPECTS_SHOWN else Shown(show.name(row)),
            row,
            str(classes[given[row]]),
            str(classes[other]),
            float(p[row, given[row]]),
            float(p[row, other]),
        )
        for place, (row, other) in enumerate(ranked)
        if p[row, other] > p[row, given[row]]  # where the head agrees with the label there is nothing to suspect
    )
    return {"suspects": suspects, "n_suspects_estimated": found.n_estimated}


def _curve(estimator: Any, train: Examples, random_state: int, remarks: list[str]) -> LearningCurve | None:
    if estimator is None:
        return None
    try:
        return learning_curve(estimator, train.X, train.y, random_state=random_state)
    except TooFewExamples as error:
        remarks.append(f"No learning curve: {error}.")
    return None


def _scatter(examples: Examples, random_state: int) -> Scatter:
    true, said = np.asarray(examples.y, np.float64).ravel(), np.asarray(examples.predicted, np.float64).ravel()
    rows = np.arange(len(true))
    if len(rows) > N_SCATTER:
        rows = np.sort(np.random.default_rng(random_state).choice(rows, N_SCATTER, replace=False))
    return Scatter(true[rows], said[rows])


def _duplicates(
    train: Examples,
    test: Examples | None,
    of: str,
    show_train: Thumbnails,
    show_test: Thumbnails,
    names: NDArray[Any] | None,
    remarks: list[str],
) -> dict[str, Any]:
    if test is None and len(np.asarray(train.y)) > MAX_COMPARED:
        remarks.append(f"Near-duplicates are not searched among more than {MAX_COMPARED:,} {of}.")
        return {}
    first = train if test is None else test
    found = near_duplicates(first.X, None if test is None else train.X, n=N_DUPLICATES)
    pairs = zip(found.rows.tolist(), found.others.tolist(), found.cosines.tolist(), strict=True)
    duplicates = tuple(
        Duplicate(
            show_test(row), show_train(other), _in_words(first.y, row, names), _in_words(train.y, other, names), cosine
        )
        for row, other, cosine in pairs
    )
    return {"duplicates": duplicates, "duplicates_between": of if test is None else "train and test"}


def _in_words(y: ArrayLike, row: int, names: NDArray[Any] | None) -> str:
    label = np.asarray(y)[row].tolist()
    if isinstance(label, list) and names is not None:
        return ", ".join(map(str, names[np.asarray(label, bool)]))
    return f"{label:.4g}" if isinstance(label, float) else str(label)


def _map(train: Examples, classes: NDArray[Any], kind: Kind, show: Thumbnails, random_state: int) -> Map:
    labels, said, right = _labels_in_words(train, classes, kind)
    found = project(train.X, labels if kind == "single" else None, random_state=random_state)
    shades = _ranks(train.y).tolist() if kind == "regression" else [None] * len(labels)
    places = zip(found.rows.tolist(), found.positions.tolist(), strict=True)
    dots = tuple(
        Dot(x, y, show(row, side=MAP_SIDE_PIXELS), labels[row], said[row], bool(right[row]), shades[row])
        for row, (x, y) in places
    )
    return Map(found.method, len(labels), dots)


def _ranks(y: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(y, np.float64).ravel()
    ranks: NDArray[np.float64] = np.searchsorted(np.sort(numbers), numbers) / max(len(numbers) - 1, 1)
    return ranks


def _labels_in_words(
    examples: Examples, classes: NDArray[Any], kind: Kind
) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    """Return the labels, the predictions, and whether they are the same."""
    p, y = np.asarray(examples.predicted, np.float64), np.asarray(examples.y)
    if kind == "regression":
        return [f"{one:.4g}" for one in y.ravel()], [f"{one:.4g}" for one in p.ravel()], np.ones(len(y), bool)
    if kind == "multi":
        there, said = y.astype(bool), p >= 0.5
        sets = [[", ".join(map(str, classes[one])) for one in rows] for rows in (there, said)]
        return sets[0], sets[1], (there == said).all(axis=1)
    predicted = classes[p.argmax(axis=1)]
    return list(map(str, y.tolist())), list(map(str, predicted.tolist())), predicted == y
