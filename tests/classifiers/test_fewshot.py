import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.fewshot import TRANSFORMATIONS, NearestClassMean


@parametrize_with_checks([NearestClassMean(transformation=one) for one in TRANSFORMATIONS])
def test_scikit_learns_contract(estimator: BaseEstimator, check) -> None:  # noqa: ANN001  # a partial of theirs
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data, data.target


def transformed(X: np.ndarray, transformation: str, center: np.ndarray) -> np.ndarray:
    if transformation == "UN":
        return X
    moved = X - center if transformation == "CL2N" else X
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_it_equals_brute_force(digits: tuple[np.ndarray, np.ndarray], transformation: str) -> None:
    X, y = digits
    support, query = np.arange(0, 300), np.arange(300, 900)
    model = NearestClassMean(transformation=transformation).fit(X[support], y[support])
    center = X[support].mean(axis=0)
    points, queries = (transformed(X[rows], transformation, center) for rows in (support, query))
    means = np.array([points[y[support] == label].mean(axis=0) for label in range(10)])
    squares = ((queries[:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_allclose(-model.decision_function(X[query]), squares, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(model.predict(X[query]), squares.argmin(axis=1))
    distances, positions = model.kneighbors(X[query], n_neighbors=3)
    np.testing.assert_array_equal(positions, squares.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(squares, axis=1)[:, :3], rtol=1e-3, atol=1e-4)
    odds = np.exp(-squares / model.temperature - (-squares / model.temperature).max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(X[query]), odds / odds.sum(axis=1, keepdims=True), atol=1e-9)


def test_without_transformation_it_is_scikit_learns_nearest_centroid(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    X = X + np.random.default_rng(0).normal(scale=0.01, size=X.shape)  # theirs warns where a pixel never varies
    model = NearestClassMean(transformation="UN").fit(X[:200], y[:200])
    np.testing.assert_array_equal(model.predict(X), NearestCentroid().fit(X[:200], y[:200]).predict(X))


def test_one_shot_of_each_class_is_enough() -> None:
    model = NearestClassMean().fit([[1, 0, 0], [0, 1, 0], [0, 0, 1]], ["a", "b", "c"])
    assert model.predict([[9, 1, 0], [0, 0, 0.1]]).tolist() == ["a", "c"]


def test_one_class_is_always_that_class() -> None:
    for transformation in TRANSFORMATIONS:
        model = NearestClassMean(transformation=transformation).fit([[1.0, 2.0]], ["only"])
        assert model.predict([[5.0, -1.0]]).tolist() == ["only"]
        assert model.predict_proba([[5.0, -1.0]]).tolist() == [[1.0]]


def test_two_classes_have_one_score_positive_for_the_second() -> None:
    model = NearestClassMean(transformation="L2N").fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
    scores = model.decision_function([[2.0, 1.0], [1.0, 2.0]])
    assert scores.shape == (2,)
    assert scores[0] < 0 < scores[1]


def test_zero_vectors_and_huge_ones_give_finite_answers() -> None:
    model = NearestClassMean().fit([[0.0, 0.0], [1e30, 1e30]], [0, 1])
    assert np.isfinite(model.predict_proba([[0.0, 0.0], [1e30, 1e30]])).all()
    assert model.predict([[0.0, 0.0], [1e30, 1e30]]).tolist() == [0, 1]


def test_an_unknown_transformation_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'PCA', not one of UN, L2N, CL2N"):
        NearestClassMean(transformation="PCA").fit([[1.0], [2.0]], [0, 1])


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_leave_one_out_equals_brute_force(digits: tuple[np.ndarray, np.ndarray], transformation: str) -> None:
    random = np.random.default_rng(0)
    X, y = digits[0], np.array([f"class {label}" for label in digits[1]])
    rows = np.concatenate([random.choice(1797, 60, replace=False), np.flatnonzero(y == "class 3")[:1]])
    rows = np.concatenate([rows[(y[rows] != "class 3")], rows[-1:]])  # a class of one
    X, y = X[rows], y[rows]
    model = NearestClassMean(transformation=transformation).fit(X, y)
    points = transformed(X, transformation, X.mean(axis=0))
    for i, found in enumerate(model.leave_one_out(X, y)):
        others = np.arange(len(y)) != i
        for label, score in zip(model.classes_, found, strict=True):
            members = points[others & (y == label)]
            expected = -np.sum((points[i] - members.mean(axis=0)) ** 2) if len(members) else -np.inf
            assert score == pytest.approx(expected, rel=1e-9, abs=1e-9)
