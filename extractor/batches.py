"""Costs of prepared items, sorted -> the run of them that makes the next batch."""

from collections.abc import Sequence
from typing import NamedTuple


class Budget(NamedTuple):
    """What one forward may take.

    Parameters
    ----------
    max_size : int
        Items.
    max_cost : int
        Items times the cost of the costliest: tokens or samples, with their padding.
    max_padding : float
        Share of that which may be padding, in [0, 1).
    """

    max_size: int
    max_cost: int
    max_padding: float

    def allows(self, size: int, cost: int, costliest: int) -> bool:
        """Tell whether a batch of so many items, that cost so much in all, is within the budget."""
        padded = size * costliest
        return size <= self.max_size and padded <= self.max_cost and padded - cost <= self.max_padding * padded


def run_around(costs: Sequence[int], first: int, budget: Budget) -> tuple[int, int]:
    """Return the bounds (start, end) of a run that holds `first` and, within the budget, those nearest to it in cost.

    So the item that has waited longest is always in the next batch, whatever its length, and none starves.

    Parameters
    ----------
    costs : sequence of int
        Ascending.
    first : int
        Position of the item that must be in the batch.
    budget : Budget
    """
    start, end, total = first, first + 1, costs[first]
    while True:
        sides = []
        if start > 0:
            sides.append((costs[end - 1], total + costs[start - 1], start - 1, end))
        if end < len(costs):
            sides.append((costs[end], total + costs[end], start, end + 1))
        allowed = [side for side in sides if budget.allows(side[3] - side[2], side[1], side[0])]
        if not allowed:
            return start, end
        size = end - start + 1
        _, total, start, end = min(allowed, key=lambda side: size * side[0] - side[1])  # least padding
