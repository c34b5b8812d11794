from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score

from classifiers.errors import ClassifierError, InvalidOption, NotFinite, TooFewExamples
from classifiers.heads import DEFAULT_C, LogisticHead

SOLVER = 2e-2  # of probabilities and losses: what stopping the solver at its tolerance leaves open


def ready(X: NDArray[Any], train: NDArray[Any]) -> NDArray[np.float64]:
    """Unit length, centred, and scaled to a mean squared length of 1 on the training rows: written out."""
    unit, own = (one.astype(np.float64) / np.linalg.norm(one.astype(np.float64), axis=1)[:, None] for one in (X, train))
    return (unit - own.mean(axis=0)) / np.sqrt(own.var(axis=0).sum())


def test_it_is_scikit_learns_logistic_regression_on_unit_vectors_centred_and_scaled(digits: Any) -> None:
    X, y = digits
    head = LogisticHead(Cs=(10.0,)).fit(X[:900], y[:900])
    reference = LogisticRegression(C=10.0, max_iter=5000, tol=1e-8).fit(ready(X[:900], X[:900]), y[:900])
    expected = ready(X[900:], X[:900])
    np.testing.assert_allclose(head.predict_proba(X[900:]), reference.predict_proba(expected), atol=SOLVER)
    assert (head.predict(X[900:]) == reference.predict(expected)).mean() > 0.998


def test_its_scores_are_those_of_a_cross_validation_by_scikit_learn(digits: Any) -> None:
    X, y = digits.X[:600].astype(np.float64), digits.y[:600]
    head = LogisticHead(random_state=3).fit(X, y)
    folds = StratifiedKFold(3, shuffle=True, random_state=3)
    for C, found in head.cv_scores_.items():
        reference = LogisticRegression(C=C, max_iter=5000, tol=1e-6)
        losses = -cross_val_score(reference, ready(X, X), y, cv=folds, scoring="neg_log_loss")
        assert found == pytest.approx(losses.mean(), rel=SOLVER)
    assert list(head.cv_scores_) == sorted(head.Cs)
    assert min(head.cv_scores_, key=head.cv_scores_.__getitem__) == head.C_


def test_it_reads_digits(digits: Any) -> None:
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    predictions = cross_val_predict(LogisticHead(random_state=0), digits.X, digits.y, cv=folds)
    assert (predictions == digits.y).mean() > 0.95


def test_a_seed_gives_the_same_head(digits: Any) -> None:
    one, same = (LogisticHead(random_state=5).fit(digits.X[:300], digits.y[:300]) for _ in range(2))
    assert one.cv_scores_ == same.cv_scores_
    np.testing.assert_array_equal(one.decision_function(digits.X), same.decision_function(digits.X))


@pytest.mark.parametrize("least", [1, 2])
def test_a_class_smaller_than_the_folds(digits: Any, least: int) -> None:
    rows = np.concatenate([np.flatnonzero(digits.y == 0)[:30], np.flatnonzero(digits.y == 1)[:least]])
    X, y = digits.X[rows], digits.y[rows]
    head = LogisticHead(random_state=0).fit(X, y)
    if least == 1:
        assert head.C_ == DEFAULT_C
        assert head.cv_scores_ == {}
    else:
        folds = StratifiedKFold(2, shuffle=True, random_state=0)
        model = LogisticRegression(C=10.0, tol=1e-6, max_iter=5000)
        expected = -cross_val_score(model, ready(X, X), y, cv=folds, scoring="neg_log_loss").mean()
        assert head.cv_scores_[10.0] == pytest.approx(expected, rel=2e-2)
    assert set(head.predict(digits.X)) <= {0, 1}


def test_a_single_c_is_taken_as_it_is(digits: Any) -> None:
    head = LogisticHead(Cs=[3]).fit(digits.X[:100], digits.y[:100])
    assert head.C_ == 3.0
    assert head.cv_scores_ == {}


def test_fewer_examples_than_classes_of_the_usual_kind() -> None:
    head = LogisticHead().fit(np.eye(5), ["a", "b", "c", "d", "e"])
    np.testing.assert_array_equal(head.predict(np.eye(5)), ["a", "b", "c", "d", "e"])
    assert head.C_ == DEFAULT_C


def test_length_does_not_matter_however_large_or_small(digits: Any) -> None:
    X, y = digits.X[:200].astype(np.float64), digits.y[:200]
    head = LogisticHead(random_state=0).fit(X, y)
    expected = head.predict_proba(X)
    for scale in (1e-200, 1e-3, 1e150, 1e300):
        np.testing.assert_allclose(head.predict_proba(scale * X), expected, atol=1e-9)
    lengths = np.geomspace(1e-30, 1e30, len(X))[:, None]
    np.testing.assert_allclose(LogisticHead(random_state=0).fit(lengths * X, y).predict_proba(X), expected, atol=SOLVER)


