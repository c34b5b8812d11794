"""Embeddings X (n, dim), arranged once -> the pairs of rows, of others and X, whose cosine is at least a given one."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import faiss
import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from classifiers.embeddings import check_finite, unit_length

DIRECTIONS = 64  # of a sketch, at most
FEW_DIRECTIONS = 32  # half of the dimensions or these, where that is less: unlike rows differ in any half
SAMPLED_ROWS = 32  # for each cell, that choose the directions and the cells' centres
ITERATIONS = 3  # of k-means: with 8 the cells are hardly better
ARRANGED_ROWS = 1024  # at once, by a thread
BLOCK_ROWS = 8192  # asked for at once: with few, products are small, and their calls cost more than they
TILE = (256, 1024)  # rows compared at once: their products stay in a core's cache
DENSE = 64  # all products are as fast as those of one pair in so many
ROUNDING = 1e-6  # float32 makes a copy's cosine a little less than 1
MARGIN = 1e-4  # of the bounds, for rounding in float32

Rows = NDArray[np.int64]
Cosines = NDArray[np.float64]
Pairs = tuple[Rows, Rows, Cosines]  # rows, others of X, cosines
Chosen = Callable[[Rows, Rows, Cosines], Rows]  # pairs, in ascending order -> the places of those that matter


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread a core, each of which multiplies alone: libraries' own wait for each other, burning the cores."""
    with threadpool_limits(1), ThreadPoolExecutor(effective_n_jobs(-1)) as pool:
        yield pool


