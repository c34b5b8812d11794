import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.adaptive import FOLDS, METHODS, AdaptiveClassifier, Shots, _held_out
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
    assert model.chosen_ == "logistic"
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


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_what_is_taught_twice_is_held_out_together(digits: Digits, method: str) -> None:
    X, y = digits.X.astype(np.float64), digits.y
    shots = np.concatenate([np.flatnonzero(y == one)[:6] for one in range(4)])
    once = AdaptiveClassifier(method=method).fit(X[shots], y[shots])
    twice = AdaptiveClassifier(method=method).fit(np.repeat(X[shots], 2, axis=0), np.repeat(y[shots], 2))
    held = (y < 4) & ~np.isin(np.arange(len(y)), shots)
    assert twice.is_unknown(X[held]).mean() < once.is_unknown(X[held]).mean() + 0.1


def test_class_means_leave_copies_out_together(digits: Digits) -> None:
    X, y = digits.X.astype(np.float64), digits.y
    shots = np.concatenate([np.flatnonzero(y == one)[:4] for one in range(3)])
    doubled = np.concatenate([shots, shots[:3]])
    shot = Shots(unit_length(X[doubled]), y[doubled].astype(np.int64), len(doubled))
    found = _held_out("class-mean", shot, 0)
    means = NearestClassMean().fit(shot.X, shot.own)
    for row, scores in zip(found.rows, found.scores, strict=True):
        others = (doubled != doubled[row]) & (shot.own == shot.own[row])
        mean = means._transformed(shot.X)[others].mean(axis=0)
        expected = -((means._transformed(shot.X[row : row + 1])[0] - mean) ** 2).sum()
        assert scores[shot.own[row]] == pytest.approx(expected)


def test_nothing_but_copies_is_no_question(digits: Digits) -> None:
    X, y = digits.X.astype(np.float64), digits.y
    first = [int(np.flatnonzero(y == one)[0]) for one in range(3)]
    model = AdaptiveClassifier().fit(np.repeat(X[first], 6, axis=0), np.repeat(y[first], 6))
    assert not len(model.held_out_)
    assert np.isfinite(model.threshold_)
    contradictory = AdaptiveClassifier().fit(np.repeat(X[:12], 2, axis=0), np.tile([0, 1], 12))
    assert len(contradictory.held_out_) == 24


def test_methods_are_compared_example_by_example(digits: Digits) -> None:
    X, y = digits.X.astype(np.float64), digits.y
    shots = np.concatenate([np.flatnonzero(y == one)[:5] for one in range(10)])
    shot = Shots(unit_length(X[shots]), y[shots].astype(np.int64), len(shots))
    for method in METHODS:
        assert _held_out(method, shot, 0).rows.tolist() == list(range(50))


def test_a_linear_head_suits_uneven_classes(digits: Digits) -> None:
    shots = np.concatenate([np.flatnonzero(digits.y == one)[: 1 + 3 * one] for one in range(4)])
    model = AdaptiveClassifier().fit(digits.X[shots], digits.y[shots])
    assert (model.chosen_, model.reason_) == ("logistic", "classes have 1 to 10 shots")


@pytest.mark.parametrize("shots", [1, 2])
def test_a_single_class_is_known_by_a_cosine(shots: int) -> None:
    X = np.random.default_rng(0).normal(size=(30, 64)) + 1.0
    model = AdaptiveClassifier().fit(X[:shots], ["near"] * shots)
    assert not model.calibrated_
    assert not model.is_unknown(X[shots:]).any()
    assert model.is_unknown(-X).all()
    cosines = unit_length(X) @ unit_length(X[:shots]).mean(axis=0)
    scores = model.knowing(X)
    np.testing.assert_allclose((scores - model.threshold_) / 2, cosines - 0.2, atol=1e-9)
    assert model.threshold_at(0) == -np.inf
