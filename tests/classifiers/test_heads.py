import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize
from sklearn.utils.estimator_checks import parametrize_with_checks

from classifiers.errors import TooFewExamples
from classifiers.heads import DEFAULT_C, LogisticHead


@parametrize_with_checks([LogisticHead()])
def test_scikit_learns_contract(estimator: BaseEstimator, check) -> None:  # noqa: ANN001  # a partial of theirs
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, ...]:
    data = load_digits()
    return train_test_split(data.data, data.target, test_size=0.5, random_state=0, stratify=data.target)


def test_it_chooses_a_c_that_does_no_worse_than_scikit_learns_default(digits: tuple[np.ndarray, ...]) -> None:
    X, X_test, y, y_test = digits
    head = LogisticHead(random_state=0).fit(X, y)
    default = LogisticRegression(max_iter=2000).fit(normalize(X), y)
    assert head.score(X_test, y_test) >= default.score(normalize(X_test), y_test)
    assert head.score(X_test, y_test) > 0.95
    assert min(head.cv_scores_, key=head.cv_scores_.get) == head.C_
    assert set(head.cv_scores_) == set(head.Cs)


def test_with_one_c_it_is_scikit_learns_own_on_the_same_inputs(digits: tuple[np.ndarray, ...]) -> None:
    X, X_test, y, _ = digits
    head = LogisticHead(Cs=(3.0,), tol=1e-8, max_iter=5000).fit(X, y)
    unit = normalize(X)
    center = unit.mean(axis=0)
    scale = np.sqrt(((unit - center) ** 2).sum(axis=1).mean())
    reference = LogisticRegression(C=3.0 / scale**2, tol=1e-8, max_iter=5000).fit(unit, y)
    assert head.C_ == 3.0
    np.testing.assert_allclose(head.predict_proba(X_test), reference.predict_proba(normalize(X_test)), atol=1e-4)


def test_length_does_not_matter(digits: tuple[np.ndarray, ...]) -> None:
    X, X_test, y, _ = digits
    head = LogisticHead(Cs=(1.0,)).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(1000 * X_test), head.predict_proba(X_test), atol=1e-9)


def test_it_is_the_same_for_a_seed(digits: tuple[np.ndarray, ...]) -> None:
    X, X_test, y, _ = digits
    head = LogisticHead(random_state=7, Cs=(1.0, 10.0)).fit(X[:200], y[:200])
    again = clone(head).fit(X[:200], y[:200])
    np.testing.assert_array_equal(head.decision_function(X_test), again.decision_function(X_test))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_dtypes_and_names(digits: tuple[np.ndarray, ...], dtype: type) -> None:
    X, X_test, y, y_test = digits
    names = np.array([f"digit {i}" for i in range(10)])
    head = LogisticHead(Cs=(10.0,)).fit(X[:300].astype(dtype), names[y[:300]])
    assert head.score(X_test.astype(dtype), names[y_test]) > 0.85
    assert set(head.predict(X_test)) <= set(names)


def test_few_examples_have_fewer_folds_and_one_has_the_default_c() -> None:
    X = np.eye(6)
    assert LogisticHead().fit(X, [0, 0, 1, 1, 2, 2]).cv_scores_
    single = LogisticHead().fit(X, [0, 0, 0, 1, 1, 2])
    assert single.cv_scores_ == {}
    assert single.C_ == DEFAULT_C
    assert single.predict(X).tolist() == [0, 0, 0, 1, 1, 2]


def test_one_class_is_a_clear_error() -> None:
    with pytest.raises(TooFewExamples, match=r"all 3 examples are of 1 class, 'cat', .* add examples of another class"):
        LogisticHead().fit(np.eye(3), ["cat"] * 3)


def test_nan_is_refused_and_zero_vectors_are_not() -> None:
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    head = LogisticHead().fit(X, [0, 1, 1, 0])
    assert np.isfinite(head.predict_proba(X)).all()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        head.predict(X)
