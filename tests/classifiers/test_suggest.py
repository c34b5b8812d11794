import numpy as np
import pytest

from classifiers.embeddings import unit_length
from classifiers.errors import EmbeddingMismatch, InvalidOption, NotFinite
from classifiers.fewshot import NearestClassMean
from classifiers.suggest import MOST_ROWS, suggest
from tests.classifiers.conftest import Digits


def clusters(*, n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of well-separated classes, and their classes."""
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(n), size)
    return (random.normal(size=(n, 32))[y] + 0.2 * random.normal(size=(len(y), 32))).astype(np.float32), y


def accuracy(digits: Digits, known: np.ndarray) -> float:
    model = NearestClassMean().fit(digits.X[known], digits.y[known])
    return float((model.predict(digits.X[1000:]) == digits.y[1000:]).mean())


def taught(digits: Digits, budget: int, batch: int) -> float:
    """Return accuracy after labelling what is suggested among the first 1,000 digits, batch by batch."""
    known, probabilities = np.zeros(0, np.int64), None
    while len(known) < budget:
        left = np.setdiff1d(np.arange(1000), known)
        if len(known):
            model = NearestClassMean().fit(digits.X[known], digits.y[known])
            probabilities = model.predict_proba(digits.X[left])
        found = suggest(digits.X[left], batch, probabilities=probabilities, X_known=digits.X[known])
        known = np.concatenate([known, left[found.positions]])
    return accuracy(digits, known)


def test_it_beats_random_choice_with_fewer_labels(digits: Digits) -> None:
    by_chance = [accuracy(digits, np.random.default_rng(seed).choice(1000, 60, replace=False)) for seed in range(20)]
    assert taught(digits, 40, 10) > np.mean(by_chance) + 0.01
    assert taught(digits, 60, 10) > np.mean(by_chance) + 0.02


def test_the_first_batch_covers_all_classes() -> None:
    X, y = clusters(n=12, size=30)
    found = suggest(X, 12)
    assert sorted(y[found.positions]) == list(range(12))
    assert (found.uncertainty == 1).all()
    assert "coverage of the pool" in found.reason


def test_what_is_labelled_is_covered_already() -> None:
    X, y = clusters(n=6, size=20)
    known = y < 4
    found = suggest(X[~known], 2, X_known=X[known])
    assert sorted(y[~known][found.positions]) == [4, 5]


def test_it_takes_what_is_uncertain_and_no_two_alike() -> None:
    X, y = clusters(n=6, size=20)
    p = np.where(np.isin(y, (1, 2, 5))[:, None], [0.45, 0.4, 0.15], [0.98, 0.01, 0.01])
    found = suggest(X, 3, probabilities=p)
    assert sorted(y[found.positions]) == [1, 2, 5]
    assert found.uncertainty == pytest.approx([0.95] * 3)
    assert "uncertain" in found.reason


def test_the_choice_is_greedy_by_hand() -> None:
    X = unit_length(np.random.default_rng(0).normal(size=(40, 5)))
    p = np.random.default_rng(1).dirichlet([1, 1, 1], 40)
    X_known = unit_length(np.random.default_rng(2).normal(size=(3, 5)))
    best = np.sort(p, axis=1)
    u = 1 - (best[:, 2] - best[:, 1])
    covered, chosen = np.maximum((X @ X_known.T).max(axis=1), 0), []
    for _ in range(10):
        gains = u * (u[:, None] * np.maximum(X @ X.T - covered[:, None], 0)).sum(axis=0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, X @ X[chosen[-1]])
    found = suggest(X, 10, probabilities=p, X_known=X_known)
    assert found.positions.tolist() == chosen
    assert found.uncertainty == pytest.approx(u[chosen])


def test_copies_come_last() -> None:
    X, _ = clusters(n=5, size=4)
    pool = np.concatenate([X, X[:8], X[10:12], -0.0 * X[:1], 0.0 * X[:1]])
    found = suggest(pool, len(pool), X_known=X[10:12]).positions
    assert sorted(found) == list(range(len(pool)))
    assert len(np.unique(pool[found[:19]], axis=0)) == 19  # 18 that are not labelled, and zeros
    assert not {10, 11, 28, 29} & set(found[:19].tolist())


def test_more_than_there_are_gives_all() -> None:
    X, _ = clusters(n=3, size=2)
    assert sorted(suggest(X, 100).positions) == list(range(6))
    assert suggest(X[:0], 5).positions.shape == (0,)
    assert sorted(suggest(np.zeros((3, 4)), 5).positions) == [0, 1, 2]


def test_one_known_class_is_as_good_as_none() -> None:
    X, _ = clusters(n=3, size=5)
    found = suggest(X, 3, probabilities=np.ones((15, 1)), X_known=X[:1])
    assert (found.uncertainty == 1).all()
    assert "fewer than two" in found.reason


def test_a_large_pool_is_sampled_and_the_same_seed_gives_the_same() -> None:
    X, y = clusters(n=8, size=MOST_ROWS // 8 + 100)
    found, again, other = (suggest(X, 8, random_state=seed) for seed in (3, 3, 4))
    assert found.positions.tolist() == again.positions.tolist()
    assert found.positions.tolist() != other.positions.tolist()
    assert sorted(y[found.positions]) == list(range(8))
    assert "4,096" in found.reason
    assert f"{len(X):,}" in found.reason


def test_many_are_chosen_in_rounds() -> None:
    X, _ = clusters(n=10, size=150)
    found = suggest(X, 1400).positions
    assert len(set(found.tolist())) == 1400


def test_what_cannot_be_is_refused() -> None:
    X, _ = clusters(n=2, size=3)
    with pytest.raises(InvalidOption, match="n is 0"):
        suggest(X, 0)
    with pytest.raises(NotFinite, match="first row 1"):
        suggest([[1.0, 2], [np.nan, 1]], 1)
    with pytest.raises(NotFinite, match="first row 0"):
        suggest(X, 1, X_known=np.full((1, 32), np.inf))
    with pytest.raises(NotFinite, match="probabilities"):
        suggest(X, 1, probabilities=np.full((6, 2), np.nan))
    with pytest.raises(InvalidOption, match=r"\(5, 2\).*6 items"):
        suggest(X, 1, probabilities=np.full((5, 2), 0.5))
    with pytest.raises(EmbeddingMismatch, match="length 3"):
        suggest(X, 1, X_known=np.ones((1, 3)))
