import numpy as np
import pytest

from classifiers import duplicates, similarity_join
from classifiers.duplicates import duplicate_groups, leaks, near_duplicates
from classifiers.errors import EmbeddingMismatch, InvalidOption, NotFinite
from classifiers.similarity_join import ROUNDING
from tests.classifiers.conftest import Digits


def brute(X: np.ndarray, least: float) -> np.ndarray:
    """Return the first row that each row is nearly a copy of, -1 for none."""
    wide = X.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    near, first = unit @ unit.T >= least - ROUNDING, np.full(len(X), -1)
    for i in range(len(X)):
        if first[i] < 0:
            first[np.flatnonzero(near[i, i + 1 :] & (first[i + 1 :] < 0)) + i + 1] = i
    return first


def firsts(X: np.ndarray, least: float) -> np.ndarray:
    """Return the same as it is found."""
    found, first = duplicate_groups(X, least_cosine=least), np.full(len(X), -1)
    first[found.rows] = found.firsts
    return first


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks and tiles end in the middle of things, and bounds be loose."""
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 97)
    monkeypatch.setattr(duplicates, "FEW_ROWS", 20)
    for name, value in (("ARRANGED_ROWS", 30), ("TILE", (8, 50)), ("DIRECTIONS", 8), ("DENSE", 3)):
        monkeypatch.setattr(similarity_join, name, value)


@pytest.mark.parametrize("least", [0.9, 0.97, 0.999])
@pytest.mark.parametrize("sizes", ["small", None])
def test_groups_are_those_of_brute_force(
    digits: Digits, least: float, sizes: str | None, request: pytest.FixtureRequest
) -> None:
    if sizes:
        request.getfixturevalue(sizes)
    X = np.concatenate([digits.X[:600], digits.X[100:160] * 2, np.zeros((2, 64), np.float32)])
    found = duplicate_groups(X, least_cosine=least)
    np.testing.assert_array_equal(firsts(X, least), brute(X, least))
    unit = X[found.rows] / np.linalg.norm(X[found.rows], axis=1, keepdims=True)
    others = X[found.firsts] / np.linalg.norm(X[found.firsts], axis=1, keepdims=True)
    np.testing.assert_allclose(found.cosines, (unit * others).sum(axis=1), atol=1e-6)


def embeddings(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "unlike":
        return rng.normal(size=(1200, 48))
    clustered = rng.normal(size=(30, 48))[rng.integers(30, size=1200)] + 0.3 * rng.normal(size=(1200, 48))
    if kind == "copied":  # mostly, and shaken about the threshold
        return np.concatenate([clustered[:200], clustered[7] + 0.23 * rng.normal(size=(1000, 48))])
    return clustered[:, :3] if kind == "short" else clustered


@pytest.mark.parametrize("least", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["unlike", "clustered", "copied", "short"])
@pytest.mark.usefixtures("small")
def test_groups_of_any_kind_are_those_of_brute_force(kind: str, dtype: type[np.floating], least: float) -> None:
    X = embeddings(kind).astype(dtype)
    X[500:503] = 0
    X[900:950] = X[100:150]
    np.testing.assert_array_equal(firsts(X, least), brute(X, least))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_of_few_rows_none_is_missed(n: int) -> None:
    assert duplicate_groups(np.ones((n, 3))).firsts.tolist() == [0] * (n - 1)
    assert leaks(np.ones((n, 3)), np.ones((5 - n, 3))).others.tolist() == [0] * n * (n < 5)


@pytest.mark.parametrize("least", [0.5, 0.95, 0.999])
def test_rows_at_the_threshold_are_near(least: float) -> None:
    angles = np.arccos(least) * np.array([0, 1 - 1e-4, 1, 1 + 1e-4 * (1 + 1e-2 / (1 - least))])
    plane = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 2)))[0]
    near = np.column_stack([np.cos(angles), np.sin(angles)]) @ plane.T
    assert duplicate_groups(near, least_cosine=least).rows.tolist() == [1, 2]
    assert leaks(near[1:], near[:1], least_cosine=least).rows.tolist() == [0, 1]


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


@pytest.mark.usefixtures("small")
def test_leaks_are_the_nearest_of_the_other_set(digits: Digits) -> None:
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


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_values_that_float32_cannot_hold_are_compared_too(scale: float) -> None:
    X = np.random.default_rng(0).normal(size=(300, 40)) * scale
    assert duplicate_groups(np.concatenate([X, X])).firsts.tolist() == list(range(300))
    assert sorted(leaks(X, X).others.tolist()) == list(range(300))


def test_a_crowd_in_both_sets_leaks_as_a_whole() -> None:
    crowd = np.tile(np.random.default_rng(0).normal(size=(1, 100)), (3000, 1))
    found = leaks(crowd, crowd)
    assert found.rows.tolist() == list(range(3000))
    assert not found.others.any()


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


def test_near_duplicates_are_those_of_brute_force() -> None:
    random = np.random.default_rng(0)
    X, other = random.normal(size=(60, 5)), random.normal(size=(50, 5))
    other[7] = 3 * X[4]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (X, other)]
    cosines = unit[0] @ unit[1].T
    found = near_duplicates(X, other, least_cosine=0.9)
    expected = {(int(row), int(column)) for row, column in np.argwhere(cosines >= 0.9)}
    assert set(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == expected
    assert found.cosines == pytest.approx(cosines[found.rows, found.others], abs=1e-6)
    assert (found.rows[0], found.others[0]) == (4, 7)


def test_pairs_within_a_set_stand_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.duplicates.BLOCK_ROWS", 7)
    X = np.random.default_rng(0).normal(size=(40, 16))
    X[[5, 30]] = X[12]
    found = near_duplicates(X, least_cosine=0.999)
    assert sorted(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == [(5, 12), (5, 30), (12, 30)]
    assert (found.cosines <= 1).all()


def test_very_many_copies_are_bounded() -> None:
    found = near_duplicates(np.ones((500, 3)), n=20)
    assert len(found.rows) == 20
    assert len(near_duplicates(np.ones((500, 3))).rows) <= 500 * 11


def test_zeros_are_nobodys_duplicate() -> None:
    assert len(near_duplicates(np.zeros((3, 4))).rows) == 0
    assert len(near_duplicates(np.zeros((0, 4))).rows) == 0
    with pytest.raises(InvalidOption, match="the least cosine is"):
        near_duplicates(np.ones((2, 2)), least_cosine=1.5)


def test_pairs_of_like_rows_are_those_of_brute_force(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.repeat(digits.X[:900], 2, axis=1) + np.random.default_rng(0).normal(size=(900, 128))  # a sketch holds 64
    monkeypatch.setattr("classifiers.duplicates.BLOCK_ROWS", 256)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = unit @ unit.T
    within, across = near_duplicates(X, least_cosine=0.96), near_duplicates(X[:300], X, least_cosine=0.96)
    assert len(within.rows) > 100
    for found, table in ((within, np.triu(cosines, 1)), (across, cosines[:300])):
        assert set(zip(found.rows, found.others, strict=True)) == set(zip(*np.nonzero(table >= 0.96), strict=True))
        assert found.cosines == pytest.approx(cosines[found.rows, found.others], abs=1e-6)


def test_of_many_like_rows_the_nearest_are_paired() -> None:
    angles = np.linspace(0, 0.1, 30)[np.random.default_rng(0).permutation(30)]
    found = near_duplicates(np.column_stack([np.cos(angles), np.sin(angles)]), np.array([[1.0, 0.0]]))
    assert len(found.rows) == 30
    found = near_duplicates(np.array([[1.0, 0.0]]), np.column_stack([np.cos(angles), np.sin(angles)]))
    assert found.others.tolist() == np.argsort(angles)[:10].tolist()
