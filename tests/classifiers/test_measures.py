import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from classifiers.errors import InvalidLabels, InvalidOption, NotFinite, TooFewExamples
from classifiers.measures import Measured, as_json, multi_label, open_set, positions, regression, single_label

EXACT = 1e-12
Floats = NDArray[np.float64]


def drawn(n: int, n_classes: int, *, seed: int = 0) -> tuple[NDArray[np.int64], Floats]:
    """Calibrated probabilities, and labels drawn by them."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(n_classes, 0.4), n)
    return (p.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=n_classes - 1), p


@pytest.mark.parametrize(("n", "n_classes"), [(2, 2), (300, 2), (500, 12), (200, 150)])
def test_single_label_measures_are_scikit_learns(n: int, n_classes: int) -> None:
    y, p = drawn(n, n_classes)
    classes, said = np.arange(n_classes), p.argmax(axis=1)
    found = single_label(y, p, classes, n_resamples=50)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(y, said), abs=EXACT)
    recalls = metrics.recall_score(y, said, labels=np.unique(y), average="macro")
    assert found.balanced_accuracy.value == pytest.approx(recalls, abs=EXACT)
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(y, said, average="macro"), abs=EXACT)
    assert found.log_loss.value == pytest.approx(metrics.log_loss(y, p, labels=classes), abs=1e-9)
    assert found.confusion.tolist() == metrics.confusion_matrix(y, said, labels=classes).tolist()
    rows = metrics.precision_recall_fscore_support(y, said, labels=classes, zero_division=0)
    ours = [(one.precision, one.recall, one.f1, one.support) for one in found.per_class]
    assert np.allclose(np.transpose(rows), ours, atol=EXACT)
    assert [one.predicted for one in found.per_class] == np.bincount(said, minlength=n_classes).tolist()


def test_calibration_error_by_hand() -> None:
    # Two bins: (8/15, 9/15] with confidence .55 twice, one right; (13/15, 14/15] with .9 twice, both right.
    p = np.array([[0.55, 0.45], [0.55, 0.45], [0.9, 0.1], [0.1, 0.9]])
    found = single_label([0, 1, 0, 1], p, [0, 1], n_resamples=10)
    assert found.ece.value == pytest.approx(0.5 * 0.05 + 0.5 * 0.1, abs=EXACT)
    assert [(one.n, one.accuracy) for one in found.reliability] == [(2, 0.5), (2, 1.0)]
    assert [one.confidence for one in found.reliability] == pytest.approx([0.55, 0.9])


def test_certain_and_wrong_is_finite() -> None:
    found = single_label(["a", "b"], [[1.0, 0.0], [1.0, 0.0]], ["a", "b"], n_resamples=20)
    assert found.ece.value == 0.5
    assert found.log_loss.value == pytest.approx(-np.log(np.finfo(np.float64).eps) / 2)
    assert np.isfinite([found.log_loss.low, found.log_loss.high]).all()
    assert found.per_class[1].predicted == 0
    assert found.per_class[1].precision == 0


def test_intervals_cover_the_truth() -> None:
    covered = 0
    for seed in range(60):
        right = np.random.default_rng(seed).random(150) < 0.8
        p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        accuracy = single_label(np.zeros(150, int), p, [0, 1], n_resamples=300).accuracy
        covered += accuracy.low <= 0.8 <= accuracy.high
    assert covered >= 52  # 57 of 60 are expected; fewer than 52 once in 100


def test_an_interval_is_that_of_a_plain_bootstrap() -> None:
    y, p = drawn(400, 5)
    random, values = np.random.default_rng(1), []
    for _ in range(1000):
        rows = random.integers(400, size=400)
        values.append(metrics.f1_score(y[rows], p[rows].argmax(axis=1), average="macro"))
    found = single_label(y, p, range(5)).macro_f1
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.01)


def test_a_seed_gives_the_same_intervals_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p = drawn(100, 3)
    once = single_label(y, p, range(3), n_resamples=40)
    monkeypatch.setattr("classifiers.measures.BLOCK_WEIGHTS", 700)
    again = single_label(y, p, range(3), n_resamples=40)
    assert once.log_loss.low == pytest.approx(again.log_loss.low, abs=EXACT)
    assert once.ece.high == pytest.approx(again.ece.high, abs=EXACT)


def test_every_value_is_within_its_interval() -> None:
    for seed in range(5):
        y, p = drawn(30, 8, seed=seed)
        found = single_label(y, p, range(8), n_resamples=100)
        for one in vars(found).values():
            assert not isinstance(one, Measured) or one.low <= one.value <= one.high


def test_classes_may_be_in_any_order_and_of_any_kind() -> None:
    y, p = drawn(100, 3)
    named = single_label(np.array(["z", "ä", "m"])[y], p, ["z", "ä", "m"], n_resamples=5)
    assert named.accuracy == single_label(y, p, [0, 1, 2], n_resamples=5).accuracy
    assert positions([10, -1, 10], [10, -1]).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("y", "p", "classes", "error"),
    [
        (["c"], [[0.5, 0.5]], ["a", "b"], InvalidLabels),
        (["a"], [[0.5, 0.5]], ["a"], InvalidLabels),
        (["a", "a"], [[0.5, 0.5]], ["a", "b"], InvalidLabels),
        (["a"], [[np.nan, 0.5]], ["a", "b"], NotFinite),
        ([], np.zeros((0, 2)), ["a", "b"], TooFewExamples),
    ],
)
def test_what_cannot_be_measured_is_refused(
    y: list[str], p: Floats, classes: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        single_label(y, p, classes)


def test_no_resample_is_refused() -> None:
    with pytest.raises(InvalidOption, match="n_resamples is 0"):
        single_label([0], [[1.0, 0.0]], [0, 1], n_resamples=0)


def test_multi_label_measures_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    p = random.random((200, 6)).round(2)
    Y = random.random((200, 6)) < p
    Y[:, 5] = False  # a label that is never there
    found = multi_label(Y, p, n_resamples=50)
    said = p >= 0.5
    assert found.micro_f1.value == pytest.approx(metrics.f1_score(Y, said, average="micro"), abs=EXACT)
    macro = metrics.f1_score(Y, said, average="macro", zero_division=0)
    assert found.macro_f1.value == pytest.approx(macro, abs=EXACT)
    assert found.subset_accuracy.value == pytest.approx(metrics.accuracy_score(Y, said), abs=EXACT)
    ranking = metrics.label_ranking_average_precision_score(Y, p)
    assert found.ranking_precision.value == pytest.approx(ranking, abs=EXACT)
    clipped = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    loss = np.mean([metrics.log_loss(Y[:, i], clipped[:, i], labels=[0, 1]) for i in range(6)])
    assert found.log_loss.value == pytest.approx(loss, abs=1e-9)
    assert sum(one.n for one in found.reliability) == Y.size
    assert found.per_class[5].support == 0


def test_multi_label_calibration_by_hand() -> None:
    found = multi_label([[1, 0], [0, 0]], [[0.9, 0.1], [0.9, 0.1]], n_resamples=10)
    assert found.ece.value == pytest.approx(0.5 * 0.4 + 0.5 * 0.1, abs=EXACT)


def test_regression_measures_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    y = 1e6 + random.normal(size=300)  # far from 0: a naive difference of sums would lose its digits
    said = y + random.normal(scale=0.5, size=300)
    found = regression(y, said, n_resamples=200)
    assert found.r2.value == pytest.approx(metrics.r2_score(y, said), abs=1e-9)
    assert found.mae.value == pytest.approx(metrics.mean_absolute_error(y, said), abs=EXACT)
    assert found.rmse.value == pytest.approx(metrics.root_mean_squared_error(y, said), abs=EXACT)
    assert found.rmse.low < found.rmse.value < found.rmse.high


def test_regression_on_equal_values_is_finite() -> None:
    found = regression([3.0, 3.0], [3.0, 4.0], n_resamples=20)
    assert found.r2.value == 0
    assert np.isfinite([found.r2.low, found.r2.high]).all()


def test_open_set_measures() -> None:
    in_scope = np.array([True] * 20 + [False] * 10)
    right = np.array([True] * 18 + [False] * 12)
    rejected = np.array([False] * 19 + [True] + [True] * 6 + [False] * 4)
    score = np.concatenate([np.linspace(0.5, 1, 20), np.linspace(0.0, 0.6, 10)])
    found = open_set(in_scope, right, rejected, score, n_resamples=100)
    assert (found.n_in_scope, found.n_out_of_scope) == (20, 10)
    assert found.in_scope_accuracy.value == 0.9
    assert found.out_of_scope_recall.value == 0.6
    assert found.auroc == pytest.approx(metrics.roc_auc_score(in_scope, score))
    assert found.fpr95 == pytest.approx((score[20:] >= np.quantile(score[:20], 0.05)).mean())
    assert open_set(in_scope, right, rejected).auroc is None


def test_open_set_needs_items_of_both_kinds() -> None:
    with pytest.raises(TooFewExamples, match="some of both"):
        open_set([True], [True], [False])


def test_measures_go_through_json() -> None:
    y, p = drawn(50, 3)
    found = single_label(y, p, range(3), n_resamples=10)
    facts = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert facts["accuracy"] == {"value": found.accuracy.value, "low": found.accuracy.low, "high": found.accuracy.high}
    assert facts["confusion"] == found.confusion.tolist()
    assert as_json({"a": np.float32(np.nan), 2: (np.int64(3), True, None, "x")}) == {
        "a": None,
        "2": [3, True, None, "x"],
    }
