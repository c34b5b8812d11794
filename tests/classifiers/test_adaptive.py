import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.adaptive import FOLDS, METHODS, AdaptiveClassifier
from classifiers.embeddings import unit_length
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.fewshot import NearestClassMean
from classifiers.folds import make_folds
from classifiers.target import Target
from tests.classifiers.conftest import Digits


@parametrize_with_checks([AdaptiveClassifier()])
def test_scikit_learns_contract(estimator: AdaptiveClassifier, check) -> None:  # noqa: ANN001  # a partial of theirs
    check(estimator)


def some_shots(digits: Digits, shots: int, classes: range = range(10), seed: int = 0) -> np.ndarray:
    """Return positions of some shots of each class; not the first ones, which few people wrote."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.choice(np.flatnonzero(digits.y == label), shots, False) for label in classes])


@pytest.mark.parametrize(
    ("shots", "classes", "chosen", "why"),
    [
        (7, range(1), "class-mean", "there is one class"),
        (1, range(10), "class-mean", "the median class has 1 shot"),
        (3, range(10), "kernel-logistic", "the median class has 3 shots"),
        (6, range(10), "kernel-logistic", "the median class has 6 shots; of held-out examples it has"),
    ],
)
def test_it_says_what_it_takes_and_why(digits: Digits, shots: int, classes: range, chosen: str, why: str) -> None:
    rows = some_shots(digits, shots, classes)
    model = AdaptiveClassifier().fit(digits.X[rows], digits.y[rows])
    assert (model.chosen_, model.reason_[: len(why)]) == (chosen, why)
    assert set(model.accuracies_) == (set(METHODS) if shots == 6 else {chosen} if shots >= 3 else set())
    assert model.calibrated_ == (shots >= 3)


def test_many_examples_have_a_linear_head(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.adaptive.MAX_LANDMARKS", 99)
    model = AdaptiveClassifier().fit(digits.X[:100], digits.y[:100])
    assert (model.chosen_, model.reason_) == ("logistic", "there are 100 examples, more than 99")


def parity(n_bits: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Return small clusters at a cube's corners: no mean tells their parity, the next neighbour does."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * n_bits)).reshape(n_bits, -1).T
    X = np.repeat(corners, copies, axis=0)
    X += np.random.default_rng(0).normal(scale=0.05, size=X.shape)
    return X, (np.repeat(corners, copies, axis=0).prod(axis=1) > 0).astype(int)


def test_another_method_is_taken_where_it_is_surely_better() -> None:
    X, y = parity(6, 5)
    learnt = np.arange(len(y)) % 5 > 0
    model = AdaptiveClassifier().fit(X[learnt], y[learnt])
    right = model.accuracies_
    assert model.chosen_ == "knn"
    assert right["knn"] > 0.95 > 0.2 > right["kernel-logistic"]
    assert model.reason_.startswith(f"knn has {right['knn']:.1%} of held-out examples right, kernel-logistic")
    assert model.reason_.endswith("better by more than 2 standard errors")
    assert (model.predict(X[~learnt]) == y[~learnt]).mean() > 0.95


def test_a_method_that_may_be_better_by_chance_is_not_taken(digits: Digits) -> None:
    rows = some_shots(digits, 6, seed=1)
    model = AdaptiveClassifier().fit(digits.X[rows], digits.y[rows])
    assert max(model.accuracies_.values()) > model.accuracies_["kernel-logistic"]
    assert model.chosen_ == "kernel-logistic"
    assert model.reason_.endswith("and no method surely more")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_named_is_taken(digits: Digits, method: str) -> None:
    rows = some_shots(digits, 4)
    model = AdaptiveClassifier(method=method).fit(digits.X[rows], digits.y[rows])
    assert (model.chosen_, model.reason_) == (method, "it was asked for")
    unit = unit_length(digits.X.astype(np.float64))
    assert (model.predict(digits.X) == METHODS[method]().fit(unit[rows], digits.y[rows]).predict(unit)).mean() > 0.999
    assert model.predict_proba(digits.X).sum(axis=1) == pytest.approx(1)


def test_of_few_shots_a_class_loses_one_at_a_time(digits: Digits) -> None:
    rows = some_shots(digits, 6)
    for fold in make_folds(Target.of(digits.y[rows], "single"), cv=FOLDS, random_state=0):
        assert np.bincount(digits.y[rows][fold.test]).max() == 1


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_are_about_as_many_as_wanted(digits: Digits, rate: float) -> None:
    alarms, found = [], []
    for seed in range(6):
        rows = some_shots(digits, 20, range(7), seed)
        known = np.setdiff1d(np.flatnonzero(digits.y < 7), rows)
        model = AdaptiveClassifier(false_alarm_rate=rate).fit(digits.X[rows], digits.y[rows])
        alarms.append(model.is_unknown(digits.X[known]).mean())
        found.append(model.is_unknown(digits.X[digits.y >= 7]).mean())
    assert np.mean(alarms) == pytest.approx(rate, abs=0.05)
    assert np.mean(found) > 0.5


def test_below_three_shots_the_threshold_is_a_prior(digits: Digits) -> None:
    for shots in (1, 2):
        rows = some_shots(digits, shots, range(7))
        model = AdaptiveClassifier().fit(digits.X[rows], digits.y[rows])
        assert not model.calibrated_
        unknown = model.is_unknown(digits.X)
        assert unknown[digits.y >= 7].mean() > unknown[digits.y < 7].mean()
    two = AdaptiveClassifier().fit(digits.X[:2], digits.y[:2])
    assert two.threshold_ == -np.inf
    assert not two.is_unknown(digits.X).any()


def test_a_new_class_leaves_the_others_calibrated(digits: Digits) -> None:
    rows = np.concatenate([some_shots(digits, 6, range(9)), some_shots(digits, 1, range(9, 10))])
    model = AdaptiveClassifier().fit(digits.X[rows], digits.y[rows])
    assert model.chosen_ == "kernel-logistic"
    assert not model.calibrated_
    assert np.isfinite(model.threshold_)
    assert model.predict(digits.X[rows[-1:]]).tolist() == [9]


@pytest.mark.parametrize("method", ["auto", "class-mean", "ridge", "logistic", "kernel-logistic"])
def test_a_new_class_is_heard_beside_large_ones(digits: Digits, method: str) -> None:
    rows = np.concatenate([some_shots(digits, 20, range(1, 10)), some_shots(digits, 2, range(1))])
    model = AdaptiveClassifier(method=method).fit(digits.X[rows], digits.y[rows])
    assert (model.predict(digits.X[digits.y == 0]) == 0).mean() > 0.7


def test_options_are_checked() -> None:
    with pytest.raises(InvalidOption, match="'best', not one of auto, class-mean"):
        AdaptiveClassifier(method="best").fit([[1.0]], ["a"])
    for rate in (1, -0.1, np.nan):
        with pytest.raises(InvalidOption, match=f"false_alarm_rate is {rate}; take a share below 1"):
            AdaptiveClassifier(false_alarm_rate=rate).fit([[1.0]], ["a"])


def test_another_false_alarm_rate_needs_no_refit(digits: Digits) -> None:
    rows = some_shots(digits, 4)
    model = AdaptiveClassifier().fit(digits.X[rows], digits.y[rows])
    assert model.threshold_ == model.threshold_at(0.05)
    assert len(model.held_out_) == 40
    for rate in (0.0, 0.01, 0.2):
        other = AdaptiveClassifier(false_alarm_rate=rate).fit(digits.X[rows], digits.y[rows])
        assert model.threshold_at(rate) == other.threshold_
    assert model.threshold_at(0) == -np.inf
    with pytest.raises(InvalidOption, match="false_alarm_rate is 2"):
        model.threshold_at(2)
    prior = AdaptiveClassifier().fit(digits.X[rows[::4]], digits.y[rows[::4]])
    assert (prior.threshold_at(0), prior.threshold_at(0.3)) == (-np.inf, prior.threshold_)


def test_class_means_hold_out_each_example_alone(digits: Digits) -> None:
    rows = np.concatenate([some_shots(digits, 4, range(6)), some_shots(digits, 1, range(6, 7))])
    model = AdaptiveClassifier(method="class-mean").fit(digits.X[rows], digits.y[rows])
    unit = unit_length(digits.X[rows].astype(np.float64))
    best = NearestClassMean().fit(unit, digits.y[rows]).leave_one_out(unit, digits.y[rows])[:-1]
    assert model.held_out_ == pytest.approx(np.sort(best.max(axis=1)))
    assert model.accuracies_ == {"class-mean": (best.argmax(axis=1) == digits.y[rows[:-1]]).mean()}


def test_a_method_of_two_classes_names_the_one_there_is() -> None:
    for method in METHODS:
        model = AdaptiveClassifier(method=method)
        if method in ("class-mean", "knn", "cached-keys"):
            assert model.fit([[1.0, 0.0]] * 3, ["only"] * 3).predict([[1.0, 1.0]]).tolist() == ["only"]
            continue
        with pytest.raises(TooFewExamples, match=f"of 1 class, 'only', and method '{method}' needs at least 2"):
            model.fit([[1.0, 0.0]] * 3, ["only"] * 3)