@dataclass(frozen=True, eq=False)
class SimilarityJoin:
    """Rows of X, in cells, each with a sketch.

    Two bounds leave few pairs to compare whole, and miss none. Rows of unit length whose cosine is c are r = √(2 - 2c)
    apart. Cells are those of k-means: what y in the cell of b is nearer to b than to a; and |x-a|² - |x-b|² changes by
    at most 2|a-b| a unit of way, so that x reaches that cell only where it is below 2r|a-b|: the filter of ClusterJoin
    (Das Sarma, He and Chaudhuri, VLDB 2014). Then a cosine is at most p·q + s·t, with p and q the shares of two rows in
    a few principal directions and s and t the lengths of what is left (Cauchy-Schwarz).

    Parameters
    ----------
    X : ndarray of shape (n, dim), float
        May be a map of a file.
    least : float
        The least cosine, in (0, 1].
    pool : ThreadPoolExecutor
        See `threads`.
    directions : ndarray of shape (dim, n_directions), float32
        Orthonormal.
    centres : ndarray of shape (n_cells, dim), float32
    reach : ndarray of shape (n_cells, n_cells), float32
        How much higher a row of the one cell may be above the other and have something near it there.
    sketches : ndarray of shape (n, n_directions + 1), float32
        Shares in the directions, and the length of what is left.
    cells : list of ndarray of int64
        The rows of each, ascending.
    """

    X: NDArray[Any]
    least: float
    pool: ThreadPoolExecutor
    directions: NDArray[np.float32]
    centres: NDArray[np.float32]
    reach: NDArray[np.float32]
    sketches: NDArray[np.float32]
    cells: list[Rows]

    @classmethod
    def of(cls, X: NDArray[Any], least: float, pool: ThreadPoolExecutor) -> "SimilarityJoin":
        """Arrange X.

        Raises
        ------
        NotFinite
            NaN or infinity in X.
        """
        n_cells = max(1, math.isqrt(len(X)))
        sample = _unit(X[:: max(1, len(X) // (SAMPLED_ROWS * n_cells))])

        def arrange(start: int) -> None:
            block = slice(start, start + ARRANGED_ROWS)
            unit = _unit(X[block])
            sketches[block], own[block] = _sketches(unit, directions), _heights(unit, centres).argmin(axis=1)

        directions, centres = _main_directions(sample), _centres(sample, n_cells)
        sketches, own = np.empty((len(X), directions.shape[1] + 1), np.float32), np.empty(len(X), np.int64)
        deque(pool.map(arrange, range(0, len(X), ARRANGED_ROWS)), maxlen=0)
        order = np.argsort(own, kind="stable")
        cells = np.split(order, np.searchsorted(own[order], np.arange(1, n_cells)))
        return cls(X, least, pool, directions, centres, _reach(centres, least), sketches, cells)

    def pairs(self, Y: NDArray[Any], rows: Rows, among: NDArray[np.bool_], chosen: Chosen) -> Iterator[Pairs]:
        """Yield, tile by tile, near pairs of rows of Y and those rows of X that count, as far as they are chosen."""

        def of_cell(cell: int) -> list[Pairs]:
            asked, others = np.flatnonzero(reached[:, cell]), self.cells[cell]
            return list(self.compared(Y, rows[asked], sketches[asked], others[among[others]], chosen))

        unit = _unit(Y[rows])
        sketches, reached = _sketches(unit, self.directions), self._reached(unit)
        yield from chain.from_iterable(self.pool.map(of_cell, np.flatnonzero(reached.any(axis=0)).tolist()))

    def compared(
        self, Y: NDArray[Any], rows: Rows, sketches: NDArray[np.float32], others: Rows, chosen: Chosen
    ) -> Iterator[Pairs]:
        """Yield the same of some rows of X, without regard to cells."""
        for columns in _tiles(others, TILE[1]):
            theirs = self.sketches[columns].T
            for start in range(0, len(rows), TILE[0]):
                own = slice(start, start + TILE[0])
                maybe = sketches[own] @ theirs >= self.least - MARGIN
                if maybe.any():
                    yield self._near(Y, rows[own], columns, maybe, chosen)

    def _near(self, Y: NDArray[Any], rows: Rows, others: Rows, maybe: NDArray[np.bool_], chosen: Chosen) -> Pairs:
        """Return what of a tile is near and chosen."""
        used, theirs = np.flatnonzero(maybe.any(axis=1)), np.flatnonzero(maybe.any(axis=0))
        maybe, rows, others = maybe[np.ix_(used, theirs)], rows[used], others[theirs]
        cosines = _cosines(Y[rows], self.X[others], maybe)
        near = np.flatnonzero(cosines >= self.least - ROUNDING)
        i, j = (places[near] for places in np.nonzero(maybe))
        kept = chosen(rows[i], others[j], cosines[near])
        return rows[i[kept]], others[j[kept]], cosines[near[kept]]

    def _reached(self, unit: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which cells may have what is near each row, (n_rows, n_cells)."""
        heights = _heights(unit, self.centres)
        own = heights.argmin(axis=1)
        reached: NDArray[np.bool_] = heights <= np.take_along_axis(heights, own[:, np.newaxis], 1) + self.reach[own]
        return reached


def _main_directions(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return orthonormal directions (dim, n_directions) that hold most of what rows (n, dim) are."""
    kept = min(DIRECTIONS, max(FEW_DIRECTIONS, unit.shape[1] // 2))
    if len(unit) < unit.shape[1]:  # much faster
        return np.ascontiguousarray(np.linalg.svd(unit, full_matrices=False)[2][:kept].T)
    vectors = np.linalg.eigh((unit.T @ unit).astype(np.float64))[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :kept], np.float32)


def _centres(unit: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    if n == 1:
        return np.zeros((1, unit.shape[1]), np.float32)
    found = faiss.Kmeans(unit.shape[1], n, niter=ITERATIONS, min_points_per_centroid=1, seed=0)
    found.train(unit)
    return np.asarray(found.centroids, np.float32)


def _reach(centres: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    apart = math.sqrt(2 - 2 * (least - MARGIN))  # at most, of near rows of unit length
    return np.asarray(apart * cdist(centres, centres) + MARGIN, np.float32)


def _heights(unit: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return half the squared distance of each row from each centre, less what is the same for all centres."""
    heights: NDArray[np.float32] = unit @ -centres.T
    heights += np.square(centres).sum(axis=1) / 2
    return heights


def _sketches(unit: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = unit @ directions
    rest = np.square(unit).sum(axis=1, dtype=np.float64) - np.square(shares).sum(axis=1, dtype=np.float64)
    return np.column_stack([shares, np.sqrt(np.maximum(rest, 0)).astype(np.float32)])


def _cosines(X: NDArray[Any], X_other: NDArray[Any], asked: NDArray[np.bool_]) -> Cosines:
    """Return the cosines that are asked for of (n, m) ones, in order, to float64's precision."""
    one, other = (unit_length(np.asarray(rows, np.float64)) for rows in (X, X_other))
    if np.count_nonzero(asked) * DENSE > asked.size:
        return np.asarray((one @ other.T)[asked], np.float64)
    i, j = np.nonzero(asked)
    return np.asarray(np.einsum("ij,ij->i", one[i], other[j]), np.float64)


def _unit(X: NDArray[Any]) -> NDArray[np.float32]:
    check_finite(X)
    wide = np.asarray(X, np.result_type(X, np.float32))  # float32 has no room for the values of some float64 rows
    return unit_length(wide).astype(np.float32, copy=False)


def _tiles(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
