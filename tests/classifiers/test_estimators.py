from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from classifiers.chosen import Chosen, fit_head
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.estimators import METHODS, Candidate, Setting, candidates_of, check_head, weights_by_position
from classifiers.head import KINDS, MULTI, REGRESSION, SINGLE, Head
from classifiers.persist import Manifest, load_head, save_head
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Layers
from classifiers.target import Target
from tests.classifiers.conftest import Digits

EQUAL = 1e-12
ABLE = [(head, kind) for head, method in METHODS.items() for kind in method.kinds if head != "network"]


def labels(digits: Digits, kind: str) -> NDArray[Any]:
    y = digits.y[:300]
    if kind == SINGLE:
        return y
    return (
        np.stack([y > 4, y % 2 == 0, y % 3 == 0], axis=1).astype(int) if kind == MULTI else np.stack([y, -y], 1) / 2.0
    )


def fitted(digits: Digits, head: str, kind: str, n: int = 300, **setting: Any) -> Head:
    target = Target.of(labels(digits, kind)[:n], kind)
    candidate = Candidate(head, METHODS[head].default)
    return fit_head(candidate, digits.X[:n], target, Setting(kind, len(target.classes), random_state=0, **setting))


@pytest.mark.parametrize(("head", "kind"), ABLE)
def test_every_head_learns_and_comes_back_from_disk_the_same(
    head: str, kind: str, digits: Digits, tmp_path: Path
) -> None:
    found = fitted(digits, head, kind)
    save_head(tmp_path, found, Manifest(backbone="b", fingerprint="f", dim=64, created="2026-01-01T00:00:00Z"))
    again, _ = load_head(tmp_path)
    X = digits.X[300:400]
    assert np.abs(again.scores(X) - found.scores(X)).max() <= EQUAL
    assert isinstance(found.scorer, Fitted) == (head in ("knn", "rbf-svm-pairs"))
    y = digits.y[300:400]
    if kind == SINGLE:
        assert (found.predict(X) == y).mean() > 0.8
    elif kind == MULTI:
        assert (found.predict(X) == np.stack([y > 4, y % 2 == 0, y % 3 == 0], axis=1)).mean() > 0.75
    else:
        assert np.abs(found.predict(X)[:, 0] - y / 2).mean() < 1


@pytest.mark.parametrize("head", [head for head, kind in ABLE if kind == SINGLE])
def test_of_two_classes_the_scores_are_opposite(head: str, digits: Digits) -> None:
    two = np.flatnonzero(digits.y < 2)
    target = Target.of(digits.y[two[:60]])
    found = fit_head(Candidate(head, METHODS[head].default), digits.X[two[:60]], target, Setting(SINGLE, 2))
    assert found.scores(digits.X[two]).shape == (len(two), 2)
    assert (found.predict(digits.X[two]) == digits.y[two]).mean() > 0.97


def test_the_rbf_machine_is_scikit_learns_for_each_class(digits: Digits) -> None:
    X, y = digits.X[:300], digits.y[:300]
    prepared = Preparation.fit(X)(X).astype(float)
    weights = compute_sample_weight("balanced", y)
    found = fitted(digits, "rbf-svm", SINGLE, class_weight="balanced").scores(X)
    for own in range(10):
        machine = SVC(C=10, gamma=1.0).fit(prepared, y == own, sample_weight=weights)
        np.testing.assert_allclose(found[:, own], machine.decision_function(prepared), atol=5e-3)


def test_the_nearest_class_mean_is_a_linear_head(digits: Digits) -> None:
    found = fitted(digits, "ncm", SINGLE)
    assert isinstance(found.scorer, Layers)
    rows = found.scorer.preparation(digits.X[:300]).astype(float)
    means = np.stack([rows[digits.y[:300] == own].mean(axis=0) for own in range(10)])
    distances = ((rows[:, None] - means) ** 2).sum(axis=2)
    expected = -distances + (rows**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.scores(digits.X[:300]), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_learns_deterministically(kind: str, digits: Digits) -> None:
    from classifiers.network import Network

    prepared = Preparation.fit(digits.X[:300])(digits.X[:300])
    values = Target.of(labels(digits, kind), kind).values
    weight = None if kind == REGRESSION else "balanced"
    first, second = (
        Network(kind=kind, max_epochs=4, class_weight=weight, random_state=3).fit(prepared, values) for _ in range(2)
    )
    assert first.n_epochs_ == 4
    for one, other in zip(first.weights_ + first.biases_, second.weights_ + second.biases_, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rare_label_shifts_a_head_with_class_weights(digits: Digits) -> None:
    y = np.where(digits.y[:300] == 8, "eight", "other")
    for head in [one for one, method in METHODS.items() if method.weighs and one != "network"]:
        plain, weighted = (
            Chosen(head=head, params=METHODS[head].default, class_weight=weights).fit(digits.X[:300], y)
            for weights in (None, {"eight": 50.0})
        )
        wanted = [(one.predict(digits.X[300:]) == "eight").sum() for one in (plain, weighted)]
        assert wanted[1] >= wanted[0]


@pytest.mark.parametrize(
    ("head", "kind", "weight", "message"),
    [
        ("forest", SINGLE, None, "not one of auto, logistic"),
        ("lda", REGRESSION, None, "take one of linear-svm, rbf-svm, ridge, knn, network"),
        ("knn", SINGLE, "balanced", "take one of logistic, linear-svm"),
        ("ridge", REGRESSION, "balanced", "no classes"),
    ],
)
def test_what_a_head_cannot_do_is_refused_with_those_that_can(head: str, kind: str, weight: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        check_head(head, kind, weight)


@pytest.mark.parametrize("weight", ["heavy", {"z": 1}, {"a": -1}, {"a": float("inf")}, 3])
def test_class_weights_that_are_none_are_refused(weight: Any) -> None:
    with pytest.raises(InvalidOption, match="class_weight"):
        weights_by_position(weight, Target.of(["a", "b"]))


def test_lda_needs_more_examples_than_classes(digits: Digits) -> None:
    with pytest.raises(TooFewExamples, match="take 'ncm'"):
        fitted(digits, "lda", SINGLE, n=10)


def test_a_grid_has_every_combination() -> None:
    assert [one.params for one in candidates_of("knn")] == [{"n_neighbors": k} for k in (1, 3, 5, 10, 20)]
    assert [str(one) for one in candidates_of("lda")] == ["lda"]
    assert str(candidates_of("logistic")[0]) == "logistic C=0.1"
