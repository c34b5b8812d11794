import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from classifiers.curve import learning_curve
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.fewshot import NearestClassMean
from tests.classifiers.conftest import Digits


def test_a_curve_climbs(digits: Digits) -> None:
    estimator = NearestClassMean()
    found = learning_curve(estimator, digits.X, digits.y, shots=(1, 5, 20, 50))
    assert [one.shots for one in found.points][:4] == [1, 5, 20, 50]
    assert found.points[0].n_train == 10
    assert found.points[0].mean + 0.1 < found.points[-1].mean
    assert all(one.low <= one.mean <= one.high for one in found.points)
    assert not hasattr(estimator, "means_")  # only clones are fitted


def test_held_out_examples_are_not_learnt_from(digits: Digits) -> None:
    """A head that knows its training examples by heart would score 1 on them, and scores by chance on others."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 400)
    found = learning_curve(LogisticRegression(C=1e6, max_iter=1000), random.normal(size=(400, 300)), y)
    assert all(0.3 < one.mean < 0.7 for one in found.points)


def test_a_flat_curve_says_so(digits: Digits) -> None:
    found = learning_curve(DummyClassifier(), digits.X, digits.y)
    assert found.gain == pytest.approx(0, abs=0.003)
    assert found.advice.startswith("Hardly")


def test_a_steep_curve_says_so(digits: Digits) -> None:
    found = learning_curve(NearestClassMean(), digits.X, digits.y, shots=(1, 3), max_train=40)
    assert found.gain is not None
    assert found.gain > 0.05
    assert found.advice.startswith("Yes")


def test_few_held_out_examples_do_not_tell(digits: Digits) -> None:
    assert learning_curve(NearestClassMean(), digits.X[:60], digits.y[:60]).advice.startswith("Perhaps")


def test_cost_is_bounded(digits: Digits) -> None:
    found = learning_curve(NearestClassMean(), digits.X, digits.y, max_train=200, max_test=100)
    assert found.n_test == 100
    assert max(one.n_train for one in found.points) <= 200
    many = np.arange(300).repeat(2)  # more classes than rows that may be learnt from
    capped = learning_curve(NearestClassMean(), np.random.default_rng(0).normal(size=(600, 4)), many, max_train=50)
    assert capped.points[0].n_train == 50


def test_a_seed_gives_the_same_curve(digits: Digits) -> None:
    curves = [learning_curve(NearestClassMean(), digits.X, digits.y, random_state=3) for _ in range(2)]
    assert curves[0] == curves[1]


def test_a_class_of_one_is_learnt_from_alone() -> None:
    X = np.random.default_rng(0).normal(size=(21, 3))
    found = learning_curve(NearestClassMean(), X, ["a"] * 10 + ["b"] * 10 + ["alone"], n_draws=1)
    assert found.points[-1].n_train == 21 - found.n_test


def test_two_examples_of_each_of_two_classes() -> None:
    found = learning_curve(NearestClassMean(), [[0.0, 1], [0, 1.1], [1, 0], [1.1, 0]], [1, 1, 2, 2])
    assert (found.n_test, found.points[0].mean, found.gain) == (2, 1.0, None)
    assert "too few" in found.advice


def test_points_that_an_estimator_cannot_learn_are_left_out(digits: Digits) -> None:
    neighbours = KNeighborsClassifier(60)
    with pytest.raises(TooFewExamples, match="KNeighborsClassifier learns from none"):
        learning_curve(neighbours, digits.X[:60], digits.y[:60])
    calibrated = CalibratedClassifierCV(NearestClassMean(), cv=StratifiedKFold(3))
    found = learning_curve(calibrated, digits.X[:300], digits.y[:300], shots=(1, 2, 10))
    assert found.points[0].shots == 10


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(TooFewExamples, match="1 of 2 classes"):
        learning_curve(NearestClassMean(), [[0.0], [1.0], [2.0]], ["a", "a", "b"])
    with pytest.raises(InvalidOption, match="n_draws is 0"):
        learning_curve(NearestClassMean(), [[0.0], [1.0]], ["a", "b"], n_draws=0)
