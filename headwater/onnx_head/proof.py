"""A head, embeddings and what a graph answered of them -> nothing, or an error that says how far the two stand."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.head import MULTI, REGRESSION, SINGLE, Head
from classifiers.scorer import Fitted
from headwater.errors import HeadNotExported
from headwater.onnx_head.graph import INPUT

TOLERANCE = 1e-5  # absolute; relative where a value is larger than 1
TIE = 1e-6  # closer than this, rounding decides
BATCHES = (1, 7, 32)
HUGE_SQUARABLE = 1e15  # scikit-learn's neighbours have no answer where squares overflow float32
_ERRORS_ONLY = 3

Answers = Mapping[str, NDArray[Any]]


def prove(session: Any, head: Head) -> float:
    """Compare a head's graph with the head, on rows of all kinds, in batches of each size.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of a graph whose input is `embedding`.
    head : Head

    Returns
    -------
    float
        The largest difference, absolute, or relative where a value is larger than 1.

    Raises
    ------
    HeadNotExported
        They differ by more than 1e-5.
    """
    rows = proof_rows(head)
    with np.errstate(all="ignore"):  # what overflows in the head does so in the graph
        scores = head.scores(rows)
    found = [differences(_in_batches(session, rows, size), head, rows, scores) for size in BATCHES]
    return check(np.concatenate(found))


def differences(found: Answers, head: Head, X: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each row of what a graph answered of embeddings X (n, dim) is from the head, (n,).

    A head computes in float32 or float64, as its embeddings are. Where these two disagree, as for a row almost at the
    center, rounding decides, and a graph is right that agrees with either. NaN stands where they differ because
    rounding decides which neighbours vote, or which of two classes wins a vote: there answers jump.

    Parameters
    ----------
    found : mapping of str to ndarray
        The graph's outputs by name.
    head : Head
    X : ndarray of shape (n, dim), float32
    scores : ndarray of shape (n, n_classes), float64
        What the head gives X.
    """
    with np.errstate(all="ignore"):
        apart = _apart_by(found, head, scores)
        far = np.flatnonzero(apart > TOLERANCE)
        if len(far):
            again = {name: array[far] for name, array in found.items()}
            exact = _apart_by(again, head, head.scores(X[far].astype(np.float64)))
            apart[far] = np.minimum(apart[far], exact)
            apart[far[(apart[far] > TOLERANCE) & _at_a_jump(head, X[far])]] = np.nan
    return apart


def check(apart: NDArray[np.float64]) -> float:
    """Return the largest of what `differences` returned.

    Raises
    ------
    HeadNotExported
        It is larger than 1e-5, or most rows could not be compared.
    """
    wrong, undecided = int((apart > TOLERANCE).sum()), int(np.isnan(apart).sum())
    if wrong or 2 * undecided > len(apart):
        largest = np.nanmax(apart) if wrong else np.nan
        raise HeadNotExported(
            f"the graph differs from the head on {wrong} of {len(apart)} rows, by at most {largest:.1e}, the limit is "
            f"{TOLERANCE:.0e}, and on {undecided} where rounding decides; nothing was written; train another head"
        )
    return float(np.nanmax(apart))


def open_session(path: Path) -> Any:
    """Open a graph in plain onnxruntime on the CPU; raises HeadNotExported for one that it does not take."""
    from extractor.runtime import default

    default("fp32")  # says how to install onnxruntime, where it is not
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public root
        raise HeadNotExported(f"onnxruntime does not take the graph: {error}; nothing was written") from None


def answers(session: Any, inputs: Mapping[str, NDArray[Any]]) -> Answers:
    """Run a graph on named inputs and return its outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def proof_rows(head: Head) -> NDArray[np.float32]:
    """Return embeddings (n, dim), float32, to compare on: of all lengths, like real ones, and awkward ones."""
    random = np.random.default_rng(0)
    dim, preparation = head.dim, head.scorer.preparation
    center = preparation.center
    near = center + random.normal(size=(32, dim)) * preparation.scale / np.sqrt(dim)
    noise = random.normal(size=(32, dim))
    lengths = np.exp(random.normal(scale=2, size=(32, 1)))
    axis = np.eye(1, dim)
    by_distance = isinstance(head.scorer, Fitted) and preparation.transformation == "UN"
    huge = HUGE_SQUARABLE if by_distance else 0.5 * float(np.finfo(np.float32).max)
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    awkward = [np.zeros((1, dim)), center[np.newaxis], 1e15 * center[np.newaxis], axis]
    awkward += [size * axis for size in (tiny, 1e-30, huge)] + [size * np.sign(noise[:2]) for size in (tiny, huge)]
    rows = np.concatenate([near * lengths, noise * lengths, np.maximum(noise, 0), *awkward, *_kept(head, random)])
    bounded: NDArray[np.float32] = np.clip(rows, -huge, huge).astype(np.float32)
    return bounded


def _kept(head: Head, random: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return some of the rows that a scorer keeps of its training, as embeddings, and rows between them."""
    estimator = getattr(head.scorer, "estimator", None)
    kept = [
        np.asarray(getattr(one, name), np.float64)
        for one in (head.scorer, estimator)
        for name in ("support", "support_vectors_", "_fit_X")
        if len(getattr(one, name, ()))
    ]
    if not kept:
        return []
    preparation = head.scorer.preparation
    some = kept[0][random.integers(0, len(kept[0]), 32)] * preparation.scale + preparation.center
    return [some, (some[:16] + some[16:]) / 2]


