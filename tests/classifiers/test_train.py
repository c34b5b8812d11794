from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import classifiers.train
from classifiers.errors import ClassifierError, InvalidLabels, InvalidOption, NotFinite, TooFewExamples
from classifiers.estimators import METHODS
from classifiers.train import Training, train
from tests.classifiers.conftest import Digits


@pytest.fixture(scope="module")
def trained(digits: Digits) -> Training:
    return train(digits.X[:600], digits.y[:600])


def blobs(n: int, classes: int, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return random.normal(size=(classes, dim))[y] * 3 + random.normal(size=(n, dim)), y


def test_auto_chooses_calibrates_and_rejects(trained: Training, digits: Digits) -> None:
    X, y = digits.X[600:], digits.y[600:]
    assert {trial.head for trial in trained.tried} == {"logistic", "rbf-svm"}
    assert trained.chosen in trained.tried
    assert (trained.head.predict(X) == y).mean() > 0.93
    assert trained.head.calibration.scale[0] != 1
    assert trained.head.rejection is not None
    assert "confidence" in trained.head.rejection.rule
    assert trained.head.is_unknown(X).mean() < 0.2
    assert trained.notes == ()


def test_confidence_is_near_accuracy(trained: Training, digits: Digits) -> None:
    confidence = trained.head.predict_proba(digits.X[600:]).max(axis=1).mean()
    accuracy = (trained.head.predict(digits.X[600:]) == digits.y[600:]).mean()
    assert abs(confidence - accuracy) < 0.04


def test_every_row_has_a_held_out_prediction(trained: Training, digits: Digits) -> None:
    assert trained.held_out.rows.tolist() == list(range(600))
    right = trained.held_out.probabilities.argmax(axis=1) == digits.y[:600]
    assert right.mean() == pytest.approx(trained.chosen.score)
    np.testing.assert_allclose(trained.held_out.probabilities.sum(axis=1), 1)


def test_the_estimator_is_the_chosen_one_and_clones(trained: Training, digits: Digits) -> None:
    fitted = clone(trained.estimator).fit(digits.X[:600], digits.y[:600])
    np.testing.assert_array_equal(fitted.decision_function(digits.X[600:]), trained.head.scores(digits.X[600:]))
    assert fitted.score(digits.X[600:], digits.y[600:]) > 0.93


@pytest.mark.parametrize("head", ["auto", "linear-svm"])
def test_a_seed_gives_the_same_bits_whatever_the_threads(head: str, digits: Digits) -> None:
    one, two = (train(digits.X[:300], digits.y[:300], head=head, random_state=7, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one.head.predict_proba(digits.X), two.head.predict_proba(digits.X))
    assert one.head.rejection == two.head.rejection
    np.testing.assert_array_equal(one.held_out.scores, two.held_out.scores)


def test_above_2000_rows_a_sample_is_searched() -> None:
    X, y = blobs(2600, 4)
    found = train(X, y, head="ridge")
    assert "a stratified sample of 2,000 of the 2,600 examples" in found.notes[0]
    assert all(trial.rows == 2000 for trial in found.tried)
    assert np.bincount(y[found.held_out.rows]).tolist() == [130] * 4
    whole = train(X, y, head="ridge", held_out="all")
    assert whole.held_out.rows.tolist() == list(range(2600))
    assert whole.chosen.params == found.chosen.params


def test_a_clone_learns_from_one_example_of_many_classes_without_a_warning() -> None:
    X, y = blobs(60, 30)
    chosen = train(X, y, head="logistic").estimator
    assert clone(chosen).fit(X[:30], y[:30]).score(X[30:], y[30:]) > 0.5


def test_of_very_many_rows_auto_leaves_the_machine_out_whose_time_is_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = blobs(120, 3)
    monkeypatch.setattr(classifiers.train, "RBF_ROWS", 119)
    found = train(X, y)
    assert {trial.head for trial in found.tried} == {"logistic"}
    assert "rbf-svm was not tried: with 120 examples" in found.notes[0]
    assert {trial.head for trial in train(X, y, head="rbf-svm").tried} == {"rbf-svm"}
    monkeypatch.setattr(classifiers.train, "RBF_ROWS", 120)
    assert {trial.head for trial in train(X, y).tried} == {"logistic", "rbf-svm"}


def test_with_few_examples_a_class_nothing_is_searched(digits: Digits) -> None:
    first = np.concatenate([np.flatnonzero(digits.y == own)[:3] for own in range(10)])
    found = train(digits.X[first], digits.y[first])
    assert [(trial.head, trial.params) for trial in found.tried] == [("logistic", {"C": 10.0})]
    assert "median class has 3 examples" in found.chosen.note
    assert found.notes[0] == found.chosen.note
    assert found.chosen.score is not None
    assert found.chosen.score > 0.6


def test_a_long_tail_does_not_end_the_search() -> None:
    X, y = blobs(100, 4)
    more = np.concatenate([y, [4, 5, 5]])
    found = train(np.concatenate([X, X[:3] + 9]), more)
    assert len(found.tried) > 1
    assert len(found.head.classes_) == 6
    assert 100 not in found.held_out.rows  # the only one of its class
    assert found.notes[0].startswith("of 1 of the 6 classes there is one example, ")


def test_one_example_of_each_class_makes_a_head_that_says_so() -> None:
    X, y = blobs(3, 3)
    found = train(X, y)
    assert found.chosen.score is None
    assert len(found.held_out.rows) == 0
    assert found.head.rejection is None
    assert any("nothing could be held out" in note for note in found.notes)
    assert any("not calibrated" in note for note in found.notes)
    assert any("no threshold" in note for note in found.notes)
    assert (found.head.predict(X) == y).all()


@pytest.mark.parametrize("head", [name for name in METHODS if name != "network"])
@pytest.mark.parametrize("odd", ["constant", "duplicates", "wide", "tiny"])
def test_odd_data_gets_an_answer_or_a_clear_error(head: str, odd: str) -> None:
    X, y = blobs(24, 3)
    X = {
        "constant": np.ones((24, 5)),
        "duplicates": np.repeat(X[:3], 8, axis=0),
        "wide": np.random.default_rng(0).normal(size=(24, 200)),
        "tiny": X,
    }[odd]
    if odd == "duplicates":
        y = np.repeat([0, 1, 2], 8)
    if odd == "tiny":
        X, y = X[:4], np.array(["a", "a", "b", "c"])
    try:
        found = train(X, y, head=head)
    except ClassifierError as error:
        assert head == "lda", error
    else:
        assert np.isfinite(found.head.predict_proba(X)).all()


@pytest.mark.parametrize(
    "labels",
    [np.array(["a", "b"] * 20), np.array([True, False] * 20), np.array(["a", "b"] * 20, dtype=object), [3, -7] * 20],
)
def test_labels_of_any_type_come_back(labels: Any) -> None:
    X, _ = blobs(40, 2)
    found = train(X, labels, head="logistic")
    assert (found.head.predict(X) == np.asarray(labels)).mean() > 0.9


def test_arrays_of_any_layout_give_the_same_head() -> None:
    X, y = blobs(60, 3)
    first = train(X, y, head="rbf-svm").head.scores(X)
    for other in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X[::-1][::-1]):
        np.testing.assert_array_equal(train(other, y, head="rbf-svm").head.scores(X), first)


@pytest.mark.parametrize("head", ["auto", "knn", "lda", "ncm"])
def test_several_labels(head: str, digits: Digits) -> None:
    Y = np.stack([digits.y > 4, digits.y % 2 == 0, digits.y == 3], axis=1).astype(int)
    found = train(digits.X[:300], Y[:300], head=head, classes=["large", "even", "three"])
    assert found.head.classes_.tolist() == ["large", "even", "three"]
    assert found.chosen.metric == "macro_f1"
    assert (found.head.predict(digits.X[300:]) == Y[300:]).mean() > 0.8
    assert len(set(found.head.calibration.scale)) == 3
    fitted = clone(found.estimator).fit(digits.X[:300], Y[:300])
    assert fitted.predict(digits.X[:2]).shape == (2, 3)


def test_a_regression() -> None:
    X, _ = blobs(120, 3)
    y = X[:, 0] / np.linalg.norm(X, axis=1) * 1000 + 5
    found = train(X, y, kind="regression")
    assert found.chosen.metric == "r2"
    assert found.chosen.score is not None
    assert found.chosen.score > 0.8
    assert np.corrcoef(found.head.predict(X)[:, 0], y)[0, 1] > 0.95
    assert found.head.rejection is None
    assert found.held_out.probabilities.shape == (120, 1)


def test_candidates_are_compared_on_a_validation_set(digits: Digits) -> None:
    validation = (digits.X[300:500], digits.y[300:500])
    found = train(digits.X[:300], digits.y[:300], validation=validation)
    assert all(trial.folds == 1 for trial in found.tried)
    predicted = found.head.predict(validation[0])
    assert (predicted == validation[1]).mean() == pytest.approx(found.chosen.score, abs=0.006)
    assert len(found.held_out.rows) == 0
    assert len(train(digits.X[:300], digits.y[:300], validation=validation, held_out="all").held_out.rows) == 300


def test_items_out_of_scope_set_the_threshold(digits: Digits) -> None:
    known, strange = digits.y < 7, digits.X[digits.y >= 7]
    X, y = digits.X[known], digits.y[known]
    found = train(X[:400], y[:400], reject="validation", out_of_scope=strange[:60])
    assert found.head.rejection is not None
    assert "60 items out of scope" in found.head.rejection.rule
    assert found.head.is_unknown(strange[60:]).mean() > 0.5
    assert found.head.is_unknown(X[400:]).mean() < 0.3


def test_groups_are_held_out_together() -> None:
    X, y = blobs(60, 3)
    twice, labels = np.concatenate([X, X + 1e-3]), np.random.default_rng(0).permutation(y)
    labels = np.concatenate([labels, labels])
    loose = train(twice, labels, head="rbf-svm")
    grouped = train(twice, labels, head="rbf-svm", groups=np.tile(np.arange(60), 2))
    assert loose.chosen.score is not None
    assert grouped.chosen.score is not None
    assert loose.chosen.score > 0.7 > 0.6 > grouped.chosen.score  # labels at random: only a twin could know


def test_copies_are_held_out_together() -> None:
    X, y = blobs(60, 3)
    twice, labels = np.concatenate([X, X]), np.tile(np.random.default_rng(0).permutation(y), 2)
    found = train(twice, labels, head="rbf-svm")
    assert found.chosen.score is not None
    assert found.chosen.score < 0.6  # labels at random: only a copy could know
    assert found.notes[0] == "60 of the 120 examples are copies of others; they are held out together with these"
    assert found.held_out.rows.tolist() == list(range(120))


def test_copies_of_one_example_a_class_are_one_shot() -> None:
    X, y = blobs(3, 3)
    found = train(np.repeat(X, 8, axis=0), np.repeat(y, 8))
    assert found.chosen.score is None
    assert (found.chosen.head, found.chosen.params) == ("logistic", {"C": 10.0})


def test_what_is_held_out_is_calibrated_by_others() -> None:
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(60, 4)), random.integers(0, 2, (60, 6))  # nothing to learn
    found = train(X, Y, head="logistic")
    own = found.head.probabilities(found.held_out.scores)
    apart, fitted = (-np.log(np.where(Y == 1, p, 1 - p)).mean() for p in (found.held_out.probabilities, own))
    assert apart > fitted + 0.005  # in its own calibration a row has a say


