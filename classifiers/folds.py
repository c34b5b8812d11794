"""Targets, and groups where there are any -> folds: what is learnt from, and what is held out."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.head import MULTI, SINGLE
from classifiers.target import Target


class Fold(NamedTuple):
    """Positions of the examples to learn from, and of those that are held out; int64."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def make_folds(
    target: Target,
    *,
    cv: int = 5,
    groups: ArrayLike | None = None,
    same: NDArray[np.int64] | None = None,
    random_state: int | None = None,
) -> tuple[Fold, ...]:
    """Deal examples to folds so that each has its share of every class, or of every set of labels.

    The only example of a class is learnt from in every fold and held out in none (with groups: it is left out where
    its group is held out). A class with fewer examples than folds is held out in as many folds as it has examples.

    Parameters
    ----------
    target : Target
    cv : int
        Folds, at least 2; fewer are made where there are fewer examples or groups.
    groups : array-like of shape (n,), optional
        Examples of one group (one patient, one recording) are held out together.
    same : ndarray of shape (n,), int64, optional
        Position of the first example that is just like each (`first_alike`): copies count as one, and are held out
        together, for a copy that was learnt from is no question. Not looked at where there are groups.
    random_state : int or None

    Returns
    -------
    folds : tuple of Fold
        Empty where nothing can be held out: no class has two examples that differ.

    Raises
    ------
    InvalidOption
        Fewer than 2 folds, or a group for other than each example.
    TooFewExamples
        All examples are of one group.
    """
    if cv < 2:
        raise InvalidOption(f"cv is {cv!r}; take at least 2 folds")
    if groups is None:
        firsts, own = np.unique(np.arange(len(target.values)) if same is None else same, return_inverse=True)
        dealt = _dealt(replace(target, values=target.values[firsts]), cv, random_state)[own]
    else:
        dealt = _grouped(target, cv, np.asarray(groups), random_state)
    lonely = target.counts[target.values] == 1 if target.kind == SINGLE else np.zeros(len(dealt), bool)
    folds = []
    for number in range(int(dealt.max(initial=-1)) + 1):
        held_out = dealt == number
        fold = Fold(np.flatnonzero(~held_out), np.flatnonzero(held_out & ~lonely))
        if len(fold.train) and len(fold.test):
            folds.append(fold)
    return tuple(folds)


def _dealt(target: Target, cv: int, random_state: int | None) -> NDArray[np.int64]:
    """Return each example's fold, (n,), -1 for none: sorted by class, they are dealt like cards."""
    order = np.random.default_rng(random_state).permutation(len(target.values))
    if target.kind == SINGLE:
        order = order[target.counts[target.values[order]] > 1]
    order = order[np.argsort(_strata(target)[order], kind="stable")]
    fold = np.full(len(target.values), -1)
    if len(order) > 1:
        fold[order] = np.arange(len(order)) % min(cv, len(order))
    return fold


def _grouped(target: Target, cv: int, groups: NDArray[Any], random_state: int | None) -> NDArray[np.int64]:
    """Return each example's fold, (n,), no group in two of them."""
    if groups.shape != (len(target.values),):
        raise InvalidOption(
            f"groups are {groups.shape}, and must name a group for each of {len(target.values)} examples"
        )
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise TooFewExamples("all examples are of 1 group, and nothing can be held out; leave groups away, or add some")
    n_folds = min(cv, n_groups)
    strata = _common(_strata(target), n_folds) if target.kind == SINGLE else None
    split = GroupKFold if strata is None else StratifiedGroupKFold
    fold = np.full(len(groups), -1)
    parts = split(n_folds, shuffle=True, random_state=random_state).split(groups, strata, groups)
    for number, (_, test) in enumerate(parts):
        fold[test] = number
    return fold


def _strata(target: Target) -> NDArray[np.int64]:
    """Return what is to be spread evenly, (n,): classes, or sets of labels; nothing for a regression."""
    if target.kind == SINGLE:
        return target.values
    if target.kind == MULTI:
        own: NDArray[np.int64] = np.unique(target.values, axis=0, return_inverse=True)[1].ravel()
        return own
    return np.zeros(len(target.values), np.int64)


def _common(strata: NDArray[np.int64], least: int) -> NDArray[np.int64] | None:
    """Return strata with the rare ones put together, or None where there are none: scikit-learn warns of rare ones."""
    counts = np.bincount(strata)
    merged = np.where(counts[strata] < least, -1, strata)
    if 0 < (merged == -1).sum() < least:
        merged[merged == -1] = counts.argmax()
    return merged if len(np.unique(merged)) > 1 else None
