"""Candidates and folds -> what each was worth on what was held out, and the scores of the best."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.metrics.pairwise import rbf_kernel
from threadpoolctl import threadpool_limits

from classifiers.calibrate import calibrate, check_calibration, log_loss
from classifiers.embeddings import one_shot_is_enough
from classifiers.estimators import Candidate, Setting, as_scorer, unfitted, weights_of
from classifiers.folds import Fold
from classifiers.head import MULTI, REGRESSION, SINGLE
from classifiers.kernel import GAMMA
from classifiers.preparation import Preparation

Progress = Callable[[int, int, str], object]
METRICS = {SINGLE: "accuracy", MULTI: "macro_f1", REGRESSION: "r2"}
MAX_KERNEL_ROWS = 8_000  # 0.5 GiB, and nearly as much in each thread


@dataclass(frozen=True)
class Trial:
    """What was tried, and what it was worth.

    Parameters
    ----------
    head : str
    params : mapping of str to Any
    metric : str
        What the score is: `accuracy`, `macro_f1` or `r2`, of all held-out rows together.
    score, log_loss : float or None
        The latter after calibration, of a regression none; both None where nothing could be held out.
    seconds : float
        Of one core, for all folds.
    folds : int
    rows : int
        Examples that were learnt from and held out in turns.
    note : str
        Why nothing else was tried, where it is so.
    """

    head: str
    params: Mapping[str, Any]
    metric: str
    score: float | None
    log_loss: float | None
    seconds: float
    folds: int
    rows: int
    note: str = ""


class Found(NamedTuple):
    """What a search comes to.

    Parameters
    ----------
    tried : tuple of Trial
        In the order of the candidates.
    best : int
        Position of the best.
    rows : ndarray of shape (n_held_out,), int64
        Which rows were held out.
    scores : ndarray of shape (n_held_out, n_outputs), float64
        What the best gave them; -inf for a class that was not learnt.
    """

    tried: tuple[Trial, ...]
    best: int
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


class Part(NamedTuple):
    """What a candidate gave the held-out rows of one fold: scores (n, n_outputs), and the seconds that it took."""

    scores: NDArray[np.float64]
    seconds: float


def search(
    X: NDArray[Any],
    values: NDArray[Any],
    folds: Sequence[Fold],
    candidates: Sequence[Candidate],
    setting: Setting,
    *,
    n_jobs: int = -1,
    progress: Progress | None = None,
    note: str = "",
) -> Found:
    """Fit every candidate on every fold, and take the one that does best on what was held out.

    The best has the largest score, and of equal ones the least log-loss after calibration, and of those the first.
    Embeddings are centred and scaled by all rows that any fold learns from; no label takes part in that.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float
        As a backbone gave them.
    values : ndarray
        As in `Target`.
    folds : sequence of Fold
        Without one nothing is fitted, and the first candidate is taken.
    candidates : sequence of Candidate
        Those of one head stand together.
    setting : Setting
    n_jobs : int
        Threads, as joblib counts them; -1 for every core. What is found does not depend on it.
    progress : callable, optional
        Called with the fits that are done, all fits, and what was fitted; an error that it raises ends the search.
    note : str
        For each row of the table.
    """
    parts = _fit_all(X, values, folds, candidates, setting, n_jobs, progress)
    rows = np.concatenate([fold.test for fold in folds]) if folds else np.zeros(0, np.int64)
    empty = np.zeros((0, setting.n_outputs))
    scores = [np.concatenate([empty, *(part.scores for part in own)]) for own in parts]
    tried = []
    for candidate, own, found in zip(candidates, parts, scores, strict=True):
        score, loss = worth(found, values[rows], setting.kind)
        seconds = round(sum(part.seconds for part in own), 3)
        metric, n_rows = METRICS[setting.kind], len(values)
        tried.append(Trial(candidate.head, candidate.params, metric, score, loss, seconds, len(folds), n_rows, note))
    best = max(range(len(tried)), key=lambda i: (tried[i].score or 0.0, -(tried[i].log_loss or 0.0)))
    return Found(tuple(tried), best, rows, scores[best])


def worth(scores: NDArray[np.float64], values: NDArray[Any], kind: str) -> tuple[float | None, float | None]:
    """Return the score of held-out scores, and their log-loss after calibration; see `Trial`."""
    if not len(scores):
        return None, None
    if kind == REGRESSION:
        return _r2(scores, values), None
    calibrated = calibrate(scores, values, kind, check_calibration("auto", kind))(scores)
    loss = log_loss(calibrated, values, kind)
    if kind == MULTI:
        return float(f1_score(values, calibrated > 0, average="macro", zero_division=0)), loss
    return float((scores.argmax(axis=1) == values).mean()), loss


@contextmanager
def quietly() -> Iterator[None]:
    """Let an estimator stop at its last iteration, or classes have one example, without a warning; one BLAS thread.

    The threads of the search share the cores already; and where others want the cores too, BLAS threads that wait for
    each other made one logistic regression sixty times slower.
    """
    with one_shot_is_enough(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Only one sample available")
        yield


def _fit_all(
    X: NDArray[Any],
    values: NDArray[Any],
    folds: Sequence[Fold],
    candidates: Sequence[Candidate],
    setting: Setting,
    n_jobs: int,
    progress: Progress | None,
) -> list[tuple[Part, ...]]:
    """Return for each candidate its parts, one a fold."""
    if not folds:
        return [()] * len(candidates)
    paths = [tuple(own) for _, own in groupby(candidates, lambda one: (one.head, one.transformation))]
    jobs = [(path, fold) for path in paths for fold in folds]
    done, total, found = 0, len(candidates) * len(folds), []
    with quietly():
        prepared = _prepared(X, folds, {path[0].transformation for path in paths})
        kernels = _kernels(prepared, candidates)
        with _pool(n_jobs) as pool:
            futures = [
                pool.submit(
                    _fit_path, path, fold, prepared[path[0].transformation], kernels.get(path[0].head), values, setting
                )
                for path, fold in jobs
            ]
            for (path, _), future in zip(jobs, futures, strict=True):
                found.append(future.result())
                done += len(path)
                if progress:
                    progress(done, total, f"{path[0].head} on held-out folds")
    by_path = [found[number * len(folds) : (number + 1) * len(folds)] for number in range(len(paths))]
    return [own for parts in by_path for own in zip(*parts, strict=True)]


def _prepared(X: NDArray[Any], folds: Sequence[Fold], transformations: set[str]) -> dict[str, NDArray[Any]]:
    learnt = np.unique(np.concatenate([fold.train for fold in folds]))
    return {name: Preparation.fit(X[learnt], name)(X) for name in transformations}


def _kernels(prepared: Mapping[str, NDArray[Any]], candidates: Sequence[Candidate]) -> dict[str, NDArray[np.float64]]:
    """Return the kernel matrix that all folds and C of an RBF machine share, by its name; none, where it is large."""
    machines = [one for one in candidates if one.head == "rbf-svm"]
    if not machines or len(prepared[machines[0].transformation]) > MAX_KERNEL_ROWS:
        return {}
    return {"rbf-svm": rbf_kernel(prepared[machines[0].transformation].astype(np.float64), gamma=GAMMA)}


@contextmanager
def _pool(n_jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads; when the search ends by an error, what has not begun is not begun."""
    pool = ThreadPoolExecutor(effective_n_jobs(n_jobs))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _fit_path(
    path: Sequence[Candidate],
    fold: Fold,
    X: NDArray[Any],
    kernel: NDArray[Any] | None,
    values: NDArray[Any],
    setting: Setting,
) -> list[Part]:
    """Fit the candidates of one head on one fold; what they share is made once."""
    learnt, own = _present(values[fold.train], setting)
    if len(learnt) == 1 and setting.kind == SINGLE:  # all that one group leaves of two classes
        return [Part(_spread(np.zeros((len(fold.test), 1)), learnt, setting), 0.0)] * len(path)
    inner = replace(setting, n_outputs=len(learnt), class_weight=weights_of(setting.class_weight, learnt))
    train, test = X[fold.train], X[fold.test]
    shared = {"kernel": kernel[np.ix_(fold.train, fold.train)]} if kernel is not None else {}
    asis, parts, model = Preparation("UN", np.zeros(X.shape[1])), [], None
    for candidate in path:
        begun = time.perf_counter()
        model = _next(model, candidate, inner, len(train)).fit(train, own, **shared)
        scores = as_scorer(model, asis, len(learnt)).scores(test)
        parts.append(Part(_spread(scores, learnt, setting), time.perf_counter() - begun))
    return parts


