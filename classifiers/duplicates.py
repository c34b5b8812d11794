"""Embeddings X (n, dim) -> near-duplicates: in pairs, in groups, and rows of one set that another one has too."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption
from classifiers.similarity_join import BLOCK_ROWS, ROUNDING, Cosines, Pairs, Rows, SimilarityJoin, threads

LEAST_COSINE = 0.95
NEIGHBOURS = 10  # of a row: what bounds pairs where many rows are alike
FEW_ROWS = 256  # that are grouped by all their products
TIED = 1e-12  # cosines so little apart are of rows that are alike

Progress = Callable[[int, int], object]  # rows done, rows in all


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of rows that are nearly alike, the most alike first.

    Parameters
    ----------
    rows, others : ndarray of shape (n_pairs,), int64
        Positions in X, and in the other set, or in X again, where a row is smaller than its other.
    cosines : ndarray of shape (n_pairs,), float64
    """

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    cosines: Cosines


@dataclass(frozen=True, eq=False)
class DuplicateGroups:
    """Rows that are nearly a former one.

    Parameters
    ----------
    rows : ndarray of shape (n_copies,), int64
        Ascending.
    firsts : ndarray of shape (n_copies,), int64
        The row that each is nearly a copy of, which is itself nearly a copy of none before it.
    cosines : ndarray of shape (n_copies,), float64
    """

    rows: Rows
    firsts: Rows
    cosines: NDArray[np.float64]

    def groups(self) -> list[Rows]:
        """Return the rows of each group, its first one first, the largest group first."""
        order = np.argsort(self.firsts, kind="stable")
        firsts, starts = np.unique(self.firsts[order], return_index=True)
        parts = np.split(self.rows[order], starts[1:]) if len(firsts) else []
        found = [np.concatenate([[first], part]) for first, part in zip(firsts.tolist(), parts, strict=True)]
        return sorted(found, key=len, reverse=True)


@dataclass(frozen=True, eq=False)
class Leaks:
    """Rows of one set that another one has too, nearly, the most alike first.

    Parameters
    ----------
    rows, others : ndarray of shape (n_leaks,), int64
        A row of the one, and the row of the other that is nearest to it.
    cosines : ndarray of shape (n_leaks,), float64
    """

    rows: Rows
    others: Rows
    cosines: NDArray[np.float64]


def near_duplicates(
    X: ArrayLike, X_other: ArrayLike | None = None, *, least_cosine: float = LEAST_COSINE, n: int | None = None
) -> Duplicates:
    """Find pairs of embeddings that point nearly the same way; exact, see `SimilarityJoin`.

    Of each row come the ten nearest at most, within X of those after it, so that pairs are bounded where very many rows
    are alike.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
    X_other : array-like of shape (m, dim), float, optional
        By default pairs within X.
    least_cosine : float
        In (0, 1].
    n : int, optional
        Pairs that are returned at most.

    Raises
    ------
    EmbeddingMismatch
        Embeddings of different lengths.
    InvalidOption
        A cosine that is not in (0, 1].
    NotFinite
        NaN or infinity.
    """
    one = np.asanyarray(X)
    other, chosen = (one, _nearest_after) if X_other is None else (np.asanyarray(X_other), _nearest_few)
    _check(one, other, least_cosine)
    found: list[Pairs] = []
    with threads() as pool:
        join, among = SimilarityJoin.of(other, least_cosine, pool), np.ones(len(other), np.bool_)
        for start in range(0, len(one), BLOCK_ROWS):
            if X_other is None:
                among[:start] = False
            own = np.arange(start, min(start + BLOCK_ROWS, len(one)))
            pairs = _joined(join.pairs(one, own, among, chosen))
            few = _nearest_few(*pairs)
            found.append((pairs[0][few], pairs[1][few], pairs[2][few]))
    rows, others, cosines = _joined(found)
    order = np.lexsort((others, rows, -cosines))[:n]
    return Duplicates(rows[order], others[order], np.minimum(cosines[order], 1))


def duplicate_groups(
    X: ArrayLike, *, least_cosine: float = LEAST_COSINE, progress: Progress | None = None
) -> DuplicateGroups:
    """Find near-duplicates: going through the rows, each that is near none before it takes all later ones near it.

    So a group is around its first row, and nothing chains: who keeps the first rows has no two that are near. Exact,
    as if all pairs were compared; see `SimilarityJoin` for how few are.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
        May be a map of a file; in memory are some 70 numbers a row, and more where most are alike.
    least_cosine : float
        In (0, 1].
    progress : callable, optional
        Called with rows done, and rows in all.

    Raises
    ------
    InvalidOption
        A cosine that is not in (0, 1].
    NotFinite
        NaN or infinity in X.
    """
    embeddings = np.asanyarray(X)
    _check(embeddings, embeddings, least_cosine)
    first, cosines = np.full(len(embeddings), -1, np.int64), np.ones(len(embeddings))
    with threads() as pool:
        join = SimilarityJoin.of(embeddings, least_cosine, pool)
        for start in range(0, len(embeddings), BLOCK_ROWS):
            block = np.arange(start, min(start + BLOCK_ROWS, len(embeddings)))
            _group(join, block, first, cosines)
            later = first < 0
            later[: block[-1] + 1] = False
            for pairs in join.pairs(embeddings, _free(block, first), later, _first_of_other):
                _take(pairs, first, cosines)
            (progress or _silently)(start + len(block), len(embeddings))
    found = np.flatnonzero(first >= 0)
    return DuplicateGroups(found, first[found], np.minimum(cosines[found], 1))


