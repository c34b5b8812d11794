"""Embeddings X (n, dim) -> groups of near-duplicates, and rows of one set that another one has too, nearly."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption

LEAST_COSINE = 0.95
DIRECTIONS = 64  # of the bound that is searched in place of whole embeddings
MAX_FITTED_ROWS = 20_000  # that choose the directions
SEGMENT_ROWS = 16_384  # searched at once: with BLOCK_ROWS what bounds the memory, however many are alike
BLOCK_ROWS = 1024
PAIR_ROWS = 65_536  # compared at once
MARGIN = 1e-3  # of the bound, for rounding in float32

Progress = Callable[[int, int], object]  # rows done, rows in all
Rows = NDArray[np.int64]


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


def duplicate_groups(
    X: ArrayLike, *, least_cosine: float = LEAST_COSINE, progress: Progress | None = None
) -> DuplicateGroups:
    """Find near-duplicates: going through the rows, each that is near none before it takes all later ones near it.

    So a group is around its first row, and nothing chains: who keeps the first rows has no two that are near. Exact:
    the cosine of two rows is at most p·q + r·s, with p and q their shares in a few directions and r and s the lengths
    of what is left (Cauchy-Schwarz); a range search of FAISS by that bound leaves few pairs to compare whole.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
        May be a map of a file; in memory are 65 numbers a row.
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
    _check_cosine(least_cosine)
    first, cosines = np.full(len(embeddings), -1, np.int64), np.ones(len(embeddings))
    bound = _Bound(embeddings, embeddings)
    for start in range(0, len(embeddings), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(embeddings))
        own = start + np.flatnonzero(first[start:stop] < 0)
        _within(unit_length(embeddings[own]), own, least_cosine, first, cosines)
        leaders = own[first[own] < 0]
        for rows, others in bound.pairs(embeddings, leaders, least_cosine, since=stop):
            free = first[others] < 0
            alike = _cosines(embeddings, rows[free], embeddings, others[free])
            _take(rows[free], others[free], alike, least_cosine, first, cosines)
        (progress or _silently)(stop, len(embeddings))
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
    _check_cosine(least_cosine)
    if one.shape[1:] != other.shape[1:]:
        raise EmbeddingMismatch(
            f"embeddings have {one.shape[1]} numbers and {other.shape[1]}; dump both by one backbone"
        )
    nearest, cosines = np.full(len(one), -1, np.int64), np.zeros(len(one))
    bound = _Bound(other, other)
    for start in range(0, len(one), BLOCK_ROWS):
        own = np.arange(start, min(start + BLOCK_ROWS, len(one)))
        for rows, others in bound.pairs(one, own, least_cosine):
            alike = _cosines(one, rows, other, others)
            order = np.lexsort((-others, alike))  # of a row the most alike last, and of those the first row
            better = order[alike[order] >= np.maximum(cosines[rows[order]] + 1e-12, least_cosine - 1e-6)]
            nearest[rows[better]], cosines[rows[better]] = others[better], alike[better]
        (progress or _silently)(len(own) + start, len(one))
    found = np.flatnonzero(nearest >= 0)
    found = found[np.argsort(-cosines[found], kind="stable")]
    return Leaks(found, nearest[found], np.minimum(cosines[found], 1))


class _Bound:
    """Rows, searched by a bound of their cosine with others."""

    def __init__(self, X: NDArray[np.floating], fitted: NDArray[np.floating]) -> None:
        step = max(1, len(fitted) // MAX_FITTED_ROWS)
        self._directions = _main_directions(unit_length(np.asarray(fitted[::step], np.float32)))
        self._segments = []
        for start in range(0, len(X), SEGMENT_ROWS):
            index = faiss.IndexFlatIP(self._directions.shape[1] + 1)
            for block in range(start, min(start + SEGMENT_ROWS, len(X)), BLOCK_ROWS):
                index.add(self._of(X[block : min(block + BLOCK_ROWS, start + SEGMENT_ROWS)]))
            self._segments.append(index)

    def pairs(
        self, X: NDArray[np.floating], rows: Rows, least: float, *, since: int = 0
    ) -> Iterator[tuple[Rows, Rows]]:
        """Give, segment by segment, rows of X and the rows from `since` on whose cosine may be the least or more."""
        queries = self._of(X[rows]) if len(rows) else None
        for number, index in enumerate(self._segments):
            start = number * SEGMENT_ROWS
            if queries is None or start + index.ntotal <= since:
                continue
            limits, _, found = index.range_search(queries, least - MARGIN)
            others, ends = found + start, np.asarray(limits, np.int64)
            kept = others >= since
            yield np.repeat(rows, ends[1:] - ends[:-1])[kept], others[kept]

    def _of(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        check_finite(X)
        unit = unit_length(np.asarray(X, np.float32))
        shares = unit @ self._directions
        rest = np.sqrt(np.maximum(1 - np.square(shares, dtype=np.float64).sum(axis=1), 0))
        return np.concatenate([shares, rest[:, np.newaxis].astype(np.float32)], axis=1)


def _main_directions(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return orthonormal directions (dim, n_directions) that hold most of what rows (n, dim) are."""
    vectors = np.linalg.eigh((unit.T @ unit).astype(np.float64))[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :DIRECTIONS], np.float32)


def _within(unit: NDArray[np.floating], rows: Rows, least: float, first: Rows, cosines: NDArray[np.float64]) -> None:
    """Group rows among themselves, in their order."""
    alike = (unit @ unit.T).astype(np.float64)
    near = np.triu(alike >= least - 1e-6, 1)
    for place in np.flatnonzero(near.any(axis=1)).tolist():
        if first[rows[place]] < 0:
            taken = np.flatnonzero(near[place] & (first[rows] < 0))
            first[rows[taken]], cosines[rows[taken]] = rows[place], alike[place, taken]


def _take(
    rows: Rows, others: Rows, alike: NDArray[np.float64], least: float, first: Rows, cosines: NDArray[np.float64]
) -> None:
    """Give each row that is near several the first of these."""
    near = alike >= least - 1e-6
    rows, others, alike = rows[near], others[near], alike[near]
    order = np.lexsort((rows, others))
    taken, places = np.unique(others[order], return_index=True)
    first[taken], cosines[taken] = rows[order][places], alike[order][places]


def _cosines(X: NDArray[np.floating], rows: Rows, X_other: NDArray[np.floating], others: Rows) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, (n_pairs,)."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), PAIR_ROWS):
        pairs = slice(start, start + PAIR_ROWS)
        one, other = unit_length(X[rows[pairs]]), unit_length(X_other[others[pairs]])
        found[pairs] = np.einsum("ij,ij->i", one, other, dtype=np.float64)
    return found


def _check_cosine(least: float) -> None:
    if not 0 < least <= 1:
        raise InvalidOption(f"the least cosine is {least}; take more than 0, and 1 at most")


def _silently(*_: object) -> None:
    pass
