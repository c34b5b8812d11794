import numpy as np
import pytest
from scipy.special import expit, softmax

from classifiers.calibrate import calibrate, check_calibration, log_loss, platt, temperature
from classifiers.errors import InvalidOption


def drawn(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw a label of each row by the softmax of its scores."""
    below = softmax(scores, axis=1).cumsum(axis=1)
    return (np.random.default_rng(seed).random((len(scores), 1)) > below).sum(axis=1).clip(max=scores.shape[1] - 1)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_temperature_that_labels_were_drawn_with_is_found(size: float) -> None:
    scores = np.random.default_rng(1).normal(scale=2, size=(4000, 5))
    assert temperature(scores * size, drawn(scores)) == pytest.approx(size, rel=0.06)


def test_scores_without_a_mistake_are_no_certainty() -> None:
    scores = np.eye(3).repeat(20, axis=0)
    found = calibrate(scores, np.arange(3).repeat(20), "single", "temperature")
    assert 0.9 < softmax(found(scores), axis=1).max() < 0.999


def test_a_class_that_was_not_learnt_tells_nothing() -> None:
    scores = np.random.default_rng(1).normal(scale=2, size=(500, 3))
    values = drawn(scores)
    more, labels = np.concatenate([scores, scores[:9]]), np.concatenate([values, [2] * 9])
    more[-9:, 2] = -np.inf
    assert temperature(more, labels) == pytest.approx(temperature(scores, values), rel=0.02)
    assert np.isfinite(log_loss(more, labels, "single"))


def test_scores_that_are_all_alike_stay() -> None:
    assert temperature(np.zeros((40, 3)), np.zeros(40, int)) == 1


def test_platts_sigmoid_is_found() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(3, 10, size=20_000)
    labels = (random.random(20_000) < expit(0.4 * scores - 2)).astype(int)
    scale, shift = platt(scores, labels)
    assert scale == pytest.approx(0.4, rel=0.05)
    assert shift == pytest.approx(-2, rel=0.05)


def test_a_sigmoid_never_turns_scores_round() -> None:
    scores = np.linspace(-1, 1, 50)
    scale, shift = platt(scores, (scores < 0).astype(int))
    assert scale > 0
    np.testing.assert_allclose(expit(scale * scores + shift), 0.5, atol=0.01)


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_several_labels_are_calibrated_each(method: str) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(2000, 3))
    values = (random.random((2000, 3)) < expit(3 * scores)).astype(int)
    found = calibrate(scores, values, "multi", method)
    np.testing.assert_allclose(found.scale, 3, rtol=0.15)
    assert log_loss(found(scores), values, "multi") < log_loss(scores, values, "multi")


def test_none_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_array_equal(calibrate(scores, drawn(scores), "single", "none")(scores), scores)


@pytest.mark.parametrize(
    ("name", "kind"), [("sigmoid", "single"), ("temperature", "regression"), ("isotonic", "multi")]
)
def test_a_calibration_that_a_kind_has_not_is_refused(name: str, kind: str) -> None:
    with pytest.raises(InvalidOption, match=name):
        check_calibration(name, kind)
