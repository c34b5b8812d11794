import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from classifiers.drift import ROUNDING, _discrepancies, _gamma, _kernel, _labellings, discrepancy, drift
from classifiers.embeddings import unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption, NotFinite, TooFewExamples
from tests.classifiers.conftest import Digits

N_SPLITS = 150


def halves(X: np.ndarray, seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).permutation(len(X))
    return X[rows[:n]], X[rows[n : 2 * n]]


def test_the_statistic_is_grettons(digits: Digits) -> None:
    one, other = halves(digits.X, 0, 20)
    parts = [rbf_kernel(a, b, gamma=1e-3) for a, b in ((one, one), (other, other), (one, other))]
    expected = (parts[0].sum() - 20) / 380 + (parts[1].sum() - 20) / 380 - 2 * parts[2].mean()
    kernel = rbf_kernel(np.concatenate([one, other]), gamma=1e-3)
    np.fill_diagonal(kernel, 0)
    labellings = _labellings(np.repeat([0, 1], 20), 3, np.random.default_rng(0))
    np.testing.assert_allclose(_discrepancies(kernel, labellings)[0], expected, atol=1e-7)


def test_many_permutations_take_the_memory_of_few_and_say_the_same(digits: Digits) -> None:
    one, other = map(unit_length, halves(digits.X, 0, 40))
    kernel = _kernel(*2 * [np.concatenate([one, other])], gamma=4.0)
    np.fill_diagonal(kernel, 0)
    labellings = _labellings(np.repeat([0, 1], 40), 1000, np.random.default_rng(0))
    found = _discrepancies(kernel, labellings)
    expected = (1 + (found[1:] >= found[0] - ROUNDING).sum()) / 1001
    assert discrepancy(one, other, 4.0, 1000, np.random.default_rng(0)) == pytest.approx((found[0], expected))
    peaks = []
    for n in (1000, 10_000):
        tracemalloc.start()
        discrepancy(one, other, 4.0, n, np.random.default_rng(0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("kind", ["digits", "heavy tails", "copies"])
def test_of_splits_of_one_set_five_percent_are_taken_for_drift(digits: Digits, kind: str) -> None:
    random = np.random.default_rng(0)
    tails = random.standard_t(2, size=(600, 8)) * random.lognormal(size=(600, 1))
    X = {"digits": digits.X, "heavy tails": tails, "copies": np.repeat(tails[:150], 4, axis=0)}[kind]
    p = []
    for seed in range(N_SPLITS):
        one, other = map(unit_length, halves(X, seed))
        p.append(discrepancy(one, other, _gamma(np.concatenate([one, other]), random), 39, random)[1])
    for level in (0.05, 0.25, 0.5):
        least, most = binom.interval(0.998, N_SPLITS, level)
        assert least <= (np.array(p) <= level).sum() <= most
    assert min(p) >= 1 / 40


def test_what_has_moved_is_found_and_told_apart(digits: Digits) -> None:
    one, other = halves(digits.X, 1, 400)
    noise = np.random.default_rng(0).normal(scale=3, size=other.shape).astype(np.float32)
    moved = drift(one, other + noise, n_permutations=99)
    assert moved.p_value == 0.01
    assert moved.auc > 0.7
    still = drift(one, other, n_permutations=99)
    assert still.p_value > 0.05
    assert 0.4 < still.auc < 0.6
    assert abs(still.statistic) < moved.statistic / 5


def test_the_items_that_moved_are_named_first(digits: Digits) -> None:
    known, random = digits.y != 7, np.random.default_rng(0)
    rows = random.permutation(np.flatnonzero(known))
    new = np.concatenate([rows[600:1000], random.choice(np.flatnonzero(~known), 40, replace=False)])
    found = drift(digits.X[rows[:600]], digits.X[new], n_permutations=99)
    assert found.p_value <= 0.05
    is_seven = digits.y[new[found.rows]] == 7
    assert is_seven[:20].mean() > 0.9
    assert np.median(found.times[:20]) > 1.4
    assert roc_auc_score(is_seven, -found.strange) > 0.8
    unit = digits.X / np.linalg.norm(digits.X, axis=1, keepdims=True)
    cosines = unit[new[found.rows]] @ unit[rows[:600]].T
    np.testing.assert_allclose(found.cosines, cosines.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(cosines[np.arange(440), found.nearest], found.cosines, atol=1e-5)


def test_how_many_times_as_many_are_like_an_item_leaves_itself_out(digits: Digits) -> None:
    one, other = (unit_length(X) for X in halves(digits.X, 3, 40))
    found = drift(one, other, n_permutations=19)
    gamma = _gamma(np.concatenate([one, other]), np.random.default_rng(0))
    now, before = rbf_kernel(other, other, gamma=gamma), rbf_kernel(other, one, gamma=gamma)
    expected = (now.sum(axis=1) - 1) / 39 / before.mean(axis=1)
    np.testing.assert_allclose(found.times, expected[found.rows], rtol=1e-3)


def test_a_sample_bounds_what_is_compared(digits: Digits) -> None:
    found = drift(digits.X[:900], digits.X[900:] * 2, max_rows=100, n_permutations=19)
    assert found.n_compared == (100, 100)
    assert len(found.rows) == len(np.unique(found.rows)) == 897
    known, new = (unit_length(X.astype(float)) for X in (digits.X[:900], digits.X[900:]))
    np.testing.assert_allclose((known[found.nearest] * new[found.rows]).sum(axis=1), found.cosines, atol=1e-5)
    again = drift(digits.X[:900], digits.X[900:] * 2, max_rows=100, n_permutations=19)
    assert (found.statistic, found.p_value) == (again.statistic, again.p_value)


@pytest.mark.parametrize("sizes", [(20, 20), (300, 200), (1000, 700)])
def test_what_does_not_vary_has_not_moved(sizes: tuple[int, int]) -> None:
    for one in np.ones(4), np.random.default_rng(0).normal(size=384):  # which float32 rounds
        found = drift(*(np.tile(one, (n, 1)) for n in sizes), n_permutations=99)
        assert found.p_value == 1
        assert (found.n_copies, found.n_shared) == (sizes, sizes[1])


def test_items_that_are_there_over_again_are_counted(digits: Digits) -> None:
    one, other = halves(digits.X, 0, 100)
    found = drift(one, other, n_permutations=19)
    assert (found.n_copies, found.n_shared) == ((0, 0), 0)
    found = drift(np.concatenate([one, one[:5] * 2]), np.concatenate([other, one[:30], other[:1]]), n_permutations=19)
    assert (found.n_copies, found.n_shared) == ((10, 2), 30)


def test_what_cannot_be_compared_is_refused(digits: Digits) -> None:
    X = digits.X[:20]
    with pytest.raises(EmbeddingMismatch):
        drift(X, X[:, :3])
    with pytest.raises(TooFewExamples, match="20 rows and 9"):
        drift(X, X[:9])
    with pytest.raises(InvalidOption, match="at least 19"):
        drift(X, X, n_permutations=9)
    with pytest.raises(NotFinite):
        drift(X, X * np.nan)
