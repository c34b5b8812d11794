"""What is kept of a method scores as the method does."""

import pickle

import numpy as np
import pytest

from classifiers.adaptive import CLASS_MEAN, METHODS, _fitted, _scores
from classifiers.embeddings import unit_length
from classifiers.lean import ByExamples, lean
from tests.classifiers.conftest import Digits

TOLERANCE = 2e-4  # of float32, beside the largest score of a row


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("method", METHODS)
def test_it_scores_as_the_method(digits: Digits, method: str, n_classes: int) -> None:
    mine = digits.y < n_classes
    X, own = 3 * digits.X[mine][:120], digits.y[mine][:120]
    queries = np.concatenate([digits.X[1000:1300], X[:5]])
    unit = unit_length(X.astype(np.float64))
    expected = _scores(_fitted(method, unit, own), unit_length(queries.astype(np.float64)))
    found = lean(_fitted(method, unit, own), X)
    if isinstance(found, ByExamples):
        travelled = pickle.dumps(found.over(None))
        found = pickle.loads(travelled).over(X.copy())  # noqa: S301  # our own
    scores = found(queries)
    assert (scores.dtype, scores.shape) == (np.float64, expected.shape)
    np.testing.assert_allclose(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)
    one = np.concatenate([found(query[np.newaxis]) for query in queries[:20]])
    np.testing.assert_allclose(one, scores[:20], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("method", METHODS)
def test_examples_and_queries_of_zeros_have_finite_scores(method: str) -> None:
    own = np.arange(12) % 3
    for X in (np.zeros((12, 4), np.float32), np.ones((12, 4), np.float32)):
        found = lean(_fitted(method, unit_length(X.astype(np.float64)), own), X)
        for queries in (X, np.zeros((2, 4), np.float32), np.eye(4, dtype=np.float32)):
            assert np.isfinite(found(queries)).all()


def test_no_embedding_is_kept_twice(digits: Digits) -> None:
    X, own = digits.X[:50], digits.y[:50]
    for method in ("kernel-logistic", "knn"):
        found = lean(_fitted(method, unit_length(X.astype(np.float64)), own), X)
        assert isinstance(found, ByExamples)
        assert found.rows is X
    assert not isinstance(lean(_fitted(CLASS_MEAN, X.astype(np.float64), own), X), ByExamples)
