import numpy as np
import pytest

from classifiers.adaptive import METHODS, AdaptiveClassifier
from classifiers.errors import InvalidOption
from classifiers.names import MOST_SHOTS, with_names
from tests.classifiers.conftest import Digits

# Digits have no names that a backbone embeds: what stands for one here is the mean of some that are not learnt from.
Names = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def named(digits: Digits) -> tuple[np.ndarray, np.ndarray, Names]:
    """X and y of the first 900 digits, and a vector for each class."""
    y = np.array([f"class {label}" for label in digits.y])
    names = {str(label): digits.X[900:][y[900:] == label][:5].mean(axis=0) for label in np.unique(y)}
    return digits.X[:900], y[:900], names


def some(y: np.ndarray, shots: int, n_classes: int = 10) -> np.ndarray:
    """Return positions of the first shots of some classes."""
    return np.concatenate([np.flatnonzero(y == f"class {label}")[:shots] for label in range(n_classes)]).astype(int)


def test_a_name_is_one_more_example_of_a_class_with_few(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    rows = np.concatenate([some(y, MOST_SHOTS, 1), some(y, MOST_SHOTS - 1, 3)[MOST_SHOTS - 1 :]])
    both, labels = with_names(X[rows], y[rows], names)
    assert labels.tolist() == [*y[rows], *(f"class {label}" for label in range(1, 10))]
    np.testing.assert_array_equal(both[: len(rows)], X[rows])
    np.testing.assert_array_equal(both[len(rows) :], np.stack(list(names.values()))[1:])


def test_names_alone_are_enough(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    model = AdaptiveClassifier(names=names).fit(np.empty((0, 64)), [])
    assert model.classes_.tolist() == list(names)
    assert (model.predict(X) == y).mean() > 0.6
    assert (model.chosen_, model.calibrated_, len(model.held_out_)) == ("class-mean", False, 0)
    assert np.isfinite(model.threshold_)
    one = AdaptiveClassifier(names={7: names["class 7"]}).fit(np.empty((0, 64)), [])
    assert (one.predict(X[:2]).tolist(), one.threshold_) == ([7, 7], -np.inf)


def test_a_class_with_a_name_alone_is_known(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    rows = some(y, 5, 9)
    for method in ("auto", *METHODS):
        model = AdaptiveClassifier(method=method, names={"class 9": names["class 9"]}).fit(X[rows], y[rows])
        assert not model.calibrated_
        assert len(model.held_out_) == len(rows)
        found = model.predict(X[y == "class 9"]) == "class 9"
        assert found.mean() > (0 if method in ("knn", "cached-keys") else 0.5), method


def test_names_are_learnt_from_and_never_held_out(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    for shots, chosen in ((1, "kernel-logistic"), (3, "kernel-logistic"), (6, None)):
        rows = some(y, shots)
        model = AdaptiveClassifier(names=names).fit(X[rows], y[rows])
        assert len(model.held_out_) == (len(rows) if shots > 1 else 0)
        assert model.calibrated_ == (shots >= 3)
        assert chosen in (None, model.chosen_)
        assert set(model.accuracies_) == (set(METHODS) if shots == 6 else {chosen} if shots == 3 else set())
    by_hand = AdaptiveClassifier(method="class-mean").fit(*with_names(X[rows], y[rows], names))
    model = AdaptiveClassifier(method="class-mean", names=names).fit(X[rows], y[rows])
    np.testing.assert_allclose(model.scores(X), by_hand.scores(X))
    assert len(by_hand.held_out_) == len(rows) + 10


def test_names_help_where_there_are_few_shots(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    rows = some(y, 1)
    with_, without = (AdaptiveClassifier(names=one).fit(X[rows], y[rows]) for one in (names, None))
    assert (with_.predict(X) == y).mean() > (without.predict(X) == y).mean() + 0.05


def test_from_ten_shots_on_names_change_nothing(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, names = named
    rows = some(y, MOST_SHOTS, 4)
    four = {label: vector for label, vector in names.items() if label in y[rows]}
    with_, without = (AdaptiveClassifier(method="class-mean", names=one).fit(X[rows], y[rows]) for one in (four, None))
    np.testing.assert_array_equal(with_.scores(X), without.scores(X))
    assert with_.threshold_ == without.threshold_


def test_vectors_are_checked(named: tuple[np.ndarray, np.ndarray, Names]) -> None:
    X, y, _ = named
    with pytest.raises(InvalidOption, match=r"the vector of 'new' in names is \(3,\), and examples are \(20, 64\)"):
        AdaptiveClassifier(names={"new": [1.0, 2.0, 3.0]}).fit(X[:20], y[:20])
    with pytest.raises(InvalidOption, match="the vector of 'new' in names holds NaN or infinity"):
        AdaptiveClassifier(names={"new": np.full(64, np.nan)}).fit(X[:20], y[:20])
