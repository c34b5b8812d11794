"""Embeddings X (n, dim) -> a map of them: positions (n_shown, 2) of a sample, neighbours near each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import TooFewExamples

MAX_ROWS = 1500
LEAST_FOR_TSNE = 30  # below that neighbourhoods say nothing
N_COMPONENTS = 50  # as van der Maaten and Hinton do before t-SNE
PERPLEXITY = 30.0


@dataclass(frozen=True, eq=False)
class Projection:
    """A map of embeddings.

    Parameters
    ----------
    rows : ndarray of shape (n_shown,), int64
        Which rows of X are shown, ascending.
    positions : ndarray of shape (n_shown, 2), float64
        Centred, the farthest coordinate at 1 or -1.
    method : str
        't-SNE' or 'PCA'.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.float64]
    method: str


def project(
    X: ArrayLike, y: ArrayLike | None = None, *, max_rows: int = MAX_ROWS, random_state: int | None = 0
) -> Projection:
    """Lay embeddings out on a plane by t-SNE (van der Maaten and Hinton, JMLR 2008) on their principal components.

    Distances are those of unit-length embeddings. Below 30 rows the first two principal components are the map.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
    y : array-like of shape (n,), optional
        Classes; a sample has each in the share that it has of the whole, and at least one of each that fits.
    max_rows : int
        Rows that are shown at most.
    random_state : int or None
        The same number gives the same map on one machine.

    Raises
    ------
    NotFinite
        NaN or infinity in X.
    TooFewExamples
        No row.
    """
    embeddings = np.asarray(X, np.float64)
    if len(embeddings) == 0:
        raise TooFewExamples("there is no embedding to show; give at least 1")
    check_finite(embeddings)
    rows = _sample(len(embeddings), None if y is None else np.asarray(y), max_rows, random_state)
    unit = unit_length(embeddings[rows])
    if len(rows) < LEAST_FOR_TSNE or not np.ptp(unit, axis=0).any():
        return Projection(rows, _within_one(_principal(unit, 2)), "PCA")
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    with threadpool_limits(1):  # so few rows: threads that wait for each other made it ten times slower
        reduced = _principal(unit, N_COMPONENTS)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=random_state).fit_transform(reduced)
    return Projection(rows, _within_one(np.asarray(found, np.float64)), "t-SNE")


def _sample(n: int, y: NDArray[np.generic] | None, max_rows: int, random_state: int | None) -> NDArray[np.int64]:
    """Return rows, ascending: every class evenly thinned, the rarest least likely to lose its last."""
    if n <= max_rows:
        return np.arange(n)
    order = np.random.default_rng(random_state).permutation(n)
    if y is None:
        return np.sort(order[:max_rows])
    own = np.unique(y, return_inverse=True)[1][order]
    by_class = np.argsort(own, kind="stable")
    counts = np.bincount(own)
    place = np.empty(n)
    place[by_class] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    # The k-th example of a class of m stands at k/m: the first of each class at 0, the others spread evenly.
    return np.sort(order[np.argsort(place / counts[own], kind="stable")[:max_rows]])


def _principal(X: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the first n principal components, of zeros where there are fewer, each with a settled sign."""
    kept = min(n, *X.shape)
    found = np.zeros((len(X), max(kept, 2)))
    if np.ptp(X, axis=0).any():
        found[:, :kept] = PCA(kept, svd_solver="full" if min(X.shape) <= 500 else "covariance_eigh").fit_transform(X)
    return found


def _within_one(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = positions - (positions.max(axis=0) + positions.min(axis=0)) / 2
    largest = float(np.abs(centred).max())
    placed: NDArray[np.float64] = centred / largest if largest > 0 else centred
    return placed