def leaks(
    X: ArrayLike, X_other: ArrayLike, *, least_cosine: float = LEAST_COSINE, progress: Progress | None = None
) -> Leaks:
    """Find the rows of X that are nearly a row of another set, each with its nearest; see `duplicate_groups`.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
    X_other : array-like of shape (m, dim), float
    least_cosine : float
    progress : callable, optional

    Raises
    ------
    EmbeddingMismatch
        Embeddings of different lengths.
    InvalidOption
        A cosine that is not in (0, 1].
    NotFinite
        NaN or infinity.
    """
    one, other = np.asanyarray(X), np.asanyarray(X_other)
    _check(one, other, least_cosine)
    nearest, cosines = np.full(len(one), -1, np.int64), np.zeros(len(one))
    with threads() as pool:
        join, every = SimilarityJoin.of(other, least_cosine, pool), np.ones(len(other), np.bool_)
        for start in range(0, len(one), BLOCK_ROWS):
            own = np.arange(start, min(start + BLOCK_ROWS, len(one)))
            for pairs in join.pairs(one, own, every, _nearest_of_row):
                _improve(pairs, nearest, cosines)
            (progress or _silently)(start + len(own), len(one))
    found = np.flatnonzero(nearest >= 0)
    found = found[np.argsort(-cosines[found], kind="stable")]
    return Leaks(found, nearest[found], np.minimum(cosines[found], 1))


def _group(join: SimilarityJoin, rows: Rows, first: Rows, cosines: Cosines) -> None:
    """Group rows, ascending, among themselves: a few by all their products, then what these leave of the others."""
    for start in range(0, len(rows), FEW_ROWS):
        own, rest = _free(rows[start : start + FEW_ROWS], first), _free(rows[start + FEW_ROWS :], first)
        _group_few(join.X, own, join.least, first, cosines)
        leaders = _free(own, first)
        for pairs in join.compared(join.X, leaders, join.sketches[leaders], rest, _first_of_other):
            _take(pairs, first, cosines)


def _group_few(X: NDArray[Any], rows: Rows, least: float, first: Rows, cosines: Cosines) -> None:
    unit = unit_length(np.asarray(X[rows], np.float64))
    alike = unit @ unit.T
    near = np.triu(alike >= least - ROUNDING, 1)
    for place in np.flatnonzero(near.any(axis=1)).tolist():
        if first[rows[place]] < 0:
            taken = np.flatnonzero(near[place] & (first[rows] < 0))
            first[rows[taken]], cosines[rows[taken]] = rows[place], alike[place, taken]


def _free(rows: Rows, first: Rows) -> Rows:
    return rows[first[rows] < 0]


def _take(pairs: Pairs, first: Rows, cosines: Cosines) -> None:
    rows, others, alike = pairs
    earlier = (first[others] < 0) | (rows < first[others])
    first[others[earlier]], cosines[others[earlier]] = rows[earlier], alike[earlier]


def _first_of_other(rows: Rows, others: Rows, _: Cosines) -> Rows:
    """Return the place of the first pair of each of the others."""
    places: Rows = np.unique(others, return_index=True)[1]
    return places


def _improve(pairs: Pairs, nearest: Rows, cosines: Cosines) -> None:
    rows, others, alike = pairs
    tied = (np.abs(alike - cosines[rows]) <= TIED) & (others < nearest[rows])
    better = tied | (alike > cosines[rows] + TIED)
    nearest[rows[better]], cosines[rows[better]] = others[better], alike[better]


def _nearest_of_row(rows: Rows, others: Rows, cosines: Cosines) -> Rows:
    """Return the place of the most alike pair of each row, of those the first."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    if not len(starts):
        return starts
    most = np.repeat(np.maximum.reduceat(cosines, starts), np.diff(starts, append=len(rows)))
    best = np.flatnonzero(cosines >= most - TIED)
    return best[np.unique(rows[best], return_index=True)[1]]


def _nearest_few(rows: Rows, others: Rows, cosines: Cosines) -> Rows:
    """Return the places of the most alike pairs of each row."""
    order = np.lexsort((others, -cosines, rows))
    rank = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    return np.asarray(order[rank < NEIGHBOURS], np.int64)


def _nearest_after(rows: Rows, others: Rows, cosines: Cosines) -> Rows:
    """Return the same of the pairs whose other comes after the row."""
    after = np.flatnonzero(others > rows)
    return after[_nearest_few(rows[after], others[after], cosines[after])]


def _joined(parts: Iterable[Pairs]) -> Pairs:
    none: Pairs = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    rows, others, cosines = (np.concatenate(part) for part in zip(none, *parts, strict=True))
    return rows, others, cosines


def _check(X: NDArray[Any], X_other: NDArray[Any], least: float) -> None:
    if not 0 < least <= 1:
        raise InvalidOption(f"the least cosine is {least}; take more than 0, and 1 at most")
    if X.shape[1:] != X_other.shape[1:]:
        raise EmbeddingMismatch(
            f"embeddings have {X.shape[1]} numbers and {X_other.shape[1]}; dump both by one backbone"
        )


def _silently(*_: object) -> None:
    pass
