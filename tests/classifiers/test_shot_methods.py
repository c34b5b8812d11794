"""The few-shot methods against brute force and scikit-learn's own."""

import numpy as np
import pytest
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.cached_keys import CachedKeys
from classifiers.embeddings import unit_length
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.neighbours import NearestNeighbours
from classifiers.preparation import Preparation
from classifiers.score_classifier import ScoreClassifier
from classifiers.shot_heads import KernelLogistic, RidgeHead
from tests.classifiers.conftest import Digits

METHODS = [NearestNeighbours(), CachedKeys(), RidgeHead(), KernelLogistic()]


@parametrize_with_checks(METHODS)
def test_scikit_learns_contract(estimator: ScoreClassifier, check) -> None:  # noqa: ANN001  # a partial of theirs
    check(estimator)


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_one_shot_of_each_class_is_enough(method: ScoreClassifier) -> None:
    X = np.eye(4, dtype=np.float32)
    assert method.fit(X, ["a", "b", "c", "d"]).predict(2 * X).tolist() == ["a", "b", "c", "d"]
    assert method.fit(X, [7, 5, 3, 1]).predict(2 * X).tolist() == [7, 5, 3, 1]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_examples_that_are_all_alike_give_finite_answers(method: ScoreClassifier) -> None:
    p = method.fit(np.ones((4, 3)), [0, 0, 1, 1]).predict_proba([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(p, 0.5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_scores_stand_in_the_order_of_decisions(digits: Digits, method: ScoreClassifier) -> None:
    model = method.fit(digits.X[:60], digits.y[:60])
    assert (model.scores(digits.X).argmax(axis=1) == model.decision_function(digits.X).argmax(axis=1)).all()
    two = method.fit(digits.X[:60], digits.y[:60] > 4)
    assert two.scores(digits.X).shape == (1797, 2)
    assert two.decision_function(digits.X).shape == (1797,)


def test_neighbours_are_those_of_brute_force(digits: Digits) -> None:
    ours = NearestNeighbours(n_neighbors=7).fit(digits.X[:300], digits.y[:300])
    theirs = KNeighborsClassifier(7, weights="distance", algorithm="brute")
    theirs.fit(unit_length(digits.X[:300]).astype(np.float64), digits.y[:300])
    queries = unit_length(digits.X[300:]).astype(np.float64)
    np.testing.assert_allclose(ours.predict_proba(digits.X[300:]), theirs.predict_proba(queries), atol=1e-6)


def test_cached_keys_are_tip_adapters_formula(digits: Digits) -> None:
    X, y = digits.X[:100].astype(np.float64), digits.y[:100]
    keys, queries = unit_length(X), unit_length(digits.X[100:150].astype(np.float64))
    words = {label: np.random.default_rng(label).normal(size=64) for label in range(10)}
    prior = np.stack([words[label] / np.linalg.norm(words[label]) for label in range(10)])
    affinity = np.exp(-5.5 * (1 - queries @ keys.T))
    expected = 2 * affinity @ np.eye(10)[y] + 100 * queries @ prior.T
    model = CachedKeys(alpha=2.0, prior=words).fit(X, y)
    np.testing.assert_allclose(model.scores(digits.X[100:150]), expected, rtol=1e-6)


def test_a_class_without_examples_is_known_by_its_vector() -> None:
    words = {"cat": [1.0, 0.0, 0.0], "dog": [0.0, 1.0, 0.0], "cow": [0.0, 0.0, 1.0]}
    model = CachedKeys(prior=words).fit([[1.0, 0.1, 0.0], [0.1, 1.0, 0.0]], ["cat", "dog"])
    assert model.classes_.tolist() == ["cat", "cow", "dog"]
    assert model.predict([[0.0, 0.1, 1.0], [1.0, 0.0, 0.1]]).tolist() == ["cow", "cat"]


def test_a_prior_that_does_not_fit_is_refused() -> None:
    X, y = [[1.0, 0.0], [0.0, 1.0]], ["a", "b"]
    with pytest.raises(InvalidOption, match="no vector for class 'b'"):
        CachedKeys(prior={"a": [1.0, 0.0]}).fit(X, y)
    with pytest.raises(InvalidOption, match=r"is \(3,\), and embeddings are \(2,\)"):
        CachedKeys(prior={"a": [1.0, 0.0], "b": [1.0, 0.0, 0.0]}).fit(X, y)


def test_a_kernel_that_is_almost_flat_is_linear(digits: Digits) -> None:
    X, y = digits.X[:200].astype(np.float64), digits.y[:200]
    prepare = Preparation.fit(X)
    linear = LogisticRegression(C=10, max_iter=500, tol=1e-6, class_weight="balanced").fit(prepare(X), y)
    p = KernelLogistic(gamma=1e-5, tol=1e-6).fit(X, y).scores(digits.X[200:])
    np.testing.assert_allclose(p, linear.decision_function(prepare(digits.X[200:].astype(np.float64))), atol=2e-2)


@pytest.mark.parametrize("n_classes", [2, 10])
def test_weights_of_the_kernel_come_to_the_regression_on_its_components(digits: Digits, n_classes: int) -> None:
    X, y = digits.X[digits.y < n_classes].astype(np.float64), digits.y[digits.y < n_classes]
    prepare = Preparation.fit(X[:150])
    components = KernelPCA(kernel="rbf", gamma=0.5, eigen_solver="dense", remove_zero_eig=True).fit(prepare(X[:150]))
    found = components.transform(prepare(X))
    found /= np.sqrt((found[:150] ** 2).sum(axis=1).mean())
    model = LogisticRegression(C=10, tol=1e-3, class_weight="balanced").fit(found[:150], y[:150])
    expected = model.decision_function(found[150:])
    scores = KernelLogistic().fit(X[:150], y[:150]).decision_function(X[150:])
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_above_its_landmarks_a_kernel_is_about_as_good(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KernelLogistic().fit(digits.X[:900], digits.y[:900]).score(digits.X[900:], digits.y[900:])
    monkeypatch.setattr("classifiers.shot_heads.MAX_LANDMARKS", 300)
    model = KernelLogistic().fit(digits.X[:900], digits.y[:900])
    assert len(model.scorer_.support) == 300
    assert model.score(digits.X[900:], digits.y[900:]) > whole - 0.02


def test_a_regression_needs_two_classes_and_says_so() -> None:
    for method in (RidgeHead(), KernelLogistic()):
        with pytest.raises(TooFewExamples, match=r"of 1 class, 'only'.*NearestClassMean"):
            method.fit([[1.0, 2.0]], ["only"])


def test_options_are_checked() -> None:
    wrong = [NearestNeighbours(n_neighbors=0), CachedKeys(beta=-1), RidgeHead(alpha=0), KernelLogistic(C=np.inf)]
    for method in wrong:
        with pytest.raises(InvalidOption, match="take a positive number"):
            method.fit([[1.0], [2.0]], [0, 1])
