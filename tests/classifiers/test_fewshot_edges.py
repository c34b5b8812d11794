from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestCentroid

from classifiers.errors import ClassifierError, InvalidLabels, InvalidOption, NotFinite
from classifiers.fewshot import TRANSFORMATIONS, NearestClassMean

CLOSE = 1e-9  # float64 sums in another order


def transformed(X: NDArray[Any], support: NDArray[Any], transformation: str) -> NDArray[np.float64]:
    """SimpleShot's formulas, written out."""
    X = X.astype(np.float64)
    if transformation == "CL2N":
        X = X - support.astype(np.float64).mean(axis=0)
    return X if transformation == "UN" else X / np.linalg.norm(X, axis=1, keepdims=True)


def squared_distances(
    X: NDArray[Any], support: NDArray[Any], y: NDArray[Any], transformation: str
) -> NDArray[np.float64]:
    """From each row of X to each class mean, by brute force."""
    own = transformed(support, support, transformation)
    means = np.stack([own[y == label].mean(axis=0) for label in np.unique(y)])
    return ((transformed(X, support, transformation)[:, None] - means) ** 2).sum(axis=2)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("n_queries", [1, 10, 1500])  # FAISS searches few and many by different code
def test_it_equals_brute_force(digits: Any, transformation: str, n_queries: int) -> None:
    X, y = digits
    queries = X[297:][:n_queries]
    model = NearestClassMean(transformation=transformation).fit(X[:297], y[:297])
    expected = squared_distances(queries, X[:297], y[:297], transformation)
    np.testing.assert_allclose(model.decision_function(queries), -expected, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(model.predict(queries), expected.argmin(axis=1))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # the digits' corners are always white
def test_plain_means_are_those_of_scikit_learn(digits: Any) -> None:
    X, y = digits
    model = NearestClassMean(transformation="UN").fit(X[:500], y[:500])
    reference = NearestCentroid().fit(X[:500].astype(np.float64), y[:500])
    np.testing.assert_allclose(model.means_, reference.centroids_, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(model.predict(X[500:]), reference.predict(X[500:].astype(np.float64)))


@pytest.mark.parametrize("dim", [1, 3, 64, 1280])
@pytest.mark.parametrize("n_classes", [2, 3, 40])
def test_of_equally_near_classes_the_first_is_taken(dim: int, n_classes: int) -> None:
    random = np.random.default_rng(0)
    support = np.repeat(random.normal(size=(1, dim)), n_classes, axis=0)
    queries = random.normal(size=(50, dim))
    model = NearestClassMean(transformation="UN").fit(support, np.arange(n_classes))
    assert set(model.predict(queries)) == {0}
    if n_classes > 2:
        assert len(np.unique(model.decision_function(queries[:1]))) == 1


def test_a_query_midway_between_two_means_takes_the_first_of_them() -> None:
    model = NearestClassMean(transformation="UN").fit([[5.0], [3.0], [1.0]], ["a", "b", "c"])
    np.testing.assert_array_equal(model.predict([[4.0], [2.0]]), ["a", "b"])


@pytest.mark.parametrize(
    ("offset", "scale"),
    [(1e6, 1.0), (0.0, 1e30), (0.0, 1e-30), (1e30, 1e24), (0.0, 1.0)],
    ids=["far from the origin", "huge", "tiny", "huge and far", "plain"],
)
@pytest.mark.parametrize("transformation", ["UN", "CL2N"])
def test_float32_search_costs_no_exactness(offset: float, scale: float, transformation: str) -> None:
    random = np.random.default_rng(0)
    X = offset + scale * random.normal(size=(400, 20))
    y = np.arange(400) % 40
    model = NearestClassMean(transformation=transformation).fit(X[:200], y[:200])
    np.testing.assert_array_equal(model.predict(X[200:]), model.decision_function(X[200:]).argmax(axis=1))
    assert np.isfinite(model.predict_proba(X[200:])).all()


def test_near_ties_beyond_float32_are_told_apart() -> None:
    random = np.random.default_rng(0)
    means = random.normal(size=(1, 32)) + 1e-10 * random.normal(size=(30, 32))
    model = NearestClassMean(transformation="UN").fit(np.vstack([means, -means[:1]]), np.arange(31))
    np.testing.assert_array_equal(model.predict(means), np.arange(30))


def test_a_query_too_far_for_float32_is_answered() -> None:
    model = NearestClassMean(transformation="UN").fit([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], [0, 1, 2])
    np.testing.assert_array_equal(model.predict([[1e60, 0.0], [-1e25, 0.0], [1e25, 1e25]]), [0, 0, 0])
    np.testing.assert_array_equal(model.predict([[1e10, 0.0], [-1e10, 0.0]]), [2, 0])


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_an_embedding_of_zeros_is_answered(transformation: str) -> None:
    X = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]
    model = NearestClassMean(transformation=transformation).fit(X, [0, 0, 1, 1])
    assert np.isfinite(model.means_).all()
    assert np.isfinite(model.predict_proba([[0.0, 0.0]])).all()
    constant = NearestClassMean(transformation=transformation).fit(np.zeros((4, 3)), [0, 0, 1, 1])
    np.testing.assert_array_equal(constant.predict_proba(np.zeros((2, 3))), np.full((2, 2), 0.5))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_one_example_of_one_class_is_enough(transformation: str) -> None:
    model = NearestClassMean(transformation=transformation).fit([[1.0, 2.0]], ["only"])
    np.testing.assert_array_equal(model.predict([[3.0, 4.0], [0.0, -1.0]]), ["only", "only"])
    np.testing.assert_array_equal(model.predict_proba([[3.0, 4.0]]), [[1.0]])
    assert model.decision_function([[3.0, 4.0]]).shape == (1, 1)
    np.testing.assert_array_equal(model.center_, [0.0, 0.0])


def test_probabilities_are_the_softmax_of_distances_over_the_temperature(digits: Any) -> None:
    X, y = digits
    model = NearestClassMean(temperature=0.5).fit(X[:100], y[:100])
    logits = -squared_distances(X[100:], X[:100], y[:100], "CL2N") / 0.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X[100:]), expected, rtol=CLOSE, atol=CLOSE)


