"""Held-out scores -> the threshold below which a head says that it does not know."""

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import InvalidOption
from classifiers.head import CONFIDENCE, ENERGY, REGRESSION, Head, Rejection

QUANTILE, VALIDATION, NONE = "quantile", "validation", "none"
RULES = (QUANTILE, ENERGY, VALIDATION, NONE)


def check_rule(rule: str | None, rate: float, kind: str, *, out_of_scope: bool) -> str:
    """Return the rule that is meant; of a regression none.

    Raises
    ------
    InvalidOption
        An unknown rule, a rate that is no share, or `validation` without items that are out of scope.
    """
    name = rule or NONE
    if name not in RULES:
        raise InvalidOption(f"reject is {rule!r}, not one of {', '.join(RULES)}")
    if not 0 < rate < 1:
        raise InvalidOption(f"reject_rate is {rate!r}; take a share of the known items, above 0 and below 1")
    if name == VALIDATION and not out_of_scope:
        raise InvalidOption(
            "reject is 'validation', which needs out_of_scope embeddings; give some, or take 'quantile'"
        )
    return NONE if kind == REGRESSION else name


def by_quantile(known: NDArray[np.float64], score: str, rate: float) -> Rejection | None:
    """Reject what is known less well than a share of held-out items; None where they are too few to tell.

    With a rate of 0.15 of cross-validated confidence a frozen MiniLM did better than ADB (Zhang et al., AAAI 2021).

    Parameters
    ----------
    known : ndarray of shape (n,), float64
        Confidence or energy of held-out items.
    score : {'confidence', 'energy'}
    rate : float
    """
    if len(known) * rate < 1:
        return None
    return Rejection(score, float(np.quantile(known, rate)), f"{rate:.3g} quantile of held-out {score}")


def by_validation(
    head: Head, scores: NDArray[np.float64], right: NDArray[np.bool_], foreign: NDArray[np.float64]
) -> Rejection:
    """Take the score and threshold with the best total accuracy: *unknown* is one more class.

    So Larson et al. (EMNLP 2019) choose it on CLINC150. Items out of scope are few in a validation set, and the best
    threshold is a matter of luck among many that do about as well; of those that are not worse by more than one
    standard error of the (paired) difference, the highest is taken (the rule of Breiman et al., 1984, for trees).

    Parameters
    ----------
    head : Head
        Its calibration makes confidences of scores.
    scores : ndarray of shape (n, n_classes), float64
        Of held-out items of the head's classes.
    right : ndarray of shape (n,), bool
        Whether the head's prediction for them is right.
    foreign : ndarray of shape (n_foreign, n_classes), float64
        Scores of items of no class.
    """
    best = max(
        (_best(head.knowing(scores, by), right, head.knowing(foreign, by), by) for by in (CONFIDENCE, ENERGY)),
        key=lambda found: found[0],
    )
    accuracy, score, threshold = best
    rule = f"total accuracy on validation, {accuracy:.4f}, of {score} with {len(foreign)} items out of scope"
    return Rejection(score, threshold, rule)


def _best(
    known: NDArray[np.float64], right: NDArray[np.bool_], foreign: NDArray[np.float64], score: str
) -> tuple[float, str, float]:
    """Return the best total accuracy, score and threshold, which stands in the middle between two items."""
    both = np.concatenate([known, foreign])
    order = np.argsort(both, kind="stable")
    # What is gained by rejecting an item: +1 for one of no class, -1 for one that is predicted rightly.
    gain = np.concatenate([-right.astype(np.int64), np.ones(len(foreign), np.int64)])[order]
    total = int(right.sum()) + np.concatenate([[0], np.cumsum(gain)])
    changed = np.concatenate([[0], np.cumsum(np.abs(gain))])
    values = both[order]
    edges = np.concatenate(
        [[np.nextafter(values[0], -np.inf)], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]]
    )
    # Of equal items either all are rejected or none.
    possible = np.concatenate([[True], values[:-1] < values[1:], [True]])
    best = int(np.argmax(np.where(possible, total, -1)))
    # Where `changed` items are judged otherwise, at random, the difference has a variance of as many.
    close = possible & ((total[best] - total) ** 2 <= changed - changed[best])
    at = int(np.flatnonzero(close)[-1])
    return float(total[best] / len(both)), score, float(edges[at])