def test_an_embedding_of_zeros_is_answered(digits: Any) -> None:
    X = np.vstack([np.zeros((4, 64)), digits.X[:200]])
    head = LogisticHead(random_state=0).fit(X, np.concatenate([[0, 1, 2, 3], digits.y[:200]]))
    assert np.isfinite(head.predict_proba(X)).all()
    np.testing.assert_array_equal(head.predict_proba(X[:1]), head.predict_proba(X[1:2]))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1 / 3])
def test_embeddings_that_are_all_alike_leave_it_undecided(kind: Any, value: float) -> None:
    X = np.full((30, 7), value, kind) * np.arange(1, 8, dtype=kind)
    head = LogisticHead(random_state=0).fit(X, [0, 1] * 15)
    np.testing.assert_allclose(head.predict_proba(X), np.full((30, 2), 0.5), atol=1e-4)
    assert np.abs(head.decision_function(np.eye(7))).max() < 1


@pytest.mark.parametrize(
    "names",
    [["nought", "one", "two"], [-5, 40, 1000], np.array(["x", "y", "z"], object)],
    ids=["strings", "integers with gaps", "objects"],
)
def test_labels_come_back_as_they_went_in(digits: Any, names: Any) -> None:
    rows = np.flatnonzero(digits.y < 3)
    labels = np.asarray(names)[digits.y[rows]]
    head = LogisticHead(random_state=0).fit(digits.X[rows], labels)
    predictions = head.predict(digits.X)
    assert set(predictions) <= set(labels)
    assert predictions.dtype == labels.dtype
    assert (predictions[rows] == labels).mean() > 0.99
    np.testing.assert_array_equal(predictions, head.classes_[head.predict_proba(digits.X).argmax(axis=1)])


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.uint8, list])
def test_every_kind_of_number_gives_the_same_answer(digits: Any, kind: Any) -> None:
    X, y = digits.X[:300], digits.y[:300]
    given = X.tolist() if kind is list else X.astype(kind)
    expected = LogisticHead(Cs=(10.0,)).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(LogisticHead(Cs=(10.0,)).fit(given, y).predict_proba(given), expected, atol=SOLVER)


def test_two_classes_have_one_logit(digits: Any) -> None:
    rows = np.flatnonzero(digits.y < 2)
    head = LogisticHead(random_state=0).fit(digits.X[rows], digits.y[rows])
    logits = head.decision_function(digits.X[rows])
    assert logits.shape == (len(rows),)
    np.testing.assert_array_equal(logits > 0, head.predict(digits.X[rows]) == 1)
    np.testing.assert_allclose(head.predict_proba(digits.X[rows])[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_class_weights_reach_the_solver(digits: Any) -> None:
    rows = np.concatenate([np.flatnonzero(digits.y == 8), np.flatnonzero(digits.y == 1)[:10]])
    X, y = digits.X[rows], digits.y[rows]
    plain, weighted = (LogisticHead(Cs=(0.1,), class_weight=one).fit(X, y) for one in (None, "balanced"))
    assert weighted.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.1


def test_one_class_is_named_with_what_is_needed() -> None:
    with pytest.raises(TooFewExamples, match="all 3 examples are of 1 class, 'cat', and a head needs at least 2"):
        LogisticHead().fit(np.eye(3), ["cat"] * 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_row(digits: Any, bad: float) -> None:
    X, y = digits.X[:100].copy(), digits.y[:100]
    head = LogisticHead(Cs=(10.0,)).fit(X, y)
    X[42, 0] = bad
    for call in (lambda: LogisticHead().fit(X, y), lambda: head.predict(X), lambda: head.decision_function(X)):
        with pytest.raises(NotFinite, match=r"1 of the 100 rows .* first row 42"):
            call()


@pytest.mark.parametrize("options", [{"Cs": ()}, {"Cs": (1.0, 0.0)}, {"Cs": (float("nan"),)}, {"cv": 1}])
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=f"^{next(iter(options))} is ") as caught:
        LogisticHead(**options).fit(np.eye(4), [0, 1, 0, 1])
    assert isinstance(caught.value, ClassifierError)
    assert isinstance(caught.value, ValueError)


def test_probabilities_are_worth_something_on_examples_it_has_not_seen(digits: Any) -> None:
    X, y = digits
    head = LogisticHead(random_state=0).fit(X[:900], y[:900])
    assert log_loss(y[900:], head.predict_proba(X[900:])) < 0.4


@pytest.mark.parametrize("labels", [[0.5, 1.5, 2.5, 0.5], [[0, 1], [1, 0], [0, 1], [1, 1]]])
def test_labels_that_name_no_classes_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"Unknown label type|1d array"):
        LogisticHead().fit(np.eye(4), labels)
