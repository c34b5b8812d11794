import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import classifiers.head
from classifiers.errors import HeadInvalid, NotFinite
from classifiers.head import MULTI, REGRESSION, SINGLE, Calibration, Head, Rejection
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Layers

X, y = load_digits(return_X_y=True)
TRAIN, TEST = X[:600], X[600:900]
LABELS = y[:600]
PREPARE = Preparation.fit(TRAIN)
READY, READY_TEST = PREPARE(TRAIN), PREPARE(TEST)
NONE = Calibration.none(10)


def test_layers_are_the_network_that_was_fitted() -> None:
    network = MLPClassifier((16,), solver="lbfgs", tol=1e-2, max_iter=400, random_state=0).fit(READY, LABELS)
    layers = Layers(PREPARE, tuple(one.T for one in network.coefs_), tuple(network.intercepts_))
    head = Head(SINGLE, network.classes_, layers, NONE)
    np.testing.assert_allclose(head.predict_proba(TEST), network.predict_proba(READY_TEST), atol=1e-12)
    np.testing.assert_array_equal(head.predict(TEST), network.predict(READY_TEST))


@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize(
    "estimator", [SVC(break_ties=True), LogisticRegression(), KNeighborsClassifier(weights="distance")]
)
def test_a_fitted_estimator_predicts_as_it_did(estimator: object, n_classes: int) -> None:
    few = n_classes > LABELS
    fitted = estimator.fit(READY[few], LABELS[few])
    head = Head(SINGLE, fitted.classes_, Fitted(PREPARE, fitted, n_classes), Calibration.none(n_classes))
    np.testing.assert_array_equal(head.predict(TEST), fitted.predict(READY_TEST))
    if hasattr(fitted, "predict_proba"):
        np.testing.assert_allclose(head.predict_proba(TEST), fitted.predict_proba(READY_TEST), atol=2e-2)


def test_very_many_rows_are_scored_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LogisticRegression().fit(READY, LABELS)
    layers = Layers(PREPARE, (fitted.coef_,), (fitted.intercept_,))
    head = Head(SINGLE, fitted.classes_, layers, NONE)
    whole = head.scores(TEST)
    monkeypatch.setattr(classifiers.head, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(head.scores(TEST), whole, atol=1e-12)
    holed = TEST.copy()
    holed[20] = np.nan
    with pytest.raises(NotFinite, match="first row 20"):
        head.scores(holed)


def test_several_labels_each_have_a_sigmoid() -> None:
    Y = np.stack([LABELS > 4, LABELS % 2 == 0, np.ones_like(LABELS)], axis=1).astype(int)
    with pytest.warns(UserWarning, match="present in all training examples"):
        fitted = OneVsRestClassifier(SVC()).fit(READY, Y)
    head = Head(MULTI, np.array(["big", "even", "always"]), Fitted(PREPARE, fitted, 3), Calibration.none(3))
    np.testing.assert_array_equal(head.predict(TEST), fitted.predict(READY_TEST).astype(bool))
    np.testing.assert_allclose(head.predict_proba(TEST), expit(head.scores(TEST)))


def test_several_labels_by_neighbours_keep_their_order_of_likelihood() -> None:
    Y = np.stack([LABELS > 4, np.zeros_like(LABELS)], axis=1).astype(int)
    fitted = KNeighborsClassifier(5).fit(READY, Y)
    head = Head(MULTI, np.array(["big", "never"]), Fitted(PREPARE, fitted, 2), Calibration.none(2))
    probabilities = head.predict_proba(TEST)
    np.testing.assert_allclose(probabilities[:, 0], fitted.predict_proba(READY_TEST)[0][:, 1], atol=1.1e-3)
    assert probabilities[:, 1].max() == pytest.approx(1e-3)


def test_a_regression_gives_its_values_and_no_probabilities() -> None:
    fitted = Ridge().fit(READY, LABELS.astype(float))
    head = Head(REGRESSION, np.array(["value"]), Fitted(PREPARE, fitted, 1), Calibration.none(1))
    np.testing.assert_array_equal(head.predict(TEST)[:, 0], fitted.predict(READY_TEST))
    with pytest.raises(HeadInvalid, match="regression"):
        head.predict_proba(TEST)
    assert not head.is_unknown(TEST).any()


@pytest.fixture
def head() -> Head:
    fitted = LogisticRegression().fit(READY, LABELS)
    return Head(SINGLE, fitted.classes_, Layers(PREPARE, (fitted.coef_,), (fitted.intercept_,)), NONE)


def test_a_temperature_softens_and_changes_no_prediction(head: Head) -> None:
    soft = Head(SINGLE, head.classes_, head.scorer, Calibration.temperature(4.0, 10))
    np.testing.assert_array_equal(soft.predict(TEST), head.predict(TEST))
    np.testing.assert_allclose(soft.predict_proba(TEST), softmax(head.scores(TEST) / 4, axis=1))


@pytest.mark.parametrize("score", ["confidence", "energy"])
def test_what_is_below_the_threshold_is_unknown(head: Head, score: str) -> None:
    knowing = head.knowing(head.scores(TEST), score)
    threshold = float(np.quantile(knowing, 0.2))
    careful = Head(SINGLE, head.classes_, head.scorer, NONE, Rejection(score, threshold, "20 % quantile"))
    assert careful.is_unknown(TEST).sum() == (knowing < threshold).sum() == 60
    assert set(careful.predict(TEST)) <= set(head.classes_)
    if score == "confidence":
        np.testing.assert_allclose(knowing, head.predict_proba(TEST).max(axis=1))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kind": "both"}, "single, multi, regression"),
        ({"classes_": np.array(["a"] * 10)}, "1 of them different"),
        ({"classes_": np.arange(9)}, "has 9 classes, and scores for 10"),
        ({"calibration": Calibration.none(9)}, r"calibration is \(9,\)"),
        ({"calibration": Calibration(-np.ones(10), np.zeros(10))}, "not positive"),
        ({"calibration": Calibration(np.full(10, np.nan), np.zeros(10))}, "finite"),
        ({"rejection": Rejection("luck", 0.5, "")}, "no rejection"),
        ({"rejection": Rejection("energy", float("nan"), "")}, "no rejection"),
    ],
)
def test_parts_that_do_not_fit_are_no_head(head: Head, changed: dict, words: str) -> None:
    parts = {name: getattr(head, name) for name in ("kind", "classes_", "scorer", "calibration", "rejection")}
    with pytest.raises(HeadInvalid, match=words):
        Head(**{**parts, **changed})


def test_layers_that_do_not_fit_are_none() -> None:
    for weights, biases in (((), ()), ((np.ones((3, 63)),), (np.ones(3),)), ((np.ones((3, 64)),), (np.ones(2),))):
        with pytest.raises(HeadInvalid):
            Layers(PREPARE, weights, biases)