def test_progress_counts_to_the_end() -> None:
    X, y = blobs(40, 2)
    told: list[tuple[int, int, str]] = []
    train(X, y, progress=lambda *one: told.append(one))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == told[-1][1] - 1
    assert "on all 40 examples" in told[-1][2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": np.full((40, 12), np.nan)}, NotFinite, "row 0"),
        ({"y": ["a"] * 40}, TooFewExamples, "1 class"),
        ({"y": np.linspace(0, 1, 40)}, InvalidLabels, "continuous"),
        ({"y": []}, TooFewExamples, "no examples"),
        ({"y": [0, 1] * 19}, ValueError, "38"),
        ({"X": np.ones(40)}, ValueError, "must be numbers"),
        ({"X": np.array([["a"] * 12] * 40)}, ValueError, "must be numbers"),
        ({"head": "forest"}, InvalidOption, "not one of auto"),
        ({"kind": "ranking"}, InvalidOption, "kind is 'ranking'"),
        ({"cv": 1}, InvalidOption, "cv is 1"),
        ({"held_out": "some"}, InvalidOption, "held_out"),
        ({"reject": "validation"}, InvalidOption, "out_of_scope"),
        ({"reject_rate": 0}, InvalidOption, "reject_rate"),
        ({"calibration": "isotonic"}, InvalidOption, "calibration"),
        ({"groups": [1, 2]}, InvalidOption, "groups"),
        ({"classes": ["a", "b"]}, InvalidOption, "classes"),
        ({"y": np.eye(2)[[0] * 40], "kind": "multi"}, TooFewExamples, "all of the 40"),
        ({"y": np.eye(2)[[0, 1] * 20], "classes": ["a"]}, InvalidOption, "2 columns"),
        ({"y": ["a"] * 40, "kind": "regression"}, InvalidLabels, "finite numbers"),
        ({"validation": (np.ones((2, 12)), [0, 9])}, InvalidLabels, "no training example"),
        ({"validation": (np.ones((2, 3)), [0, 1])}, ValueError, "n, 12"),
        ({"validation": (np.ones((0, 12)), [])}, TooFewExamples, "validation"),
    ],
)
def test_what_makes_no_head_is_a_clear_error(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = blobs(40, 2)
    given = {"X": X, "y": y} | change
    with pytest.raises(error, match=message):
        train(given.pop("X"), given.pop("y"), **given)
