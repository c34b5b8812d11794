import numpy as np
import pytest

from classifiers import duplicates
from classifiers.duplicates import duplicate_groups, leaks
from classifiers.errors import EmbeddingMismatch, InvalidOption, NotFinite
from tests.classifiers.conftest import Digits


def brute(X: np.ndarray, least: float) -> np.ndarray:
    """Return the first row that each row is nearly a copy of, -1 for none."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    near, first = unit @ unit.T >= least, np.full(len(X), -1)
    for i in range(len(X)):
        if first[i] < 0:
            first[np.flatnonzero(near[i, i + 1 :] & (first[i + 1 :] < 0)) + i + 1] = i
    return first


@pytest.mark.parametrize("least", [0.9, 0.97, 0.999])
@pytest.mark.parametrize("small", [False, True])
def test_groups_are_those_of_brute_force(
    digits: Digits, least: float, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # blocks, segments and pairs end in the middle of things, and the bound is loose
        for name, value in (("BLOCK_ROWS", 97), ("SEGMENT_ROWS", 200), ("PAIR_ROWS", 500), ("DIRECTIONS", 8)):
            monkeypatch.setattr(duplicates, name, value)
    X = np.concatenate([digits.X[:600], digits.X[100:160] * 2, np.zeros((2, 64), np.float32)])
    found = duplicate_groups(X, least_cosine=least)
    with np.errstate(invalid="ignore"):
        expected = brute(X.astype(float), least)
    first = np.full(len(X), -1)
    first[found.rows] = found.firsts
    np.testing.assert_array_equal(first, expected)
    unit = X[found.rows] / np.linalg.norm(X[found.rows], axis=1, keepdims=True)
    others = X[found.firsts] / np.linalg.norm(X[found.firsts], axis=1, keepdims=True)
    np.testing.assert_allclose(found.cosines, (unit * others).sum(axis=1), atol=1e-6)


def test_a_crowd_is_one_group_and_the_largest_comes_first() -> None:
    rng = np.random.default_rng(0)
    crowd = rng.normal(size=100) + 0.01 * rng.normal(size=(3000, 100))
    pair = rng.normal(size=100) + 0.01 * rng.normal(size=(2, 100))
    X = np.concatenate([pair[:1], rng.normal(size=(50, 100)), crowd, pair[1:]]).astype(np.float32)
    done: list[int] = []
    groups = duplicate_groups(X, progress=lambda n, _: done.append(n)).groups()
    assert [len(group) for group in groups] == [3000, 2]
    assert groups[0].tolist() == list(range(51, 3051))
    assert groups[1].tolist() == [0, 3051]
    assert done[-1] == len(X)


def test_leaks_are_the_nearest_of_the_other_set(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "SEGMENT_ROWS", 300)
    monkeypatch.setattr(duplicates, "DIRECTIONS", 8)
    train, test = digits.X[:1000], digits.X[1000:]
    unit, asked = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (train, test))
    cosines = asked @ unit.T
    found = leaks(test, train, least_cosine=0.97)
    np.testing.assert_array_equal(np.sort(found.rows), np.flatnonzero(cosines.max(axis=1) >= 0.97))
    np.testing.assert_allclose(found.cosines, cosines.max(axis=1)[found.rows], atol=1e-6)
    np.testing.assert_array_equal(found.others, cosines.argmax(axis=1)[found.rows])
    assert (np.diff(found.cosines) <= 0).all()


def test_rounding_loses_no_copy_and_of_equal_others_the_first_is_named() -> None:
    X = np.random.default_rng(0).normal(size=(300, 384)).astype(np.float32)
    found = duplicate_groups(np.concatenate([X, X * 1.7]), least_cosine=1)
    assert found.firsts.tolist() == list(range(300))
    found = leaks(X * 1.7, np.concatenate([X, X, X]), least_cosine=1)
    assert found.others[np.argsort(found.rows)].tolist() == list(range(300))


def test_nothing_is_alike() -> None:
    assert len(duplicate_groups(np.eye(5)).rows) == 0
    assert duplicate_groups(np.eye(5)).groups() == []
    assert len(leaks(np.eye(5)[:2], np.eye(5)[2:]).rows) == 0
    assert len(duplicate_groups(np.zeros((0, 5), np.float32)).rows) == 0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"least cosine is 1.5"):
        duplicate_groups(np.eye(3), least_cosine=1.5)
    with pytest.raises(NotFinite):
        duplicate_groups(np.eye(3) * np.nan)
    with pytest.raises(EmbeddingMismatch):
        leaks(np.eye(3), np.eye(4))