def _in_batches(session: Any, rows: NDArray[np.float32], size: int) -> Answers:
    """Return what a graph answers of all rows, asked `size` at a time."""
    parts = [answers(session, {INPUT: rows[start : start + size]}) for start in range(0, len(rows), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _apart_by(found: Answers, head: Head, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each row's answers stand from those that the head makes of its scores, (n,)."""
    if head.kind == REGRESSION:
        return _apart(found["values"], scores)
    probabilities = head.probabilities(scores)
    apart = [_apart(found["probabilities"], probabilities)]
    if head.kind == SINGLE:
        calibrated = head.calibration(scores)
        apart.append(_wrong(found["label"], calibrated.argmax(axis=1), _behind(probabilities, found["label"])))
    elif head.kind == MULTI:
        wrong = _wrong(found["labels"], probabilities > 0.5, np.abs(probabilities - 0.5))
        apart.append(wrong.max(axis=1, initial=0))
    if head.rejection:
        known, threshold = head.knowing(scores), head.rejection.threshold
        apart += [
            _apart(found["known"][:, np.newaxis], known[:, np.newaxis]),
            _wrong(found["unknown"], known < threshold, np.abs(known - threshold) / max(1, abs(threshold))),
        ]
    result: NDArray[np.float64] = np.max(apart, axis=0)
    return result


def _apart(found: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest difference of each row (n,), relative to what is larger than 1; NaN is NaN's equal."""
    narrow = expected.astype(np.float32)
    same = (found == narrow) | (np.isnan(found) & np.isnan(narrow))
    apart = np.abs(found.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))
    worst: NDArray[np.float64] = np.where(same, 0, np.nan_to_num(apart, nan=np.inf)).max(axis=1)
    return worst


def _wrong(found: NDArray[Any], expected: NDArray[Any], margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 where two choices differ that were not close, and 0 elsewhere."""
    wrong: NDArray[np.float64] = ((found != expected) & ~(margin <= TOLERANCE)).astype(np.float64)
    return wrong


def _behind(probabilities: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much less likely than the likeliest a label is, (n,)."""
    own = np.take_along_axis(probabilities, label[:, np.newaxis], axis=1)[:, 0]
    behind: NDArray[np.float64] = probabilities.max(axis=1) - own
    return behind


def _at_a_jump(head: Head, X: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell where answers jump within rounding: neighbours equally far, one-vs-one margins of 0; (n,)."""
    nowhere = np.zeros(len(X), bool)
    if not isinstance(head.scorer, Fitted):
        return nowhere
    estimator, prepared = head.scorer.estimator, head.scorer.preparation(X)
    if hasattr(estimator, "kneighbors"):
        return _neighbours_tie(estimator, prepared)
    if hasattr(estimator, "n_support_") and len(getattr(estimator, "classes_", ())) > 2:
        pairs = copy.copy(estimator).set_params(decision_function_shape="ovo").decision_function(prepared)
        jumps: NDArray[np.bool_] = (np.abs(pairs) <= TIE).any(axis=1)
        return jumps
    return nowhere


def _neighbours_tie(estimator: Any, prepared: NDArray[Any]) -> NDArray[np.bool_]:
    k = estimator.n_neighbors
    distances, _ = estimator.kneighbors(prepared, n_neighbors=min(k + 1, estimator.n_samples_fit_))
    jumps = np.zeros(len(prepared), bool)
    if distances.shape[1] > k:
        jumps |= ~(distances[:, k] - distances[:, k - 1] > TIE * (1 + distances[:, k]))
    if estimator.weights == "distance" and k > 1:  # of two that are almost at 0, rounding decides which is nearer
        jumps |= distances[:, 1] <= np.sqrt(TIE)
    return jumps
