import numpy as np
import pytest

from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.folds import make_folds
from classifiers.target import Target


def test_every_class_is_spread_evenly_and_each_row_held_out_once() -> None:
    target = Target.of(np.repeat(["a", "b", "c"], [50, 20, 5]))
    folds = make_folds(target, cv=5, random_state=1)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(75))
    for fold in folds:
        assert np.bincount(target.values[fold.test]).tolist() == [10, 4, 1]
        assert sorted([*fold.train, *fold.test]) == list(range(75))


def test_a_seed_gives_the_same_folds() -> None:
    target = Target.of(np.arange(100) % 7)
    first, again, other = (make_folds(target, random_state=seed) for seed in (1, 1, 2))
    assert all((one.test == two.test).all() for one, two in zip(first, again, strict=True))
    assert any((one.test != two.test).any() for one, two in zip(first, other, strict=True))


def test_the_only_one_of_a_class_is_learnt_from_and_never_held_out() -> None:
    target = Target.of(["a"] * 6 + ["b"] * 2 + ["lonely"])
    folds = make_folds(target, cv=5, random_state=0)
    assert all(8 in fold.train and 8 not in fold.test for fold in folds)
    for fold in folds:  # what is held out was learnt
        assert set(target.values[fold.test]) <= set(target.values[fold.train])


def test_where_no_class_has_two_nothing_is_held_out() -> None:
    assert make_folds(Target.of(["a", "b", "c"])) == ()


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_a_group_is_never_on_both_sides(kind: str) -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    y = {
        "single": np.array(["a", "b", "c", "rare"])[random.choice(4, 100, p=[0.5, 0.3, 0.17, 0.03])],
        "multi": random.integers(2, size=(100, 3)),
        "regression": random.normal(size=100),
    }[kind]
    folds = make_folds(Target.of(y, kind), cv=5, groups=groups, random_state=0)
    assert len(folds) == 5
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_there_are_no_more_folds_than_groups() -> None:
    target = Target.of(["a", "b"] * 6)
    assert len(make_folds(target, cv=5, groups=[1, 1, 2, 2, 3, 3] * 2)) == 3


def test_rare_sets_of_labels_and_tiny_data_are_dealt() -> None:
    assert len(make_folds(Target.of([[0, 1], [1, 0], [1, 1]], "multi"))) == 3
    assert len(make_folds(Target.of([0.5, 1.5], "regression"))) == 2


def test_options_are_checked() -> None:
    target = Target.of(["a", "b"] * 6)
    with pytest.raises(InvalidOption, match="cv is 1"):
        make_folds(target, cv=1)
    with pytest.raises(InvalidOption, match="groups are"):
        make_folds(target, groups=[1, 2])
    with pytest.raises(TooFewExamples, match="1 group"):
        make_folds(target, groups=[1] * 12)


def test_copies_count_as_one_and_stay_together() -> None:
    y = np.repeat(["a", "b"], [40, 10])
    same = np.arange(50)
    same[10:20], same[41] = np.arange(10), 40
    folds = make_folds(Target.of(y), cv=5, same=same, random_state=0)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(50))
    for fold in folds:
        assert not set(same[fold.train]) & set(same[fold.test])
        assert len(set(same[fold.test])) in (7, 8)
    alone = make_folds(Target.of(["a", "a", "b", "b", "b"]), same=np.array([0, 0, 2, 3, 4]), random_state=0)
    assert all({0, 1} <= set(fold.train) for fold in alone)
