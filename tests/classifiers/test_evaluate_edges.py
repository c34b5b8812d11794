from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.evaluate import EpisodeScores, episodes, evaluate_episodes
from classifiers.fewshot import NearestClassMean
from classifiers.heads import LogisticHead

SIZES = {"way": 4, "shots": 3, "queries": 5, "n_episodes": 20, "random_state": 0}


def test_an_episode_has_its_ways_shots_and_queries_and_no_example_twice(digits: Any) -> None:
    drawn = list(episodes(digits.y, **SIZES))
    assert len(drawn) == 20
    for support, query in drawn:
        assert len(np.unique(np.concatenate([support, query]))) == 4 * (3 + 5)
        of_support, shots = np.unique(digits.y[support], return_counts=True)
        of_query, queries = np.unique(digits.y[query], return_counts=True)
        np.testing.assert_array_equal(of_support, of_query)
        assert shots.tolist() == [3] * 4
        assert queries.tolist() == [5] * 4


def test_a_seed_draws_the_same_episodes_and_another_seed_others(digits: Any) -> None:
    one, same, other = (
        np.concatenate([episode.support for episode in episodes(digits.y, **SIZES | {"random_state": seed})])
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_every_class_and_every_example_gets_its_turn() -> None:
    y = np.repeat(["a", "b", "c"], 6)
    support = np.concatenate([one.support for one in episodes(y, way=2, shots=1, queries=1, n_episodes=600)])
    counts = np.bincount(support, minlength=18)
    # 1,200 draws over 18 examples: 66.7 each, standard deviation 8.
    assert counts.min() > 26
    assert counts.max() < 107


def test_a_class_may_be_used_to_its_last_example() -> None:
    (one,) = episodes([0, 0, 0, 1, 1, 1], way=2, shots=1, queries=2, n_episodes=1)
    assert sorted([*one.support, *one.query]) == [0, 1, 2, 3, 4, 5]


def test_a_class_with_too_few_examples_is_named_before_anything_is_drawn() -> None:
    with pytest.raises(TooFewExamples, match=r"class 'rare' has 2 examples, an episode needs 1 shots \+ 3 queries"):
        episodes(["rare"] * 2 + ["usual"] * 9, way=2, shots=1, queries=3, n_episodes=1)


def test_too_few_classes_are_told_before_anything_is_drawn() -> None:
    with pytest.raises(TooFewExamples, match="there are 2 classes, an episode needs 3"):
        episodes([0, 0, 1, 1], way=3, shots=1, queries=1, n_episodes=1)


@pytest.mark.parametrize("name", ["way", "shots", "queries", "n_episodes"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(InvalidOption, match=f"{name} is {value}"):
        episodes([0, 0, 1, 1], **{"way": 2, "shots": 1, "queries": 1, "n_episodes": 1} | {name: value})


def test_accuracies_are_those_of_a_loop_written_out(digits: Any) -> None:
    X, y = digits
    found = evaluate_episodes(KNeighborsClassifier(1), X, y, **SIZES)
    expected = []
    for support, query in episodes(y, **SIZES):
        nearest = ((X[query][:, None] - X[support]) ** 2).sum(axis=2).argmin(axis=1)
        expected.append((y[support][nearest] == y[query]).mean())
    np.testing.assert_array_equal(found.accuracies, expected)


def test_chance_is_one_in_way(digits: Any) -> None:
    scores = evaluate_episodes(DummyClassifier(strategy="most_frequent"), digits.X, digits.y, **SIZES)
    assert scores.mean == pytest.approx(1 / 4)
    assert scores.interval == 0


def test_the_interval_is_student_t_from_a_published_table() -> None:
    accuracies = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    scores = EpisodeScores(accuracies)
    assert scores.mean == pytest.approx(0.7)
    assert scores.interval == pytest.approx(2.776 * 0.158114 / 5**0.5, rel=1e-3)  # t of 4 degrees of freedom, 0.975


def test_one_episode_has_no_interval() -> None:
    assert np.isnan(EpisodeScores(np.array([0.5])).interval)


def test_the_estimator_that_was_given_stays_as_it_was(digits: Any) -> None:
    model = NearestClassMean()
    evaluate_episodes(model, digits.X, digits.y, **SIZES)
    assert not hasattr(model, "classes_")


def test_lists_will_do() -> None:
    X = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]
    scores = evaluate_episodes(NearestClassMean(), X, ["a", "a", "b", "b"], way=2, shots=1, queries=1, n_episodes=3)
    np.testing.assert_array_equal(scores.accuracies, [1.0, 1.0, 1.0])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        evaluate_episodes(NearestClassMean(), np.zeros((3, 2)), [0, 0, 1, 1], way=2, shots=1, queries=1)


def test_both_classifiers_learn_digits_from_five_shots(digits: Any) -> None:
    sizes = {"way": 10, "shots": 5, "queries": 15, "random_state": 0}
    few = evaluate_episodes(NearestClassMean(), digits.X, digits.y, n_episodes=50, **sizes)
    head = evaluate_episodes(LogisticHead(random_state=0), digits.X, digits.y, n_episodes=5, **sizes)
    assert few.mean > 0.8
    assert head.mean > 0.8
    assert 0 < few.interval < 0.02
