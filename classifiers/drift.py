"""Embeddings X (n, dim) and newer ones (m, dim) -> whether they are of one distribution, and which are the new kind."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption, TooFewExamples
from classifiers.suspects import out_of_fold

MAX_ROWS = 2000  # of each side that are compared: a kernel of 4,000 × 4,000
MAX_SCORED = 50_000
PERMUTATIONS = 999
LEAST_ROWS = 10
# Of the median squared distance. Of 0 (energy distance, linear), 1, 4, 16 and the largest of several, 4 was about the
# best for other shares of classes, noise and less variety among digits and assistant requests, and near it elsewhere.
GAMMA = 4.0
ROUNDING = 1e-7  # of float32: what differs by less is the same
LEAST_SAME = 0.9999  # cosine of one item's embeddings, made among other batch-mates or in another run
BLOCK_ROWS = 2048
BLOCK_LABELLINGS = 256  # by which the memory of many permutations stays below that of the kernel

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drift:
    """How newer embeddings differ.

    Parameters
    ----------
    statistic : float
        The unbiased squared maximum mean discrepancy: about 0 where nothing has moved.
    p_value : float
        How often embeddings of one distribution differ as much: below 0.05 in 5 % of such comparisons.
    auc : float
        How well a classifier tells new from old, on rows that it did not learn from: 0.5 not at all, 1 always. Where
        very many rows are compared the smallest change has a small p-value; this tells whether it is large.
    n_compared : tuple of int
        Rows of either side that were compared.
    n_copies : tuple of int
        How many of these are just like another one of their side: where that is by chance, the p-value stands; where
        one brought the other (frames of a film), it is too small.
    n_shared : int
        How many of the newer ones are among the older ones that were compared, which hides drift.
    rows : ndarray of shape (n_scored,), int64
        Newer rows, those first that stand where there is most more than there was.
    times : ndarray of shape (n_scored,), float64
        How many times as many rows are like each as there were.
    nearest : ndarray of shape (n_scored,), int64
        The older row that is nearest to each.
    cosines : ndarray of shape (n_scored,), float64
    strange : ndarray of shape (n_scored,), float64
        The share of older rows that have a nearest other one as far away, or farther: 0 is like none.
    """

    statistic: float
    p_value: float
    auc: float
    n_compared: tuple[int, int]
    n_copies: tuple[int, int]
    n_shared: int
    rows: NDArray[np.int64]
    times: Floats
    nearest: NDArray[np.int64]
    cosines: Floats
    strange: Floats


def drift(
    X: ArrayLike,
    X_new: ArrayLike,
    *,
    max_rows: int = MAX_ROWS,
    n_permutations: int = PERMUTATIONS,
    random_state: int | None = 0,
) -> Drift:
    """Test whether two sets of embeddings are of one distribution, by their maximum mean discrepancy.

    The statistic is the unbiased MMD² (Gretton et al., JMLR 2012) of unit-length rows with a Gaussian kernel, and its
    p-value is by permutation (Phipson and Smyth, 2010), which keeps the level whatever the data, as long as rows are
    independent draws: many shots of one scene count as many. At most `max_rows` of each side are compared, drawn at
    random.

    Parameters
    ----------
    X, X_new : array-like of shape (n, dim) and (m, dim), float
        May be maps of files.
    max_rows : int
        Of each side, that are compared; time and memory grow with its square.
    n_permutations : int
        The least p-value is one over one more.
    random_state : int or None

    Raises
    ------
    EmbeddingMismatch
        Embeddings of different lengths.
    InvalidOption
        Fewer than 19 permutations, by which nothing is below 0.05, or than 10 rows.
    NotFinite
        NaN or infinity among what is compared.
    TooFewExamples
        Fewer than 10 rows on one side.
    """
    old, new = np.asanyarray(X), np.asanyarray(X_new)
    _check(old, new, max_rows, n_permutations)
    random = np.random.default_rng(random_state)
    rows, new_rows = (_sample(len(one), max_rows, random) for one in (old, new))
    one, other = _unit(old[rows]), _unit(new[new_rows])
    gamma = _gamma(np.concatenate([one, other]), random)
    statistic, p = discrepancy(one, other, gamma, n_permutations, random)
    scored = _sample(len(new), MAX_SCORED, random)
    more, times = _denser(new, scored, one, other, new_rows, gamma)
    near, cosines, strange = _strange(new, scored, one)
    order = np.argsort(-more, kind="stable")
    return Drift(
        statistic,
        p,
        _told_apart(one, other, random_state),
        (len(one), len(other)),
        *_copies(one, other),
        scored[order],
        times[order],
        rows[near[order]],
        cosines[order],
        strange[order],
    )


def discrepancy(
    one: NDArray[np.float32], other: NDArray[np.float32], gamma: float, n: int, random: np.random.Generator
) -> tuple[float, float]:
    """Return the unbiased MMD² of two sets, and its p-value by n permutations."""
    together = np.concatenate([one, other])
    kernel = _kernel(together, together, gamma)
    np.fill_diagonal(kernel, 0)
    is_new = np.repeat([0, 1], [len(one), len(other)])
    sizes = [min(BLOCK_LABELLINGS, n - start) for start in range(0, n, BLOCK_LABELLINGS)]
    blocks = [_discrepancies(kernel, _labellings(is_new, size, random)) for size in sizes]
    n_as_large = sum(int((found[1:] >= found[0] - ROUNDING).sum()) for found in blocks)
    return float(blocks[0][0]), (1 + n_as_large) / (n + 1)


def _copies(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[tuple[int, int], int]:
    """Return how many rows of each set are just like another one of it, and how many of the other are in the one."""
    of_one, of_other = _cosines(one, one, 2)[:, 1], _cosines(other, other, 2)[:, 1]
    n_one, n_other, n_shared = (int((near >= LEAST_SAME).sum()) for near in (of_one, of_other, _cosines(other, one, 1)))
    return (n_one, n_other), n_shared


def _cosines(asked: NDArray[np.float32], unit: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the cosines of the k rows of a set that are nearest to each asked one, (n_asked, k)."""
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    found: NDArray[np.float32] = index.search(asked, k)[0]
    return found


