from typing import Any

import numpy as np
import pytest

from classifiers.errors import ClassifierError, InvalidLabels
from classifiers.target import Target


@pytest.mark.parametrize(
    ("y", "kind", "classes"),
    [
        (["b", "a", "b"], "single", ["a", "b"]),
        (np.array(["b", "a"], dtype=object), "single", ["a", "b"]),
        ([True, False], "single", [0, 1]),
        ([2.0, 1.0], "single", [1, 2]),
        ([[0, 1], [1, 0]], "multi", [0, 1]),
        (np.array([[0, 1], [1, 0]], bool), "multi", [0, 1]),
    ],
)
def test_the_kind_is_read_off_the_labels(y: Any, kind: str, classes: list[Any]) -> None:
    target = Target.of(y)
    assert (target.kind, target.classes.tolist()) == (kind, classes)
    assert all(type(one) in (int, str) for one in target.classes.tolist())
    np.testing.assert_array_equal(target.positions(y), target.values)


@pytest.mark.parametrize(
    "y", [[0.5, 1.5], [[0, 2], [1, 0]], [[1], [0]], [None, "a"], ["a", 1.5, None], [["a", "b"], ["b", "a"]]]
)
def test_labels_that_are_none_are_a_clear_error(y: Any) -> None:
    with pytest.raises(ClassifierError):
        Target.of(np.array(y, dtype=object) if None in y else y)


def test_other_labels_must_be_of_the_same_classes() -> None:
    with pytest.raises(InvalidLabels, match=r"1 labels have no training example, 'z' first"):
        Target.of(["a", "b"]).positions(["a", "z", "z"])
    with pytest.raises(InvalidLabels, match="as that of training"):
        Target.of([[0, 1], [1, 0]]).positions([[0, 1, 1]])


def test_a_regression_has_a_column_for_each_number() -> None:
    assert Target.of([1, 2, 3], "regression").values.tolist() == [[1.0], [2.0], [3.0]]
    assert Target.of([[1, 2], [3, 4]], "regression", ["w", "h"]).classes.tolist() == ["w", "h"]
    with pytest.raises(InvalidLabels, match="finite"):
        Target.of([1, np.nan], "regression")
