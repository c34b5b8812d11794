"""Embeddings with labels -> a head on disk, what it should be expected to do, and a report of it."""

import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import DataInvalid
from headwater.evaluation import (
    described,
    few,
    known_of,
    measure,
    open_set_of,
    parameters,
    predicted_by,
    summary,
    truth_of,
)
from headwater.examples import Examples, in_scope, target_of
from headwater.labelled import MULTI, REGRESSION, SINGLE

if TYPE_CHECKING:
    from classifiers.measures import Measures
    from classifiers.persist import Manifest
    from classifiers.train import HeldOut, Training

LIBRARIES = ("headwater", "numpy", "scikit-learn")
MAX_HELD_OUT_ROWS = 20_000  # above it a report speaks of the sample that was searched

Progress = Callable[[int, int, str], object]  # steps done, steps in all, what is done now


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where embeddings come from.

    Parameters
    ----------
    backbone, fingerprint : str
    items : sequence of str
        Keys of the items (`extractor.cache.item_key`), in hexadecimal digits, in their order.
    """

    backbone: str
    fingerprint: str
    items: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a head is trained; see `classifiers.train.train`.

    Parameters
    ----------
    head : str
        `auto`, or the name of an estimator.
    kind : {'single', 'multi', 'regression'}
    class_weight : {'balanced'} or None
    calibration : {'auto', 'temperature', 'sigmoid', 'none'}
    reject : {'auto', 'quantile', 'energy', 'validation', 'none'}
        `auto` is `validation` where there are items out of scope, and `quantile` where not.
    reject_rate : float
    out_of_scope : str
        The label of items that belong to no class: they are not learnt, but tell when to reject.
    seed : int
        How examples are dealt to folds.
    """

    head: str = "auto"
    kind: str = SINGLE
    class_weight: str | None = None
    calibration: str = "auto"
    reject: str = "auto"
    reject_rate: float = 0.05
    out_of_scope: str = ""
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidOption for what no training takes; loads scikit-learn."""
        from classifiers.calibrate import check_calibration
        from classifiers.errors import InvalidOption
        from classifiers.estimators import check_head
        from classifiers.reject import check_rule

        if self.class_weight not in (None, "balanced"):
            raise InvalidOption(f"class_weight is {self.class_weight!r}; take 'balanced', or leave it away")
        if self.head != "auto":
            check_head(self.head, self.kind, self.class_weight)
        check_calibration(self.calibration, self.kind)
        rule = "quantile" if self.reject == "auto" else self.reject
        check_rule(rule, self.reject_rate, self.kind, out_of_scope=bool(self.out_of_scope))


def train_head(
    folder: Path,
    examples: Examples,
    origin: Origin,
    options: Options = Options(),
    *,
    validation: Examples | None = None,
    test: Examples | None = None,
    name: str = "",
    report: bool = False,
    progress: Progress | None = None,
) -> "Manifest":
    """Choose and train a head, measure what it does with examples that it did not learn from, and keep it.

    Parameters
    ----------
    folder : Path
        The head's.
    examples : Examples
    origin : Origin
    options : Options
    validation : Examples, optional
        Candidates are compared, calibrated and given a threshold on these; by default by cross-validation.
    test : Examples, optional
        The head is measured on these; by default on what cross-validation held out.
    name : str
        What a report calls the head.
    report : bool
        Write `report.html` and `report.json` beside the head; takes longer.
    progress : callable, optional
        Called with (steps done, steps in all, what is done now); what it raises ends the training.

    Returns
    -------
    Manifest
        With what was measured, where anything could be held out.

    Raises
    ------
    ClassifierError
        The examples cannot be learnt from: a single class, values that are not finite.
    OSError
        The folder cannot be written.
    """
    from classifiers.persist import Manifest, save_head

    scoped, foreign = in_scope(examples, options.out_of_scope)
    judges, foreign_judges = in_scope(validation, options.out_of_scope) if validation else (None, None)
    training = _train(scoped, judges, foreign_judges or foreign, options, report=report, progress=progress)
    measured = _measured(training, scoped, test, options)
    measures = measure(training.head, *measured) if measured else None
    manifest = Manifest(
        backbone=origin.backbone,
        fingerprint=origin.fingerprint,
        dim=training.head.dim,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=_numbers(measures, test is not None),
        options={
            **asdict(options),
            "estimator": training.chosen.head,
            "params": _plain(training.chosen.params),
            "tried": [_plain(asdict(trial)) for trial in training.tried],
            "notes": list(training.notes),
        },
        items=tuple(origin.items),
        versions={library: importlib.metadata.version(library) for library in LIBRARIES},
    )
    save_head(folder, training.head, manifest)
    if report and measured:
        (progress or _silently)(1, 1, "writing the report")
        _write_report(folder, name, manifest, training, scoped, test, measured)
    return manifest


def _train(
    examples: Examples,
    judges: Examples | None,
    foreign: Examples | None,
    options: Options,
    *,
    report: bool,
    progress: Progress | None,
) -> "Training":
    from classifiers.train import train

    several = {label for labels in examples.labels for label in labels} if options.kind == MULTI else None  # type: ignore[union-attr]
    classes = None if several is None else sorted(several)
    small = len(examples.labels) <= MAX_HELD_OUT_ROWS
    reject = options.reject if options.reject != "auto" else ("validation" if foreign else "quantile")
    return train(
        examples.X,
        target_of(examples.labels, options.kind, classes),
        head=options.head,
        kind=options.kind,
        classes=classes,
        groups=examples.groups,
        class_weight=options.class_weight,
        calibration=options.calibration,
        reject=None if options.kind == REGRESSION else reject,
        reject_rate=options.reject_rate,
        validation=(judges.X, target_of(judges.labels, options.kind, classes)) if judges else None,
        out_of_scope=foreign.X if foreign and reject == "validation" else None,
        held_out="all" if report and small else "searched",
        random_state=options.seed,
        progress=progress,
    )


def _measured(
    training: "Training", examples: Examples, test: Examples | None, options: Options
) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Return what is right (n, …) and what was predicted (n, …): of the test examples, else of what was held out."""
    head = training.head
    if test is not None:
        known, _ = known_of(head, test)
        if not len(known.labels):
            raise DataInvalid(f"no test example has a label that was learnt: {few(head.classes_.tolist())}")
        return truth_of(head, known.labels), predicted_by(head, known.X)
    held_out: HeldOut = training.held_out
    if not len(held_out.rows):
        return None
    truth = truth_of(head, [examples.labels[i] for i in held_out.rows.tolist()])
    predicted = held_out.probabilities
    return truth, predicted[:, 0] if head.kind == REGRESSION else predicted