def _told_apart(one: NDArray[np.float32], other: NDArray[np.float32], random_state: int | None) -> float:
    """Return the AUC of a classifier that tells two sets apart, on rows that it did not learn from."""
    is_new = np.repeat([0, 1], [len(one), len(other)])
    p = out_of_fold(np.concatenate([one, other]), is_new, [0, 1], random_state=random_state)
    return float(roc_auc_score(is_new, p[:, 1]))


def _check(old: NDArray[np.floating], new: NDArray[np.floating], max_rows: int, n_permutations: int) -> None:
    if old.shape[1:] != new.shape[1:]:
        raise EmbeddingMismatch(f"embeddings have {old.shape[1]} numbers and {new.shape[1]}; dump both by one backbone")
    if n_permutations < 19 or max_rows < LEAST_ROWS:
        raise InvalidOption(
            f"{n_permutations} permutations of {max_rows} rows tell nothing; take at least 19, and {LEAST_ROWS} rows"
        )
    if min(len(old), len(new)) < LEAST_ROWS:
        raise TooFewExamples(
            f"there are {len(old)} rows and {len(new)}, and at least {LEAST_ROWS} of each tell; add some"
        )


def _sample(n: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(n) if n <= most else np.sort(random.choice(n, most, replace=False))


def _unit(X: NDArray[np.floating]) -> NDArray[np.float32]:
    check_finite(X)
    return np.ascontiguousarray(unit_length(np.asarray(X, np.float32)))


def _gamma(unit: NDArray[np.float32], random: np.random.Generator) -> float:
    """Return the kernel's parameter: the median heuristic, and more local."""
    some = unit[_sample(len(unit), 1000, random)]
    squared = euclidean_distances(some, squared=True)[np.triu_indices(len(some), 1)]
    return GAMMA / (float(np.median(squared)) or float(squared.mean()) or 1.0)


def _kernel(one: NDArray[np.float32], other: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """Return the Gaussian kernel of each pair of rows; scikit-learn's own goes through float64, and is slow."""
    squared: NDArray[np.float32] = one @ other.T  # in place from here on, for it may be gigabytes
    squared *= -2
    squared += np.square(one).sum(axis=1)[:, np.newaxis]
    squared += np.square(other).sum(axis=1)
    np.maximum(squared, 0, out=squared)
    squared *= np.float32(-gamma)
    return np.exp(squared, out=squared)


def _labellings(is_new: NDArray[np.int64], n: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return who is new: truly, and by n permutations, (n_rows, 1 + n)."""
    return np.stack([is_new, *(random.permutation(is_new) for _ in range(n))], axis=1).astype(np.float32)


def _discrepancies(kernel: NDArray[np.float32], new: NDArray[np.float32]) -> Floats:
    """Return the unbiased MMD² of each labelling (n_rows, n_labellings), of a kernel whose diagonal is 0."""
    n_new = int(new[:, 0].sum())
    n_old = len(new) - n_new
    sums = kernel.sum(axis=1, dtype=np.float64)
    within_new = np.einsum("ij,ij->j", new, kernel @ new, dtype=np.float64)
    of_new = sums @ new
    between = of_new - within_new
    within_old = sums.sum() - of_new - between
    found: Floats = (
        within_new / (n_new * (n_new - 1)) + within_old / (n_old * (n_old - 1)) - 2 * between / (n_new * n_old)
    )
    return found


def _denser(
    new: NDArray[np.floating],
    scored: NDArray[np.int64],
    old_unit: NDArray[np.float32],
    new_unit: NDArray[np.float32],
    new_rows: NDArray[np.int64],
    gamma: float,
) -> tuple[Floats, Floats]:
    """Return by how much, and how many times, there is more around each scored row than there was; itself apart."""
    more, times = np.empty(len(scored)), np.empty(len(scored))
    for start in range(0, len(scored), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        unit = _unit(new[scored[part]])
        itself = np.isin(scored[part], new_rows)
        now = (_kernel(unit, new_unit, gamma).sum(axis=1, dtype=np.float64) - itself) / (len(new_unit) - itself)
        before = _kernel(unit, old_unit, gamma).mean(axis=1, dtype=np.float64)
        more[part], times[part] = now - before, np.maximum(now, 0) / np.maximum(before, 1e-12)
    return more, times


def _strange(
    new: NDArray[np.floating], scored: NDArray[np.int64], old_unit: NDArray[np.float32]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the nearest older row of each scored one, its cosine, and the share of older rows as far from others."""
    index = faiss.IndexFlatIP(old_unit.shape[1])
    index.add(old_unit)
    own = np.sort(index.search(old_unit, 2)[0][:, 1])
    found = [
        index.search(_unit(new[scored[start : start + BLOCK_ROWS]]), 1) for start in range(0, len(scored), BLOCK_ROWS)
    ]
    cosines = np.concatenate([near[:, 0] for near, _ in found]).astype(np.float64)
    places = np.concatenate([rows[:, 0] for _, rows in found]).astype(np.int64)
    return places, np.minimum(cosines, 1), np.searchsorted(own, cosines, side="right") / len(own)
