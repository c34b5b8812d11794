"""Embeddings and labels -> a head that is chosen, calibrated and knows when it does not know: `train`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.calibrate import LEAST_ROWS, calibrate, check_calibration
from classifiers.calibrate import NONE as UNCALIBRATED
from classifiers.chosen import Chosen, fit_head
from classifiers.embeddings import check_finite, first_alike
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.estimators import (
    AUTO,
    FEW_SHOT,
    METHODS,
    Candidate,
    Setting,
    candidates_of,
    check_head,
    weights_by_position,
)
from classifiers.folds import Fold, make_folds
from classifiers.head import CONFIDENCE, ENERGY, REGRESSION, SINGLE, Calibration, Head, Rejection
from classifiers.reject import NONE, QUANTILE, VALIDATION, by_quantile, by_validation, check_rule
from classifiers.search import Found, Progress, Trial, search
from classifiers.target import Target

SEARCH_ROWS = 2000  # learnt from and held out while candidates are compared
RBF, RBF_ROWS = "rbf-svm", 50_000  # its time grows with their square: these take minutes, a million more than a day
FEW_SHOTS = 5  # examples of the median class; with fewer, a search would choose by luck
CALIBRATION_PARTS = 5  # of what is held out: four calibrate the fifth, where probabilities are measured
HELD_OUT_ROWS = ("searched", "all")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What the chosen candidate gave rows of X that it was not learnt from.

    Parameters
    ----------
    rows : ndarray of shape (m,), int64
        Positions in X, each once, ascending.
    scores : ndarray of shape (m, n_classes), float64
        Before calibration; -inf for a class that the fold did not learn.
    probabilities : ndarray of shape (m, n_classes), float64
        Calibrated on the other held-out rows, or on the validation set, so that no row takes part in its own; of a
        regression the values.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Training:
    """A trained head, and how it came about.

    Parameters
    ----------
    head : Head
        Learnt from all rows.
    chosen : Trial
    tried : tuple of Trial
        In the order in which they were tried.
    notes : tuple of str
        What a reader should know: that a sample was searched, or that nothing was.
    held_out : HeldOut
    estimator : Chosen
        Unfitted and cloneable: the chosen candidate with its preparation.
    """

    head: Head
    chosen: Trial
    tried: tuple[Trial, ...]
    notes: tuple[str, ...]
    held_out: HeldOut
    estimator: Chosen


def train(
    X: ArrayLike,
    y: ArrayLike,
    *,
    head: str = "auto",
    kind: str | None = None,
    classes: Sequence[Any] | None = None,
    groups: ArrayLike | None = None,
    class_weight: Any = None,
    calibration: str = "auto",
    reject: str | None = QUANTILE,
    reject_rate: float = 0.05,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    out_of_scope: ArrayLike | None = None,
    cv: int = 5,
    held_out: str = "searched",
    random_state: int | None = 0,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Training:
    """Choose a head by cross-validation, learn it from all examples, calibrate it, and find when it is to reject.

    Above 2,000 examples the search is on a stratified sample of them, and above 50,000 without the RBF SVM, which would
    take hours to learn them all. With a median of fewer than 5 examples a class
    nothing is searched: logistic regression with C = 10 is what does best then, or the head that is named.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
    y : array-like
        Labels (n,), str, int or bool; of several labels an example an indicator (n, n_labels) of 0 and 1; of a
        regression numbers, (n,) or (n, n_outputs).
    head : str
        `auto` (logistic regression and RBF SVM; of a regression ridge and RBF SVM), or one of the catalogue,
        `classifiers.estimators.METHODS`, whose grid is then searched.
    kind : {'single', 'multi', 'regression'}, optional
        By default as y looks; a regression must be said.
    classes : sequence of str or int, optional
        Names of y's columns.
    groups : array-like of shape (n,), optional
        Examples of one group are held out together.
    class_weight : dict, 'balanced' or None
        By label; of several labels `balanced` or None.
    calibration : {'auto', 'temperature', 'sigmoid', 'none'}
        By default a temperature for one label, a sigmoid for each of several.
    reject : {'quantile', 'energy', 'validation', 'none'} or None
        The threshold: a quantile of held-out confidence, or of energy, or what is best on held-out items together with
        those that are out of scope.
    reject_rate : float
        The quantile: share of the known items that are rejected.
    validation : tuple of X (n_validation, dim) and y, optional
        Candidates are compared on it, and calibration and threshold are fitted on it, in the place of cross-validation.
    out_of_scope : array-like of shape (n_out_of_scope, dim), optional
        Embeddings of items of no class, for the rule `validation`.
    cv : int
        Folds, at least 2.
    held_out : {'searched', 'all'}
        Which rows of X get a held-out prediction: those that were searched (of a sample: those of one more fold, of
        all rows, which calibrates; with `validation` none), or all, for which the chosen candidate is cross-validated.
    random_state : int or None
        The same number gives the same head, on one machine, whatever `n_jobs` is.
    n_jobs : int, optional
        Threads of the search; by default every core.
    progress : callable, optional
        Called in this thread with steps that are done, all steps, and a text; what it raises ends the training.

    Raises
    ------
    InvalidLabels
        Labels that are not of their kind.
    InvalidOption
        An option that is none, or that the head does not know.
    NotFinite
        NaN or infinity in X.
    TooFewExamples
        One class only, or fewer examples than the head needs.
    ValueError
        Lengths that differ.
    """
    target = Target.of(y, kind, classes)
    examples = _Examples(_embeddings(X), target, None if groups is None else np.asarray(groups))
    examples.check()
    judges = None if validation is None else _judges(validation, examples)
    foreign = None if out_of_scope is None else _embeddings(out_of_scope, dim=examples.X.shape[1])
    method = check_calibration(calibration, target.kind)
    rule = check_rule(reject, reject_rate, target.kind, out_of_scope=foreign is not None)
    if held_out not in HELD_OUT_ROWS:
        raise InvalidOption(f"held_out is {held_out!r}, not one of {', '.join(HELD_OUT_ROWS)}")
    setting = Setting(target.kind, len(target.classes), weights_by_position(class_weight, target), random_state)
    candidates, why = _candidates(head, examples.distinct(), class_weight)

    rounds = _Rounds(setting, cv, -1 if n_jobs is None else n_jobs, progress)
    sample = examples.sample(_search_rows(target, cv, judges), random_state)
    found = rounds.compare(examples.at(sample), judges, candidates, why)
    best = candidates[found.best]
    own, rows = found, sample
    if judges or len(sample) < len(examples.X):
        # A sample's scores are of heads that learnt from less, and less sure: one more fold, of all, is the measure.
        n_folds = cv if held_out == "all" else 0 if judges else 1
        if n_folds:
            rounds.tell(f"{best} on held-out folds of all {len(examples.X):,} examples")
        own, rows = rounds.compare(examples, None, [best], "", n_folds=n_folds), np.arange(len(examples.X))
    rounds.tell(f"{best} on all {len(examples.X):,} examples")
    fitted = fit_head(best, examples.X, target, replace(setting, n_jobs=rounds.n_jobs))

    evidence = _Evidence(own.scores, target.values[rows[own.rows]])
    if judges:
        evidence = _Evidence(fitted.scores(judges.X), judges.target.values)
    fitted = replace(fitted, calibration=_calibration(evidence, target.kind, method, best))
    fitted = replace(fitted, rejection=_rejection(evidence, fitted, rule, reject_rate, foreign))
    probabilities = _probabilities(own.scores, fitted) if judges else _calibrated_apart(evidence, fitted, method)
    order = np.argsort(own.rows)
    notes = (why, *_notes(examples, len(sample), evidence, rule, fitted), _of_calibration(evidence, method, best))
    return Training(
        head=fitted,
        chosen=found.tried[found.best],
        tried=found.tried,
        notes=tuple(note for note in notes if note),
        held_out=HeldOut(rows[own.rows[order]], own.scores[order], probabilities[order]),
        estimator=Chosen(
            head=best.head, params=best.params, kind=target.kind, class_weight=class_weight, random_state=random_state
        ),
    )


_OF_MANY = "{} was not tried: with {:,} examples it would take hours; name it as the head where it is worth them"
_OF_SAMPLE = "searched on a stratified sample of {:,} of the {:,} examples"
_OF_LONELY = "of {:,} of the {:,} classes there is one example, which is learnt from and never held out"
_OF_COPIES = "{:,} of the {:,} examples are copies of others; they are held out together with these"


class _Evidence(NamedTuple):
    """Scores (n, n_classes) of what was held out, and what was right."""

    scores: NDArray[np.float64]
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Examples:
    X: NDArray[Any]
    target: Target
    groups: NDArray[Any] | None = None

    @cached_property
    def same(self) -> NDArray[np.int64]:
        """Position of the first example that is just like each, (n,)."""
        return first_alike(self.X)

    def distinct(self) -> Target:
        """Return the target without copies."""
        return replace(self.target, values=self.target.values[np.unique(self.same)])

    def copies(self) -> str:
        """Say how many copies there are, where folds had to keep them together."""
        n = len(self.same) - len(np.unique(self.same))
        return _OF_COPIES.format(n, len(self.same)) if n and self.groups is None else ""

    def check(self) -> None:
        if len(self.X) != len(self.target.values):
            raise ValueError(
                f"X has {len(self.X)} rows, y has {len(self.target.values)}; give a label for each embedding"
            )
        if self.groups is not None and self.groups.shape != (len(self.X),):
            raise InvalidOption(f"groups are {self.groups.shape}; name a group for each of the {len(self.X)} examples")

    def at(self, rows: NDArray[np.int64]) -> "_Examples":
        target = replace(self.target, values=self.target.values[rows])
        return _Examples(self.X[rows], target, None if self.groups is None else self.groups[rows])

    def sample(self, n: int, random_state: int | None) -> NDArray[np.int64]:
        """Return the positions, ascending, of n examples: of each class its share."""
        if n >= len(self.X):
            return np.arange(len(self.X))
        order = np.random.default_rng(random_state).permutation(len(self.X))
        if self.target.kind == SINGLE:
            order = order[np.argsort(self.target.values[order], kind="stable")]
        return np.sort(order[np.arange(n) * len(order) // n])


@dataclass
class _Rounds:
    """Runs searches, and tells their progress as that of one job that ends with the fit on all examples."""

    setting: Setting
    cv: int
    n_jobs: int
    progress: Progress | None
    done: int = 0

    def compare(
        self,
        examples: _Examples,
        judges: _Examples | None,
        candidates: Sequence[Candidate],
        note: str,
        n_folds: int | None = None,
    ) -> Found:
        X, values = examples.X, examples.target.values
        if judges:
            folds: tuple[Fold, ...] = (Fold(np.arange(len(X)), np.arange(len(X), len(X) + len(judges.X))),)
            X, values = np.concatenate([X, judges.X]), np.concatenate([values, judges.target.values])
        else:
            seed = self.setting.random_state
            folds = make_folds(
                examples.target, cv=self.cv, groups=examples.groups, same=examples.same, random_state=seed
            )[:n_folds]
        alone = len(folds) * len(candidates) == 1
        setting = replace(self.setting, n_jobs=self.n_jobs) if alone else self.setting
        found = search(X, values, folds, candidates, setting, n_jobs=self.n_jobs, progress=self._onwards, note=note)
        self.done += len(folds) * len(candidates)
        return found

    def tell(self, text: str) -> None:
        self._onwards(0, 0, text)

    def _onwards(self, done: int, total: int, text: str) -> None:
        if self.progress:
            self.progress(self.done + done, self.done + total + 1, text)


def _embeddings(X: ArrayLike, dim: int | None = None) -> NDArray[Any]:
    """Return X as float32 or float64, rows one after the other."""
    given = np.asarray(X)
    if given.ndim != 2 or given.dtype.kind not in "biuf" or not given.shape[1] or dim not in (None, given.shape[1]):
        raise ValueError(f"X is {given.dtype} {given.shape}, and must be numbers (n, {dim or 'dim'})")
    embeddings = np.ascontiguousarray(given, given.dtype if given.dtype in (np.float32, np.float64) else np.float64)
    check_finite(embeddings)
    return embeddings


def _judges(validation: tuple[ArrayLike, ArrayLike], examples: _Examples) -> _Examples:
    X, y = _embeddings(validation[0], dim=examples.X.shape[1]), examples.target.positions(validation[1])
    judges = _Examples(X, replace(examples.target, values=y))
    judges.check()
    if not len(X):
        raise TooFewExamples("validation has no examples; give some, or leave it away")
    return judges


def _candidates(head: str, target: Target, class_weight: Any) -> tuple[Sequence[Candidate], str]:
    """Return what is tried, and why no more, where it is so."""
    names: tuple[str, ...] = AUTO[target.kind] if head == "auto" else (head,)
    for name in names:
        check_head(name, target.kind, class_weight)
    median = float(np.median(target.counts))
    if median < FEW_SHOTS:
        name = FEW_SHOT[target.kind] if head == "auto" else head
        why = f"not searched: the median class has {median:g} examples, fewer than {FEW_SHOTS}, which could not tell"
        return [Candidate(name, METHODS[name].default)], why
    why = ""
    if head == "auto" and len(target.values) > RBF_ROWS:
        names, why = tuple(name for name in names if name != RBF), _OF_MANY.format(RBF, len(target.values))
    return [candidate for name in names for candidate in candidates_of(name)], why


def _search_rows(target: Target, cv: int, judges: _Examples | None) -> int:
    """Return how many examples are searched; on a validation set each candidate is fitted once, not cv times."""
    least = max(SEARCH_ROWS, FEW_SHOTS * len(target.classes))
    return least * cv // 2 if judges else least


def _calibration(evidence: _Evidence, kind: str, method: str, candidate: Candidate) -> Calibration:
    if method != UNCALIBRATED and len(evidence.values) < LEAST_ROWS:
        return Calibration.temperature(METHODS[candidate.head].temperature, evidence.scores.shape[1])
    return calibrate(evidence.scores, evidence.values, kind, method)


def _probabilities(scores: NDArray[np.float64], head: Head) -> NDArray[np.float64]:
    """Return what a head makes of scores: probabilities, or of a regression the values, (n, n_classes)."""
    return scores if head.kind == REGRESSION else head.probabilities(scores)


def _calibrated_apart(evidence: _Evidence, head: Head, method: str) -> NDArray[np.float64]:
    """Return probabilities of held-out scores, a part of them at a time, by a calibration fitted on the other parts."""
    if method == UNCALIBRATED or len(evidence.values) < LEAST_ROWS:  # then nothing was fitted on them
        return _probabilities(evidence.scores, head)
    part, found = np.arange(len(evidence.values)) % CALIBRATION_PARTS, np.empty_like(evidence.scores)
    for number in range(CALIBRATION_PARTS):
        own = part == number
        calibration = calibrate(evidence.scores[~own], evidence.values[~own], head.kind, method)
        found[own] = replace(head, calibration=calibration).probabilities(evidence.scores[own])
    return found


def _notes(examples: _Examples, n_searched: int, evidence: _Evidence, rule: str, head: Head) -> tuple[str, ...]:
    """Say what was not as with many examples of each class, all different."""
    n, n_held_out = len(examples.X), len(evidence.values)
    return (
        examples.copies(),
        _of_lonely(examples.distinct()),
        _OF_SAMPLE.format(n_searched, n) if n_searched < n else "",
        "" if n_held_out else "nothing could be held out: no class has two examples that differ",
        "" if rule == NONE or head.rejection else f"no threshold: {n_held_out} examples held out are too few",
    )


def _of_lonely(target: Target) -> str:
    """Say how many classes could not be held out, where others could."""
    lonely = int((target.counts <= 1).sum()) if target.kind == SINGLE else 0
    return _OF_LONELY.format(lonely, len(target.classes)) if 0 < lonely < len(target.classes) else ""


def _of_calibration(evidence: _Evidence, method: str, candidate: Candidate) -> str:
    if method == UNCALIBRATED or len(evidence.values) >= LEAST_ROWS:
        return ""
    return (
        f"not calibrated: {len(evidence.values)} examples could be held out, and {LEAST_ROWS} are needed; the "
        f"temperature is {METHODS[candidate.head].temperature:g}, which is usual for {candidate.head}"
    )


def _rejection(
    evidence: _Evidence, head: Head, rule: str, rate: float, foreign: NDArray[Any] | None
) -> Rejection | None:
    if rule == NONE or not len(evidence.values):
        return None
    if rule == VALIDATION and foreign is not None:
        return by_validation(head, evidence.scores, _right(evidence, head.kind), head.scores(foreign))
    score = ENERGY if rule == ENERGY else CONFIDENCE
    return by_quantile(head.knowing(evidence.scores, score), score, rate)


def _right(evidence: _Evidence, kind: str) -> NDArray[np.bool_]:
    """Return which of the held-out examples are predicted rightly, (n,)."""
    if kind == SINGLE:
        return np.asarray(evidence.scores.argmax(axis=1) == evidence.values)
    return np.asarray(((evidence.scores > 0) == evidence.values).all(axis=1))