def test_for_two_classes_the_decision_is_how_much_nearer_the_second_is() -> None:
    model = NearestClassMean(transformation="UN").fit([[0.0], [4.0]], ["a", "b"])
    np.testing.assert_array_equal(model.decision_function([[1.0], [4.0]]), [1 - 9, 16 - 0])


@pytest.mark.parametrize(
    "labels",
    [["b", "a", "b", "c"], [700, -3, 700, 12], [True, False, True, True], np.array(["b", "a", "b", "c"], object)],
    ids=["strings", "integers with gaps", "booleans", "objects"],
)
def test_labels_come_back_as_they_went_in(labels: Any) -> None:
    X = [[0.0, 1.0], [1.0, 0.0], [0.1, 1.0], [-1.0, -1.0]]
    model = NearestClassMean().fit(X, labels)
    assert model.predict(X)[0] == labels[0]
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    assert model.predict(X).dtype == model.classes_.dtype


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint8, list])
def test_every_kind_of_number_gives_the_same_answer(digits: Any, kind: Any) -> None:
    X, y = digits
    given = X.tolist() if kind is list else X.astype(kind)
    expected = NearestClassMean().fit(X[:200], y[:200]).decision_function(X[200:])
    found = NearestClassMean().fit(given[:200], y[:200]).decision_function(given[200:])
    np.testing.assert_array_equal(found, expected)  # the digits are whole numbers: every kind holds them exactly


def test_memory_order_does_not_matter(digits: Any) -> None:
    X, y = digits
    model = NearestClassMean().fit(np.asfortranarray(X[:200]), y[:200])
    np.testing.assert_array_equal(model.predict(X[::-2]), model.predict(np.ascontiguousarray(X[::-2])))


def test_the_order_of_the_support_does_not_matter(digits: Any) -> None:
    X, y = digits
    mixed = np.random.default_rng(0).permutation(300)
    one, other = (NearestClassMean().fit(X[rows], y[rows]) for rows in (np.arange(300), mixed))
    np.testing.assert_allclose(one.means_, other.means_, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_row(digits: Any, bad: float) -> None:
    X, y = digits.X.copy(), digits.y
    model = NearestClassMean().fit(X, y)
    X[[7, 9], 3] = bad
    for call in (lambda: NearestClassMean().fit(X, y), lambda: model.predict(X), lambda: model.predict_proba(X)):
        with pytest.raises(NotFinite, match=r"2 of the 1797 rows .* first row 7"):
            call()


@pytest.mark.parametrize(
    "options", [{"transformation": "L2"}, {"temperature": 0}, {"temperature": -1.0}, {"temperature": float("nan")}]
)
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    (name, value) = next(iter(options.items()))
    with pytest.raises(InvalidOption, match=f"^{name} is {value!r}") as caught:
        NearestClassMean(**options).fit([[0.0], [1.0]], [0, 1])
    assert isinstance(caught.value, ClassifierError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("n_neighbors", [0, 3])
def test_more_neighbours_than_classes_are_refused(n_neighbors: int) -> None:
    model = NearestClassMean().fit(np.eye(2), ["a", "b"])
    with pytest.raises(InvalidOption, match=f"n_neighbors is {n_neighbors}; take 1 to 2"):
        model.kneighbors(np.eye(2), n_neighbors=n_neighbors)


def test_labels_on_a_scale_are_refused() -> None:
    with pytest.raises(InvalidLabels, match="the labels are continuous"):
        NearestClassMean().fit(np.eye(3), [0.5, 1.5, 2.5])


def test_one_shot_of_many_classes_raises_no_warning() -> None:
    model = NearestClassMean(transformation="L2N").fit(np.eye(100), np.arange(100).astype(str))
    np.testing.assert_array_equal(model.predict(np.eye(100)), np.arange(100).astype(str))


def test_what_centring_leaves_of_a_row_at_the_centre_is_no_direction() -> None:
    middle, step = np.full(3, 0.1), np.array([0.3, 0, 0])
    X = np.stack([middle + step, middle - step, middle])
    model = NearestClassMean(transformation="CL2N").fit(X, ["right", "left", "middle"])
    np.testing.assert_allclose(model.means_[model.classes_ == "middle"], np.zeros((1, 3)))


@pytest.mark.parametrize("transformation", ["L2N", "CL2N"])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_length_does_not_matter_however_large_or_small(digits: Any, transformation: str, scale: float) -> None:
    X, y = digits.X.astype(np.float64), digits.y
    one, other = (
        NearestClassMean(transformation=transformation).fit(k * X[:200], y[:200]).decision_function(k * X[200:])
        for k in (1, scale)
    )
    np.testing.assert_allclose(one, other, rtol=CLOSE, atol=CLOSE)
