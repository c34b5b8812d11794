"""Embeddings X (n, dim) -> a map of them: positions (n_shown, 2) of a sample, neighbours near each other."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import InvalidOption, TooFewExamples

TSNE_METHOD, PCA_METHOD, UMAP_METHOD = "t-SNE", "PCA", "UMAP"
SHOWN_ROWS = {TSNE_METHOD: 1500, PCA_METHOD: 100_000, UMAP_METHOD: 10_000}
FITTED_ROWS = 20_000  # that tell the principal components
LEAST_FOR_TSNE = 30  # below that neighbourhoods say nothing
N_COMPONENTS = 50  # as van der Maaten and Hinton do before t-SNE
PERPLEXITY = 30.0

Floats = NDArray[np.float64]


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
        't-SNE', 'PCA' or 'UMAP'.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.float64]
    method: str


def project(
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    max_rows: int | None = None,
    method: str = TSNE_METHOD,
    random_state: int | None = 0,
) -> Projection:
    """Lay embeddings out on a plane: by default by t-SNE on their principal components.

    Distances are those of unit-length embeddings. Below 30 rows the first two principal components are the map.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
        May be a map of a file; the rows that are shown are in memory.
    y : array-like of shape (n,), optional
        Classes; a sample has each in the share that it has of the whole, and at least one of each that fits.
    max_rows : int, optional
        Rows that are shown at most; by default as many as the method does in less than a minute or so.
    method : {'t-SNE', 'PCA', 'UMAP'}
        van der Maaten and Hinton, JMLR 2008; principal components; McInnes, Healy and Melville, 2018, which needs
        umap-learn.
    random_state : int or None
        The same number gives the same map on one machine.

    Raises
    ------
    InvalidOption
        Another method, or one whose package is not installed.
    NotFinite
        NaN or infinity among what is shown.
    TooFewExamples
        No row.
    """
    if method not in SHOWN_ROWS:
        raise InvalidOption(f"method is {method!r}, not one of {', '.join(SHOWN_ROWS)}")
    embeddings = np.asanyarray(X)
    if len(embeddings) == 0:
        raise TooFewExamples("there is no embedding to show; give at least 1")
    most = SHOWN_ROWS[method] if max_rows is None else max_rows
    rows = _sample(len(embeddings), None if y is None else np.asarray(y), most, random_state)
    shown = embeddings[rows]
    check_finite(shown)
    if len(rows) < LEAST_FOR_TSNE or method == PCA_METHOD:
        return Projection(rows, _within_one(_components(shown, random_state)), PCA_METHOD)
    unit = unit_length(np.asarray(shown, np.float64))
    if not np.ptp(unit, axis=0).any():
        return Projection(rows, np.zeros((len(rows), 2)), PCA_METHOD)
    place = _by_tsne if method == TSNE_METHOD else _by_umap
    return Projection(rows, _within_one(place(unit, random_state)), method)


def _by_tsne(unit: Floats, random_state: int | None) -> Floats:
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    with threadpool_limits(1):  # so few rows: threads that wait for each other made it ten times slower
        reduced = _principal(unit, N_COMPONENTS)
        return np.asarray(
            TSNE(2, perplexity=perplexity, init="pca", random_state=random_state).fit_transform(reduced), np.float64
        )


def _by_umap(unit: Floats, random_state: int | None) -> Floats:
    try:
        from umap import UMAP
    except ImportError:
        raise InvalidOption(
            "method 'UMAP' needs umap-learn, which is not installed: pip install 'headwater[umap]', or take another"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own: that a seed means one thread, of what numba deprecates
        found = UMAP(random_state=random_state, metric="cosine").fit_transform(_principal(unit, N_COMPONENTS))
    return np.asarray(found, np.float64)


def _components(shown: NDArray[Any], random_state: int | None) -> Floats:
    """Return the first two principal components, learnt from a sample where there are very many rows."""
    if len(shown) <= FITTED_ROWS:
        return _principal(unit_length(np.asarray(shown, np.float64)), 2)
    learnt = np.random.default_rng(random_state).choice(len(shown), FITTED_ROWS, replace=False)
    model = PCA(2, svd_solver="covariance_eigh").fit(unit_length(np.asarray(shown[learnt], np.float64)))
    blocks = range(0, len(shown), FITTED_ROWS)
    return np.concatenate(
        [model.transform(unit_length(np.asarray(shown[one : one + FITTED_ROWS], np.float64))) for one in blocks]
    )


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