def _next(model: Any, candidate: Candidate, setting: Setting, n_rows: int) -> Any:
    """Return what is fitted next: where it can be, the model before it, which begins where that one ended."""
    if isinstance(model, LogisticRegression):
        return model.set_params(**candidate.params)
    estimator = unfitted(candidate, setting, n_rows=n_rows)
    return estimator.set_params(warm_start=True) if isinstance(estimator, LogisticRegression) else estimator


def _present(values: NDArray[Any], setting: Setting) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the classes that are there, and values as positions among them."""
    if setting.kind != SINGLE:
        return np.arange(setting.n_outputs), values
    learnt, own = np.unique(values, return_inverse=True)
    return learnt, own


def _spread(scores: NDArray[np.float64], learnt: NDArray[np.int64], setting: Setting) -> NDArray[np.float64]:
    """Return scores of all classes, (n, n_outputs): -inf for those that were not learnt."""
    whole = np.full((len(scores), setting.n_outputs), -np.inf)
    whole[:, learnt] = scores
    return whole


def _r2(scores: NDArray[np.float64], values: NDArray[Any]) -> float:
    """Return the mean coefficient of determination over outputs; a constant output is 1 when met, else 0."""
    lost = ((values - scores) ** 2).sum(axis=0)
    whole = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.where(whole > 0, 1 - lost / np.where(whole > 0, whole, 1), lost == 0).mean())
