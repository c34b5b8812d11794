"""Embeddings that nobody has labelled (n, dim), and what is thought of them -> which of them to label next.

Digits and parts of CLINC150 shaped the rule; clothing was looked at, too, on eight draws. Banking77 chose nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, first_alike, unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption, NotFinite

MOST_ROWS = 4096  # that are compared with each other at once: 64 MiB of cosines
MOST_AT_ONCE = 1024  # suggestions from one such sample

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Suggested:
    """Which items of a pool to label next, in this order.

    Parameters
    ----------
    positions : ndarray of shape (n,), int64
        In the pool; each once.
    uncertainty : ndarray of shape (n,), float64
        Of each: 1 less the margin between its two likeliest classes, 0 (sure) to 1; 1 where fewer than two are known.
    reason : str
        By what they were chosen, in words.
    """

    positions: NDArray[np.int64]
    uncertainty: Floats
    reason: str


def suggest(
    X_pool: ArrayLike,
    n: int,
    *,
    probabilities: ArrayLike | None = None,
    X_known: ArrayLike | None = None,
    random_state: int | None = 0,
) -> Suggested:
    """Choose items that are uncertain, unlike each other and what is labelled, and like many others that are uncertain.

    One after the other, each is the item c with the largest gain u(c) Σ u(x) max(0, cos(x, c) - covered(x)), over the
    items x of the pool, where u is the uncertainty, and covered(x) the cosine of x to the nearest item that is labelled
    or chosen. Without probabilities all are equally uncertain, and this is plain coverage. The sum is facility location
    weighted by uncertainty (Wei, Iyer and Bilmes, "Submodularity in data subset selection and active learning", ICML
    2015); uncertainty is by margin (Scheffer, Decomain and Wrobel, 2001); the greedy choice is within 1 - 1/e of the
    best (Nemhauser, Wolsey and Fisher, 1978), and is found lazily (Minoux, 1978).

    With few labels it covers what is typical, as TypiClust does (Hacohen, Dekel and Weinshall, ICML 2022), and as
    classes become known, their items lose their weight.

    Of a pool of more than 4,096 different items, as many are drawn at random, and 1,024 are chosen from a draw at most.
    An item that is just like a labelled or a chosen one comes only after all others.

    Parameters
    ----------
    X_pool : array-like of shape (n_pool, dim), float
        Brought to unit length; zeros are like nothing.
    n : int
        How many, at least 1; the whole pool, where it has fewer.
    probabilities : array-like of shape (n_pool, n_classes), float, optional
        Of each item of the pool, by what was learnt so far; not needed while fewer than two classes are known.
    X_known : array-like of shape (n_known, dim), float, optional
        What is labelled already.
    random_state : int or None

    Raises
    ------
    EmbeddingMismatch
        Labelled embeddings of another length than the pool's.
    InvalidOption
        Fewer than 1 item wanted, or probabilities that do not fit the pool.
    NotFinite
        NaN or infinity in X, or among the probabilities.
    """
    pool = np.asarray(X_pool)
    known = np.zeros((0, pool.shape[1])) if X_known is None else np.asarray(X_known)
    _check(pool, known, n)
    uncertainty = _uncertainty(probabilities, len(pool))
    ready, covering = _unit(pool), _unit(known)
    random = np.random.default_rng(random_state)
    copies = first_alike(np.concatenate([covering, ready])) != np.arange(len(known) + len(pool))
    copy = copies[len(known) :]
    left, found = np.flatnonzero(~copy), np.zeros(0, np.int64)
    reason = _reason(probabilities, len(left))
    while len(found) < n and len(left):
        sample = left if len(left) <= MOST_ROWS else np.sort(random.choice(left, MOST_ROWS, replace=False))
        some = _greedy(ready[sample], uncertainty[sample], covering, min(n - len(found), MOST_AT_ONCE))
        found = np.concatenate([found, sample[some]])
        covering = np.concatenate([covering, ready[sample[some]]])
        left = np.setdiff1d(left, found, assume_unique=True)
    again = np.flatnonzero(copy)
    again = again[np.argsort(-uncertainty[again], kind="stable")]
    chosen = np.concatenate([found, again])[:n]
    return Suggested(chosen, uncertainty[chosen], reason)


def _greedy(X: NDArray[np.float32], u: Floats, covering: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Return positions of n of the unit-length rows of X (m, dim), the one with the largest gain first."""
    cosines = X @ X.T
    covered = _covered(X, covering)
    weights = u.astype(np.float32)
    gains = np.array([weights @ np.maximum(row - covered, 0) for row in cosines]) * u
    chosen: list[int] = []
    seen = np.zeros(len(X), np.int64)  # how many were chosen when a gain was reckoned: it can only have fallen since
    while len(chosen) < min(n, len(X)):
        best = int(gains.argmax())
        if seen[best] < len(chosen):
            gains[best] = u[best] * (weights @ np.maximum(cosines[best] - covered, 0))
            seen[best] = len(chosen)
            continue
        chosen.append(best)
        gains[best] = -np.inf
        np.maximum(covered, cosines[best], out=covered)
    return np.array(chosen, np.int64)


def _covered(X: NDArray[np.float32], covering: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest cosine of each row of X (m, dim) to a covering one, at least 0, (m,)."""
    covered = np.zeros(len(X), np.float32)
    for start in range(0, len(covering), MOST_ROWS):
        np.maximum(covered, (X @ covering[start : start + MOST_ROWS].T).max(axis=1), out=covered)
    return covered


def _uncertainty(probabilities: ArrayLike | None, n: int) -> Floats:
    """Return 1 less the margin between the two likeliest classes, (n,); ones where there are not two."""
    if probabilities is None:
        return np.ones(n)
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or len(p) != n:
        raise InvalidOption(f"probabilities are {p.shape}, and the pool has {n} items; give a row for each")
    if not np.isfinite(p).all():
        raise NotFinite("the probabilities hold NaN or infinity, and none may; predict them again")
    if p.shape[1] < 2:
        return np.ones(n)
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    uncertainty: Floats = np.clip(1 - (first - second), 0, 1)
    return uncertainty


def _reason(probabilities: ArrayLike | None, n: int) -> str:
    blind = probabilities is None or np.asarray(probabilities).shape[1] < 2
    what = "coverage of the pool, as fewer than two classes are known" if blind else "coverage of what is uncertain"
    return what if n <= MOST_ROWS else f"{what}; of {n:,} items {MOST_ROWS:,} were drawn at random and compared"


def _check(pool: NDArray[np.generic], known: NDArray[np.generic], n: int) -> None:
    if n < 1:
        raise InvalidOption(f"n is {n}; ask for at least 1 item")
    if known.shape[1] != pool.shape[1]:
        raise EmbeddingMismatch(
            f"labelled embeddings have length {known.shape[1]} and the pool's {pool.shape[1]}; extract both with one "
            "backbone"
        )
    check_finite(pool)
    check_finite(known)


def _unit(X: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return rows of unit length, without negative zeros, so that rows that are alike have the same bytes."""
    unit: NDArray[np.float32] = unit_length(X.astype(np.float32)) + np.float32(0)
    return unit
