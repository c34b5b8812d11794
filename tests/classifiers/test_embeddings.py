import numpy as np
import pytest

from classifiers import embeddings, preparation
from classifiers.embeddings import check_finite, first_alike, unit_length
from classifiers.errors import NotFinite
from classifiers.preparation import TRANSFORMATIONS, Preparation

X = np.random.default_rng(0).normal(3, 1, (50, 8)).astype(np.float32)


def test_rows_are_alike_that_have_the_same_bytes_not_those_of_the_same_sum() -> None:
    rows = np.array([[1, 2], [2, 1], [1, 2], [0, 0], [0, -0.0], [5, 6], [2, 1]], np.float32)
    assert first_alike(rows).tolist() == [0, 1, 0, 3, 4, 5, 1]
    assert first_alike(rows[:0]).tolist() == []


def test_rows_that_are_not_finite_are_alike_too() -> None:
    rows = np.array([[np.nan, 1], [np.inf, -np.inf], [np.nan, 1], [np.inf, -np.inf], [np.inf, 1]], np.float32)
    assert first_alike(rows).tolist() == [0, 1, 0, 1, 4]


def test_very_many_rows_are_worked_on_block_by_block_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [unit_length(X), *(Preparation.fit(X, one)(X) for one in TRANSFORMATIONS)]
    for module in (embeddings, preparation):
        monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    parts = [unit_length(X), *(Preparation.fit(X, one)(X) for one in TRANSFORMATIONS)]
    for one, other in zip(whole, parts, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=1e-6)
    holed = X.copy()
    holed[[3, 20, 49], 1] = np.nan, np.inf, -np.inf
    with pytest.raises(NotFinite, match=r"3 of the 50 rows.*row 3"):
        check_finite(holed)
