import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier

from classifiers.errors import TooFewExamples
from classifiers.evaluate import EpisodeScores, episodes, evaluate_episodes
from classifiers.fewshot import NearestClassMean

Y = np.repeat(["a", "b", "c", "d"], 10)


def test_an_episode_has_its_ways_shots_and_queries_and_shares_no_example() -> None:
    for one in episodes(Y, way=3, shots=2, queries=4, n_episodes=50, random_state=0):
        support, counts = np.unique(Y[one.support], return_counts=True)
        query, query_counts = np.unique(Y[one.query], return_counts=True)
        assert len(support) == 3
        assert set(counts) == {2}
        assert set(query_counts) == {4}
        assert support.tolist() == query.tolist()
        assert len({*one.support.tolist(), *one.query.tolist()}) == 3 * (2 + 4)


def test_episodes_are_the_same_for_a_seed_and_differ_among_themselves() -> None:
    first, again, other = (
        [one.support.tolist() for one in episodes(Y, way=2, shots=3, n_episodes=5, queries=5, random_state=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len({tuple(one) for one in first}) == 5


def test_too_few_of_anything_is_named() -> None:
    with pytest.raises(TooFewExamples, match="4 classes, an episode needs 5"):
        next(episodes(Y, way=5, shots=1, n_episodes=1))
    with pytest.raises(TooFewExamples, match="class 'a' has 10 examples, an episode needs 5 shots \\+ 15 queries"):
        next(episodes(Y, way=2, shots=5, n_episodes=1))


def test_the_interval_is_students() -> None:
    scores = EpisodeScores(np.array([0.5, 0.7, 0.6, 0.9]))
    low, high = stats.t.interval(0.95, 3, loc=scores.mean, scale=stats.sem(scores.accuracies))
    assert scores.mean == pytest.approx(0.675)
    assert scores.interval == pytest.approx((high - low) / 2)
    assert np.isnan(EpisodeScores(np.array([0.5])).interval)


def test_the_interval_covers_what_it_says() -> None:
    """Of a thousand draws of twenty episodes, about 95 % hold the truth."""
    draws = np.random.default_rng(0).binomial(50, 0.8, (1000, 20)) / 50
    scores = [EpisodeScores(row) for row in draws]
    assert 0.93 < np.mean([abs(one.mean - 0.8) <= one.interval for one in scores]) < 0.97


def test_chance_is_chance_and_a_classifier_is_better() -> None:
    X, y = load_digits(return_X_y=True)
    options = {"way": 5, "shots": 5, "n_episodes": 40, "random_state": 0}
    chance = evaluate_episodes(DummyClassifier(strategy="uniform", random_state=0), X, y, **options)
    found = evaluate_episodes(NearestClassMean(), X, y, **options)
    assert abs(chance.mean - 0.2) < 0.05
    assert found.mean > 0.8
    assert len(found.accuracies) == 40
