import numpy as np
import pytest

from classifiers.errors import HeadInvalid, InvalidOption, NotFinite
from classifiers.fewshot import NearestClassMean
from classifiers.preparation import TRANSFORMATIONS, Preparation

X = np.random.default_rng(0).normal(3, 1, (50, 8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaled_rows_are_centred_and_of_mean_squared_length_one(dtype: type) -> None:
    rows = X.astype(dtype)
    found = Preparation.fit(rows)(rows)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    assert (found**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)


def test_centred_rows_are_of_unit_length_and_those_at_the_centre_are_zeros() -> None:
    prepare = Preparation.fit(X, "CL2N")
    np.testing.assert_allclose(np.linalg.norm(prepare(X), axis=1), 1)
    at_the_centre = prepare.center[np.newaxis] / np.linalg.norm(prepare.center)
    assert Preparation("CL2N", at_the_centre[0])(at_the_centre).tolist() == [[0.0] * 8]


def test_un_changes_nothing_and_l2n_the_length_alone() -> None:
    np.testing.assert_array_equal(Preparation.fit(X, "UN")(X), X)
    np.testing.assert_allclose(Preparation.fit(X, "L2N")(X), X / np.linalg.norm(X, axis=1, keepdims=True))


def test_embeddings_that_are_all_alike_are_not_blown_up() -> None:
    alike = np.tile(X[:1], (5, 1))
    assert np.abs(Preparation.fit(alike)(alike)).max() < 1e-12


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_zeros_tiny_and_huge_rows_are_finite(transformation: str) -> None:
    rows = np.stack([np.zeros(8), np.full(8, 1e-300), np.full(8, 1e300)])
    assert np.isfinite(Preparation.fit(X, transformation)(rows)).all()


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match=r"X is \(2, 7\), the head takes \(n, 8\)"):
        Preparation.fit(X)(np.ones((2, 7)))
    with pytest.raises(NotFinite):
        Preparation.fit(X)(np.full((1, 8), np.nan))
    with pytest.raises(NotFinite):
        Preparation.fit(np.full((1, 8), np.inf))
    with pytest.raises(InvalidOption, match="not one of UN, L2N, CL2N, SCALED"):
        Preparation.fit(X, "L1")


@pytest.mark.parametrize(
    "parts", [("L1", np.zeros(3)), ("L2N", np.zeros((3, 3))), ("L2N", np.array([np.nan])), ("SCALED", np.zeros(3), 0.0)]
)
def test_what_no_preparation_can_be_is_refused(parts: tuple) -> None:
    with pytest.raises(HeadInvalid):
        Preparation(*parts)


def test_whole_numbers_are_taken() -> None:
    assert Preparation.fit(X, "L2N")(np.array([[3, 4, 0, 0, 0, 0, 0, 0]])).tolist()[0][:2] == [0.6, 0.8]


def test_l2n_is_that_of_the_nearest_class_mean() -> None:
    y = np.arange(50) % 2
    means = NearestClassMean(transformation="L2N").fit(X, y).means_
    np.testing.assert_allclose(Preparation.fit(X, "L2N")(X)[y == 1].mean(axis=0), means[1])
