import numpy as np
import pytest

from classifiers.errors import InvalidOption
from classifiers.head import Calibration, Head
from classifiers.preparation import Preparation
from classifiers.reject import by_quantile, by_validation, check_rule
from classifiers.scorer import Layers


def head() -> Head:
    scorer = Layers(Preparation("UN", np.zeros(3)), (np.eye(3),), (np.zeros(3),))
    return Head("single", np.array(["a", "b", "c"]), scorer, Calibration.none(3))


def test_a_quantile_rejects_its_share() -> None:
    known = np.random.default_rng(0).random(1000)
    found = by_quantile(known, "confidence", 0.15)
    assert found is not None
    assert (known < found.threshold).mean() == pytest.approx(0.15, abs=0.001)
    assert found.rule == "0.15 quantile of held-out confidence"


def test_too_few_held_out_give_no_threshold() -> None:
    assert by_quantile(np.ones(19), "energy", 0.05) is None
    assert by_quantile(np.ones(20), "energy", 0.05) is not None


def test_validation_takes_the_highest_threshold_that_is_about_the_best() -> None:
    random = np.random.default_rng(0)
    scores = np.eye(3)[random.integers(3, size=60)] * 3 + random.normal(size=(60, 3))
    scores, foreign = scores.round(1), random.normal(size=(30, 3)).round(1)  # with ties
    right = random.random(60) < 0.8
    found = by_validation(head(), scores, right, foreign)

    def judged(by: str, threshold: float) -> np.ndarray:
        known, strange = head().knowing(scores, by) >= threshold, head().knowing(foreign, by) < threshold
        return np.concatenate([right & known, strange])

    def thresholds(by: str) -> np.ndarray:
        return np.unique(np.concatenate([head().knowing(scores, by), head().knowing(foreign, by), [np.inf]]))

    best = {by: max(judged(by, one).sum() for one in thresholds(by)) for by in ("confidence", "energy")}
    assert best[found.score] == max(best.values())
    assert f"{best[found.score] / 90:.4f}" in found.rule
    own = judged(found.score, found.threshold)
    first = next(one for one in thresholds(found.score) if judged(found.score, one).sum() == best[found.score])
    assert (best[found.score] - own.sum()) ** 2 <= (own != judged(found.score, first)).sum()
    for higher in thresholds(found.score)[thresholds(found.score) > found.threshold][1:]:
        other = judged(found.score, higher)
        assert (best[found.score] - other.sum()) ** 2 > (other != judged(found.score, first)).sum()


def test_validation_rejects_little_where_nothing_tells_apart() -> None:
    scores = np.tile(np.eye(3) * 9, (20, 1))
    found = by_validation(head(), scores, np.ones(60, bool), scores[:6])
    assert (head().knowing(scores, found.score) >= found.threshold).all()


def test_options_are_checked() -> None:
    assert check_rule(None, 0.05, "single", out_of_scope=False) == "none"
    assert check_rule("quantile", 0.05, "regression", out_of_scope=False) == "none"
    with pytest.raises(InvalidOption, match="not one of"):
        check_rule("entropy", 0.05, "single", out_of_scope=False)
    with pytest.raises(InvalidOption, match="reject_rate"):
        check_rule("quantile", 1.0, "single", out_of_scope=False)
    with pytest.raises(InvalidOption, match="needs out_of_scope"):
        check_rule("validation", 0.05, "single", out_of_scope=False)
