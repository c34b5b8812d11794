import numpy as np
import pytest

from classifiers.audit import audit
from classifiers.errors import InvalidLabels, InvalidOption, NotFinite
from classifiers.fewshot import NearestClassMean
from tests.classifiers.conftest import Digits


def ids(n: int) -> list[str]:
    return [f"e{i}" for i in range(n)]


def test_changed_labels_are_contradictions(digits: Digits) -> None:
    random = np.random.default_rng(0)
    X, true = digits.X[:500], digits.y[:500].astype(str)
    wrong = random.choice(500, 25, replace=False)
    y = true.copy()
    y[wrong] = ((digits.y[wrong] + random.integers(1, 10, 25)) % 10).astype(str)
    found = audit(X, y, ids(500), n=25)
    hits = [one for one in found.contradictions if int(one.id[1:]) in wrong]
    assert len(hits) >= 20
    assert np.mean([one.suggested == true[int(one.id[1:])] for one in hits]) >= 0.9
    for one in found.contradictions:
        assert one.label == y[int(one.id[1:])]
        assert one.label != one.suggested
        assert 0 <= one.probability < one.suggested_probability <= 1
    odds = [one.probability / one.suggested_probability for one in found.contradictions]
    assert odds == sorted(odds)
    assert found.n_contradictions > 25


def test_it_is_what_a_refit_without_each_example_says(digits: Digits) -> None:
    X, y = digits.X[:120], digits.y[:120].astype(str)
    found = audit(X, y, ids(120), n=120)
    model = NearestClassMean(transformation="L2N")  # a support's centre moves by its examples, and theirs alone
    centred = X - X.mean(axis=0)
    said = np.array(
        [model.fit(np.delete(centred, i, axis=0), np.delete(y, i)).predict(centred[i : i + 1])[0] for i in range(120)]
    )
    assert {one.id: one.suggested for one in found.contradictions} == {
        f"e{i}": said[i] for i in np.flatnonzero(said != y)
    }
    assert found.accuracy is not None
    assert found.accuracy.accuracy == (said == y).mean()
    assert found.accuracy.n_examples == 120
    assert found.accuracy.method == "class-mean"


def test_the_interval_is_wilsons() -> None:
    X = np.repeat(np.eye(2), 5, axis=0) + 1e-3 * np.random.default_rng(0).normal(size=(10, 2))
    found = audit(X, ["a"] * 5 + ["b"] * 4 + ["a"], ids(10))
    assert found.accuracy is not None
    p, z, n = 0.9, 1.959964, 10
    middle, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    said = (found.accuracy.accuracy, found.accuracy.low, found.accuracy.high)
    assert said == pytest.approx((p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)), abs=1e-6)


def test_planted_near_duplicates_are_all_found(digits: Digits) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 32))
    X = np.concatenate([X, X[:20] + 0.01 * random.normal(size=(20, 32)), 3 * X[20:30]])
    y = np.array(["a", "b"])[np.arange(430) % 2]
    y[420:] = "c"
    found = audit(X, y, ids(430))
    assert {(one.id, one.other_id) for one in found.duplicates} == {(f"e{i}", f"e{400 + i}") for i in range(30)}
    assert found.n_duplicates == 30
    similarities = [one.similarity for one in found.duplicates]
    assert similarities == pytest.approx(sorted(similarities, reverse=True), abs=1e-6)
    assert all(one.other_label == "c" and one.similarity == pytest.approx(1) for one in found.duplicates[:10])


def test_of_equal_copies_those_with_two_labels_come_first() -> None:
    X = np.repeat(np.eye(6), 2, axis=0)
    y = ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b", "b", "c"]
    found = audit(X, y, ids(12), n=3)
    assert [(one.label, one.other_label) for one in found.duplicates] == [("a", "b"), ("b", "c"), ("a", "a")]
    assert found.n_duplicates == 6


def test_overlapping_classes() -> None:
    random = np.random.default_rng(0)
    means = np.eye(8)[[0, 0, 1, 2]]  # the first two are the same
    y = np.repeat(["a", "b", "c", "d"], 40)
    X = np.repeat(means, 40, axis=0) + 0.05 * random.normal(size=(160, 8))
    found = audit(X, y, ids(160))
    assert [(one.label, one.other_label) for one in found.overlaps] == [("a", "b")]
    assert found.n_overlaps == 1
    assert found.overlaps[0].confused == pytest.approx(found.n_contradictions / 80)
    assert 0.2 < found.overlaps[0].confused < 0.8


def test_small_classes_those_without_examples_too() -> None:
    y = ["b"] * 4 + ["a"] * 5 + ["c"]
    found = audit(np.random.default_rng(0).normal(size=(10, 3)), y, ids(10), classes=["a", "d", "b", "c"])
    assert [(one.label, one.n_examples) for one in found.small_classes] == [("d", 0), ("c", 1), ("b", 4)]
    assert found.n_small_classes == 3
    assert found.accuracy is not None
    assert found.accuracy.n_examples == 9  # nobody can tell of the one that is alone


@pytest.mark.parametrize(("n", "y"), [(0, []), (1, ["a"]), (3, ["a", "a", "a"]), (2, ["a", "b"])])
def test_where_nothing_can_be_told(n: int, y: list[str]) -> None:
    found = audit(np.eye(3)[:n], y, ids(n))
    assert found.accuracy is None
    assert not found.contradictions
    assert not found.overlaps
    assert found.n_small_classes == len(set(y))


def test_ten_thousand_classes_and_zeros() -> None:
    X = np.concatenate([np.random.default_rng(0).normal(size=(10_400, 16)), np.zeros((2, 16))])
    y = [f"c{i % 10_000}" for i in range(10_402)]
    found = audit(X, y, ids(10_402), n=5)
    assert found.n_small_classes == 10_000
    assert len(found.small_classes) == len(found.contradictions) == 5
    assert found.accuracy is not None
    assert found.accuracy.n_examples == 804
    assert np.isfinite([one.suggested_probability for one in found.contradictions]).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidLabels, match="2 embeddings, 1 labels and 2 ids"):
        audit(np.eye(2), ["a"], ids(2))
    with pytest.raises(InvalidOption, match="n is 0"):
        audit(np.eye(2), ["a", "b"], ids(2), n=0)
    with pytest.raises(NotFinite, match="first row 1"):
        audit([[1.0, 2], [np.inf, 1]], ["a", "b"], ids(2))