def _numbers(measures: "Measures | None", tested: bool) -> dict[str, float]:
    """Return what was measured as a manifest has it: `cv_accuracy`, or of test examples `test_accuracy`."""
    if measures is None:
        return {}
    prefix = "test" if tested else "cv"
    found: dict[str, float] = {f"{prefix}_n": float(measures.n)}
    for name, (value, low, high) in summary(measures).items():
        found |= {f"{prefix}_{name}": value, f"{prefix}_{name}_low": low, f"{prefix}_{name}_high": high}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _write_report(
    folder: Path,
    name: str,
    manifest: "Manifest",
    training: "Training",
    examples: Examples,
    test: Examples | None,
    measured: tuple[NDArray[Any], NDArray[np.float64]],
) -> None:
    from headwater.report import Examples as Shown
    from headwater.report import Tried, make_report, write_report

    head, held_out = training.head, training.held_out
    known = known_of(head, test)[0] if test else None
    shown = None if known is None else Shown(known.X, *measured, known.items, known.names)
    learnt = examples.at(held_out.rows) if len(held_out.rows) else None
    if learnt is None:  # nothing was held out: the report is of the test examples alone
        train, shown = shown, None
    else:
        own = held_out.probabilities[:, 0] if head.kind == REGRESSION else held_out.probabilities
        train = Shown(learnt.X, truth_of(head, learnt.labels), own, learnt.items, learnt.names)
    tried = [
        Tried(
            estimator=trial.head,
            parameters=parameters(trial.params),
            accuracy=_finite(trial.score),
            log_loss=_finite(trial.log_loss),
            seconds=_finite(trial.seconds),
            chosen=trial == training.chosen,
        )
        for trial in training.tried
    ]
    assert train is not None  # noqa: S101  # for mypy: something was measured
    report = make_report(
        train,
        shown,
        name=name or folder.name,
        **described(head, manifest),
        estimator=training.estimator if head.kind == SINGLE else None,
        tried=tried,
        open_set=open_set_of(head, test) if test else None,
        notes=training.notes,
        random_state=manifest.options["seed"],
    )
    write_report(folder, report)


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Return what JSON can hold, NaN as None."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return json.loads(json.dumps(value, default=str))


def _silently(*_: object) -> None:
    pass
