import builtins
from typing import Any

import numpy as np
import pytest

from classifiers.errors import InvalidLabels, InvalidOption, NotFinite, TooFewExamples
from classifiers.suspects import label_suspects, out_of_fold
from tests.classifiers.conftest import Digits


def changed(digits: Digits, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which 3 % are wrong, and where."""
    random = np.random.default_rng(seed)
    wrong = random.choice(len(digits.y), round(0.03 * len(digits.y)), replace=False)
    y = digits.y.copy()
    y[wrong] = (y[wrong] + random.integers(1, 10, len(wrong))) % 10
    return y, wrong


@pytest.mark.parametrize("seed", [0, 1])
def test_changed_labels_are_found(digits: Digits, seed: int) -> None:
    y, wrong = changed(digits, seed=seed)
    p = out_of_fold(digits.X, y, np.arange(10), random_state=seed)
    found = label_suspects(y, p, np.arange(10), n=90)
    assert np.isin(wrong, found.rows).mean() >= 0.9
    hit = np.isin(found.rows, wrong)
    assert (found.suggested[hit] == digits.y[found.rows[hit]]).mean() >= 0.9
    assert (np.diff(found.scores) >= 0).all()
    assert found.n_estimated == pytest.approx(len(wrong), abs=30)


def test_the_estimate_is_cleanlabs(digits: Digits) -> None:
    count = pytest.importorskip("cleanlab.count")
    y, _ = changed(digits, seed=0)
    p = out_of_fold(digits.X, y, np.arange(10))
    assert label_suspects(y, p, np.arange(10)).n_estimated == count.num_label_issues(y, p)


@pytest.mark.parametrize("ranking", ["self_confidence", "normalized_margin", "confidence_weighted_entropy"])
def test_cleanlabs_rankings(ranking: str) -> None:
    pytest.importorskip("cleanlab")
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.05, 0.95], [0.6, 0.4]])
    assert label_suspects([0, 1, 0, 0], p, [0, 1], ranking=ranking).rows[0] == 2


def test_without_cleanlab_its_rankings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("cleanlab"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidOption, match="pip install cleanlab"):
        label_suspects([0, 1], [[0.9, 0.1], [0.1, 0.9]], [0, 1], ranking="self_confidence")


def test_log_odds_by_hand() -> None:
    found = label_suspects(["b", "a"], [[0.8, 0.2], [0.6, 0.4]], ["a", "b"])
    assert found.rows.tolist() == [0, 1]
    assert found.suggested.tolist() == [0, 1]
    assert found.scores == pytest.approx([np.log(0.2 / 0.8), np.log(0.6 / 0.4)])


def test_certain_probabilities_are_finite() -> None:
    found = label_suspects([0, 0, 1], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1])
    assert found.rows[0] == 1
    assert np.isfinite(found.scores).all()


def test_a_class_that_no_label_names_and_one_that_is_alone() -> None:
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(6, 4)) + 5, random.normal(size=(6, 4)) - 5, [[9.0, -9, 9, -9]]])
    y = ["a"] * 6 + ["b"] * 6 + ["alone"]
    classes = ["a", "alone", "b", "never"]
    p = out_of_fold(X, y, classes)
    assert p.sum(axis=1) == pytest.approx(1)
    assert p[-1].tolist() == [0, 1, 0, 0]
    assert not p[:, 3].any()
    assert label_suspects(y, p, classes).n_estimated == 0


def test_two_examples_are_each_held_out() -> None:
    assert out_of_fold([[1.0, 0], [0, 1.0], [1, 0.1], [0.1, 1]], [5, 7, 5, 7], [5, 7]).argmax(axis=1).tolist() == [
        0,
        1,
        0,
        1,
    ]


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(TooFewExamples, match="1 class"):
        out_of_fold([[1.0], [2.0]], ["a", "a"], ["a", "b"])
    with pytest.raises(InvalidOption, match="folds is 1"):
        out_of_fold([[1.0], [2.0]], ["a", "b"], ["a", "b"], folds=1)
    with pytest.raises(InvalidLabels, match="probabilities are"):
        label_suspects(["a"], [[0.5, 0.5]], ["a"])
    with pytest.raises(NotFinite):
        label_suspects(["a"], [[np.inf, 0.5]], ["a", "b"])
    with pytest.raises(InvalidOption, match="ranking is 'best'"):
        label_suspects(["a"], [[0.5, 0.5]], ["a", "b"], ranking="best")
    assert len(label_suspects(["a"], [[1.0]], ["a"]).rows) == 0
