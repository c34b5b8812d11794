"""What a task told, against what is so."""

import pytest

from extractor.errors import EmptyItem
from headwater.errors import DataInvalid
from headwater.fewshot import Classification
from headwater.fewshot_evaluation import measure
from headwater.prediction import Ranked


def classified(label: str, score: float, *, unknown: bool = False) -> Classification:
    return Classification(ranking=(Ranked(label, 0.9),), score=score, unknown=unknown)


def test_a_task_is_measured_at_several_thresholds() -> None:
    told = [classified("a", 3.0), classified("b", 2.0), classified("a", 1.0, unknown=True), classified("a", 0.5)]
    failed = Classification(error=EmptyItem("nothing"))
    found = measure(["a", "b", "b", "x", "a"], [*told, failed], {"a", "b"}, thresholds={0.0: None, 0.5: 2.5})
    assert (found.n_in_scope, found.n_out_of_scope, found.n_failed, found.strange) == (3, 1, 1, ("x",))
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.in_scope_accuracy.value == pytest.approx(2 / 3)
    assert found.false_alarms.value == pytest.approx(1 / 3)
    assert found.out_of_scope_recall is not None
    assert found.out_of_scope_recall.value == 0.0
    assert found.auroc == 1.0
    none, high = found.points
    assert (none.false_alarms, none.out_of_scope_recall) == (0.0, 0.0)
    assert (high.in_scope_accuracy, high.false_alarms, high.out_of_scope_recall) == pytest.approx((1 / 3, 2 / 3, 1.0))
    closed = measure(["a", "b"], told[:2], {"a", "b"})
    assert (closed.auroc, closed.out_of_scope_recall) == (None, None)
    with pytest.raises(DataInvalid, match="none of the 1 items"):
        measure(["a"], told[:1], {"a"}, out_of_scope="a")
